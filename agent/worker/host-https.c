#include "common/cleanup.h"
#include "worker/enrollment.h"
#include "worker/https.h"

#include <string.h>

static void cleanup_key(struct key **key) {
    key_free(*key);
}

static struct https_settings settings_of(const struct enrollment *enrollment,
                                         const struct enrolld_https_request *request, struct key *key) {
    const struct settings *settings = enrollment->settings;
    bool own_anchors = request->root_ca_pem != NULL;
    return (struct https_settings){
        .proxy = settings->proxy[0] != '\0' ? settings->proxy : NULL,
        .tls =
            {
                .root_ca_pem = own_anchors ? request->root_ca_pem : enrollment->root_ca_pem,
                .root_ca_size = own_anchors ? strlen(request->root_ca_pem) : enrollment->root_ca_size,
                .anchors = own_anchors ? "the certificates that the method trusts" : NULL,
                .certificate_pem = request->certificate_pem,
                .certificate_size = request->certificate_pem != NULL ? strlen(request->certificate_pem) : 0,
                .key = key,
                .minimum = settings->minimum_tls == SETTING_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
                .clock_is_doubtful = enrollment->clock_is_doubtful,
            },
        .step = enrollment->step,
        .timeout_s = HTTPS_TIMEOUT_S,
    };
}

/* Of the first header of this interface: what comes behind these members is only read or written where the plugin's
 * size says that it is there. */
#define SIZE_UP_TO(object, member) (offsetof(object, member) + sizeof(((object *)NULL)->member))
#define REQUEST_SIZE_MIN SIZE_UP_TO(struct enrolld_https_request, private_key_pem)
#define RESPONSE_SIZE_MIN SIZE_UP_TO(struct enrolld_https_response, retry_after_s)

/* A size that is larger than what is known here says that something is wanted that nobody here can give. */
static bool sizes_are_known(const struct enrolld_https_request *request,
                            const struct enrolld_https_response *response) {
    return request->size >= REQUEST_SIZE_MIN && request->size <= sizeof *request &&
           response->size >= RESPONSE_SIZE_MIN && response->size <= sizeof *response;
}

int host_https(const struct enrolld_host *host, const struct enrolld_https_request *request,
               struct enrolld_https_response *response) {
    struct enrollment *enrollment = (struct enrollment *)host;
    CLEANUP(cleanup_key) struct key *key = NULL;
    https_response_clear(&enrollment->https_response);
    enrollment->retry_after_s = 0;
    if (!sizes_are_known(request, response))
        return host->fail(host, ENROLLD_CLASS_INTERNAL, "the plugin has not set the sizes of an HTTPS request");
    if ((request->certificate_pem == NULL) != (request->private_key_pem == NULL))
        return host->fail(host, ENROLLD_CLASS_INTERNAL, "the plugin has a client certificate or its key, not both");
    if (request->certificate_pem != NULL &&
        host_load_client_key(enrollment, request->certificate_pem, request->private_key_pem, &key) < 0)
        return -1;
    const struct https_settings settings = settings_of(enrollment, request, key);
    const struct https_request plain = {request->method, request->url, request->headers, request->body,
                                        request->body_size};
    struct https_response *taken = &enrollment->https_response;
    if (https_exchange(&settings, &plain, taken, enrollment->failure) < 0)
        return -1;
    enrollment->retry_after_s = taken->retry_after_s;
    const struct enrolld_https_response known = {.size = response->size,
                                                 .status = taken->status,
                                                 .content_type = taken->content_type,
                                                 .body = taken->body,
                                                 .body_size = taken->body_size,
                                                 .retry_after_s = taken->retry_after_s};
    memcpy(response, &known, response->size);
    return 0;
}
