#include "common/cleanup.h"
#include "common/text.h"
#include "worker/client-id.h"
#include "worker/clock.h"
#include "worker/deadline.h"
#include "worker/document.h"
#include "worker/enrollment.h"
#include "worker/report.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Bytes. They must fit into a checkpoint and into identity.json together with key and token, and indented. A template,
 * with its device configuration, has at most 10240 characters (API reference, templateBody). */
#define HELD_CERTIFICATE_MAX (16 * 1024)
#define DEVICE_CONFIGURATION_MAX (12 * 1024)
/* Longer ones are the daemon's: a worker that only waits holds memory for nothing. */
#define PAUSE_MAX_MS 60000

static void cleanup_key(struct key **key) {
    key_free(*key);
}

static struct enrollment *enrollment_of(const struct enrolld_host *host) {
    return (struct enrollment *)host;
}

static void host_step(const struct enrolld_host *host, const char *step) {
    struct enrollment *enrollment = enrollment_of(host);
    enrollment->step = step;
    if (enrollment->mqtt != NULL)
        mqtt_set_step(enrollment->mqtt, step);
    report_step(step);
}

/* Hides each piece of the secret in the text: of 16 characters or more, or the whole of a shorter one. */
static void mask(char *text, const char *secret) {
    size_t length = strlen(secret), least = length < 16 ? length : 16;
    for (char *at = text; length >= 4 && *at != '\0'; at++) {
        size_t longest = 0;
        for (size_t i = 0; i + least <= length; i++) {
            size_t same = 0;
            while (secret[i + same] != '\0' && at[same] == secret[i + same])
                same++;
            longest = same > longest ? same : longest;
        }
        if (longest >= least) {
            memset(at, '*', longest);
            at += longest - 1;
        }
    }
}

/* The cloud's own words may repeat what it was sent. */
static void mask_secrets(const struct enrollment *enrollment, char *text) {
    const char *name, *value;
    size_t position = 0;
    if (enrollment->held.secret != NULL)
        mask(text, enrollment->held.secret);
    while (options_next(enrollment->options, "", &position, &name, &value))
        if (options_is_secret(enrollment->options, name))
            mask(text, value);
}

static enum failure_class class_of(enum enrolld_class class) {
    switch (class) {
    case ENROLLD_CLASS_NETWORK:
        return FAILURE_NETWORK;
    case ENROLLD_CLASS_CLOUD_BUSY:
        return FAILURE_CLOUD_BUSY;
    case ENROLLD_CLASS_NOT_YET:
        return FAILURE_NOT_YET;
    case ENROLLD_CLASS_DENIED:
        return FAILURE_DENIED;
    case ENROLLD_CLASS_INVALID:
        return FAILURE_INVALID;
    case ENROLLD_CLASS_INTERNAL:
        return FAILURE_INTERNAL;
    }
    return FAILURE_INTERNAL;
}

/* Of what prove_is_worth_waiting() lets through. */
static enum enrolld_class public_class_of(enum failure_class class) {
    for (int public = ENROLLD_CLASS_NETWORK; public <= ENROLLD_CLASS_INTERNAL; public ++)
        if (class_of((enum enrolld_class) public) == class)
            return (enum enrolld_class) public;
    return ENROLLD_CLASS_INTERNAL;
}

__attribute__((format(printf, 3, 4))) static int host_fail(const struct enrolld_host *host, enum enrolld_class class,
                                                           const char *format, ...) {
    struct enrollment *enrollment = enrollment_of(host);
    char text[FAILURE_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    mask_secrets(enrollment, text);
    failure_record(enrollment->failure, class_of(class), enrollment->step, "%s", text);
    enrollment->failure->retry_after_s = enrollment->retry_after_s;
    return -1;
}

static void host_pause(const struct enrolld_host *host, uint32_t milliseconds, const char *why) {
    struct failure reason;
    failure_record(&reason, FAILURE_NOT_YET, enrollment_of(host)->step, "%s", why);
    mask_secrets(enrollment_of(host), reason.message);
    report_refusal(&reason);
    poll(NULL, 0, milliseconds < PAUSE_MAX_MS ? (int)milliseconds : PAUSE_MAX_MS);
}

static const char *host_option(const struct enrolld_host *host, const char *name) {
    return options_get(enrollment_of(host)->options, name);
}

static uint64_t host_span_ms(const struct enrolld_host *host, const char *name) {
    return options_get_span_ms(enrollment_of(host)->options, name);
}

static bool host_next_option(const struct enrolld_host *host, const char *prefix, size_t *position, const char **name,
                             const char **value) {
    return options_next(enrollment_of(host)->options, prefix, position, name, value);
}

static const char *host_request_pem(const struct enrolld_host *host) {
    return enrollment_of(host)->request_pem;
}

void host_disconnect(struct enrollment *enrollment) {
    mqtt_reply_clear(&enrollment->reply);
    https_response_clear(&enrollment->https_response);
    enrollment->mqtt = mqtt_free(enrollment->mqtt);
    enrollment->client_key = key_free(enrollment->client_key);
}

static int64_t boottime_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the client id may be used again, and notes that it is used now. */
static struct enrollment_connect *keep_distance(struct enrollment *enrollment, const char *client_id) {
    const size_t count = sizeof enrollment->connects / sizeof *enrollment->connects;
    for (size_t i = 0; i < count; i++) {
        int64_t left = enrollment->connects[i].boottime_ms + HOST_CONNECT_DISTANCE_MS - boottime_ms();
        if (strcmp(enrollment->connects[i].client_id, client_id) == 0 && left > 0)
            poll(NULL, 0, left < HOST_CONNECT_DISTANCE_MS ? (int)left : HOST_CONNECT_DISTANCE_MS);
    }
    struct enrollment_connect *connect = &enrollment->connects[enrollment->connect_count++ % count];
    snprintf(connect->client_id, sizeof connect->client_id, "%s", client_id);
    return connect;
}

int host_connect(struct enrollment *enrollment, const char *client_id, const char *certificate_pem, struct key *key,
                 const char *step, struct failure *failure) {
    const struct settings *settings = enrollment->settings;
    const struct mqtt_settings connection = {
        .endpoint = settings->endpoint,
        .port = settings->port,
        .proxy = settings->proxy[0] != '\0' ? settings->proxy : NULL,
        .client_id = client_id,
        .tls =
            {
                .root_ca_pem = enrollment->root_ca_pem,
                .root_ca_size = enrollment->root_ca_size,
                .certificate_pem = certificate_pem,
                .certificate_size = strlen(certificate_pem),
                .key = key,
                .minimum = settings->minimum_tls == SETTING_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
                .clock_is_doubtful = enrollment->clock_is_doubtful,
            },
        .step = step,
        .connect_timeout_s = CONNECT_TIMEOUT_S,
    };
    struct enrollment_connect *connect = keep_distance(enrollment, client_id);
    /* The signature inside the handshake may wait for the TPM, where no poll(2) deadline reaches. */
    deadline_start(CONNECT_TIMEOUT_S + 60, FAILURE_TPM, step, "the TPM's signature for the TLS handshake");
    int r = mqtt_connect(&connection, &enrollment->mqtt, failure);
    deadline_stop();
    connect->boottime_ms = boottime_ms(); /* CONNECT came at the end of it, behind a handshake that may be slow */
    return r;
}

void host_explain_denial(const char *client_id, struct failure *failure) {
    if (failure->class == FAILURE_DENIED)
        failure_append(
            failure, "; client id %s: is the certificate ACTIVE, and does its policy allow iot:Connect for client/%s?",
            client_id, client_id);
}

__attribute__((format(printf, 2, 3))) static int fail_unusable(struct enrollment *enrollment, const char *format, ...) {
    char text[FAILURE_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    failure_record(enrollment->failure, FAILURE_INVALID, enrollment->step, "%s", text);
    enrollment->failure->unusable = true;
    return -1;
}

int host_load_client_key(struct enrollment *enrollment, const char *certificate_pem, const char *private_key_pem,
                         struct key **ret) {
    const struct key_settings software = {.backend = KEY_BACKEND_FILE};
    CLEANUP(cleanup_key) struct key *key = NULL;
    struct certificate certificate;
    struct failure reason;
    size_t public_size = 0;
    bool lost;
    if (key_load(&software, private_key_pem, strlen(private_key_pem), &key, &lost, &reason) < 0)
        return fail_unusable(enrollment, "the private key of this connection cannot be used: %s", reason.message);
    if (certificate_parse(certificate_pem, strlen(certificate_pem), enrollment->step, &certificate, &reason) < 0)
        return fail_unusable(enrollment, "%s", reason.message);
    const uint8_t *public_key = key_public_der(key, &public_size);
    if (!certificate_has_key(&certificate, public_key, public_size))
        return fail_unusable(enrollment, "the private key of this connection does not belong to its certificate");
    *ret = TAKE_POINTER(key);
    return 0;
}

/* The cloud's words need not tell an expired claim from one that was taken away. */
static bool explain_expiry(struct enrollment *enrollment, const char *certificate_pem) {
    struct certificate certificate;
    struct failure ignored;
    char date[CLOCK_TEXT_SIZE];
    if (enrollment->failure->class != FAILURE_DENIED || enrollment->clock_is_doubtful ||
        certificate_parse(certificate_pem, strlen(certificate_pem), enrollment->step, &certificate, &ignored) < 0 ||
        (int64_t)time(NULL) <= certificate.not_after)
        return false;
    clock_print(certificate.not_after, date);
    failure_append(enrollment->failure,
                   "; the certificate of this connection expired on %s: put a new one in its place", date);
    return true;
}

static int host_plugin_connect(const struct enrolld_host *host, const char *client_id, const char *certificate_pem,
                               const char *private_key_pem) {
    struct enrollment *enrollment = enrollment_of(host);
    char default_id[SERIAL_MAX + 16];
    host_disconnect(enrollment);
    snprintf(default_id, sizeof default_id, "%s-enroll", enrollment->serial_number);
    if (host_load_client_key(enrollment, certificate_pem, private_key_pem, &enrollment->client_key) < 0)
        return -1;
    client_id = client_id != NULL ? client_id : default_id;
    int r = host_connect(enrollment, client_id, certificate_pem, enrollment->client_key, enrollment->step,
                         enrollment->failure);
    if (r < 0 && !explain_expiry(enrollment, certificate_pem))
        host_explain_denial(client_id, enrollment->failure);
    return r;
}

static int host_subscribe(const struct enrolld_host *host, const char *const *filters, size_t count) {
    struct enrollment *enrollment = enrollment_of(host);
    if (enrollment->mqtt == NULL)
        return host_fail(host, ENROLLD_CLASS_INTERNAL, "the plugin subscribes without a connection");
    int r = mqtt_subscribe(enrollment->mqtt, filters, count, SUBSCRIBE_TIMEOUT_S, enrollment->failure);
    bool renews = enrollment->current != NULL;
    if (r == 0 || enrollment->failure->class != FAILURE_DENIED)
        return r;
    failure_append(enrollment->failure, "; does the %spolicy allow iot:Subscribe to this topicfilter?",
                   renews ? "device's " : "");
    if (strncmp(filters[0], "$aws/", 5) == 0) /* fleet provisioning */
        failure_append(enrollment->failure, " create/* and create-from-csr/* do not match each other; is %s= right?",
                       renews ? "RenewTemplate" : "Template");
    return r;
}

static int host_exchange(const struct enrolld_host *host, const char *topic, const char *payload, size_t size,
                         struct enrolld_reply *reply) {
    struct enrollment *enrollment = enrollment_of(host);
    mqtt_reply_clear(&enrollment->reply);
    if (enrollment->mqtt == NULL)
        return host_fail(host, ENROLLD_CLASS_INTERNAL, "the plugin makes a request without a connection");
    if (mqtt_request(enrollment->mqtt, topic, NULL, payload, size, EXCHANGE_TIMEOUT_S, &enrollment->reply,
                     enrollment->failure) < 0)
        return -1;
    *reply = (struct enrolld_reply){.accepted = enrollment->reply.outcome == MQTT_ACCEPTED,
                                    .payload = enrollment->reply.payload,
                                    .size = enrollment->reply.size};
    return 0;
}

static void host_plugin_disconnect(const struct enrolld_host *host) {
    host_disconnect(enrollment_of(host));
}

static int host_take_key(const struct enrolld_host *host, const char *private_key_pem) {
    struct enrollment *enrollment = enrollment_of(host);
    const struct key_settings settings = enrollment_key_settings(enrollment);
    struct key *key = NULL;
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, enrollment->step, "importing the device key");
    int r = key_import(&settings, private_key_pem, strlen(private_key_pem), &key, enrollment->failure);
    deadline_stop();
    if (r < 0)
        return -1;
    enrollment->had_key = true;
    return enrollment_take_key(enrollment, key, "cloud");
}

/* The texts may be those of the certificate that is dropped. */
static int hold_certificate(struct enrollment *enrollment, const char *certificate_pem, const char *secret) {
    char *new_pem = strdup(certificate_pem), *new_secret = secret != NULL ? strdup(secret) : NULL;
    if (new_pem == NULL || (secret != NULL && new_secret == NULL)) {
        free(new_pem);
        text_free_secret(new_secret);
        return -1;
    }
    checkpoint_drop_certificate(&enrollment->held);
    enrollment->held.certificate_pem = new_pem;
    enrollment->held.secret = new_secret;
    enrollment->was_sent = enrollment->wants_another = enrollment->accepted = false;
    return 0;
}

static int host_take_certificate(const struct enrolld_host *host, const char *certificate_pem,
                                 const char *certificate_id, const char *secret) {
    struct enrollment *enrollment = enrollment_of(host);
    struct certificate certificate;
    size_t size = strlen(certificate_pem), key_size = 0;
    if (certificate_parse(certificate_pem, size, enrollment->step, &certificate, enrollment->failure) < 0)
        return -1;
    const uint8_t *public_key = key_public_der(enrollment->key, &key_size);
    if (!certificate_has_key(&certificate, public_key, key_size))
        return host_fail(host, ENROLLD_CLASS_INVALID,
                         "the certificate %.16s... was issued for another key than this device's", certificate.id);
    if (enrollment->current != NULL && strcmp(certificate.id, enrollment->current->certificate.id) == 0)
        return host_fail(host, ENROLLD_CLASS_INVALID, "the certificate is the one in use");
    if (certificate_id != NULL && strcmp(certificate.id, certificate_id) != 0)
        return host_fail(host, ENROLLD_CLASS_INVALID, "the certificate's id is %.16s..., but the cloud calls it %.64s",
                         certificate.id, certificate_id);
    if (size > HELD_CERTIFICATE_MAX)
        return host_fail(host, ENROLLD_CLASS_INVALID, "the certificate has %zu bytes, more than %d", size,
                         HELD_CERTIFICATE_MAX);
    if (hold_certificate(enrollment, certificate_pem, secret) < 0)
        return host_fail(host, ENROLLD_CLASS_INTERNAL, "out of memory");
    enrollment->certificate = certificate;
    if (enrollment_save(enrollment, CHECKPOINT_ISSUED) < 0)
        return -1;
    enrollment->must_end = enrollment->had_key && report_has_channel();
    return enrollment->must_end ? -1 : 0;
}

static const char *host_certificate_pem(const struct enrolld_host *host) {
    const struct enrollment *enrollment = enrollment_of(host);
    return enrollment->wants_another ? NULL : enrollment->held.certificate_pem;
}

static const char *host_certificate_id(const struct enrolld_host *host) {
    return host_certificate_pem(host) != NULL ? enrollment_of(host)->certificate.id : NULL;
}

static const char *host_certificate_common_name(const struct enrolld_host *host) {
    const char *name = enrollment_of(host)->certificate.common_name;
    return host_certificate_pem(host) != NULL && name[0] != '\0' ? name : NULL;
}

static int host_try_identity(const struct enrolld_host *host, struct enrolld_refusal *refusal) {
    struct enrollment *enrollment = enrollment_of(host);
    if (host_certificate_pem(host) == NULL || enrollment->key == NULL)
        return host_fail(host, ENROLLD_CLASS_INTERNAL, "the plugin tries an identity that it does not have");
    int r = prove_once(enrollment);
    enrollment->accepted = r == 0;
    if (r == 0 || !prove_is_worth_waiting(enrollment->failure->class))
        return r;
    enrollment->refusal = *enrollment->failure;
    memset(enrollment->failure, 0, sizeof *enrollment->failure);
    *refusal = (struct enrolld_refusal){.reason = public_class_of(enrollment->refusal.class),
                                        .reached = enrollment->refusal.reached,
                                        .message = enrollment->refusal.message};
    return 1;
}

static const char *host_held_secret(const struct enrolld_host *host) {
    return host_certificate_pem(host) != NULL ? enrollment_of(host)->held.secret : NULL;
}

static int host_registration(const struct enrolld_host *host, enum enrolld_registration registration) {
    struct enrollment *enrollment = enrollment_of(host);
    if (enrollment->held.secret == NULL || enrollment->wants_another)
        return host_fail(host, ENROLLD_CLASS_INTERNAL, "the plugin registers a certificate that it does not hold");
    switch (registration) {
    case ENROLLD_REGISTRATION_ASKED:
        return enrollment_save(enrollment, CHECKPOINT_SENT);
    case ENROLLD_REGISTRATION_REFUSED: /* this time: what an earlier request did stays unknown */
        return enrollment_save(enrollment, enrollment->was_sent ? CHECKPOINT_SENT : CHECKPOINT_ISSUED);
    case ENROLLD_REGISTRATION_SPENT:
        checkpoint_drop_secret(&enrollment->held);
        return enrollment_save(enrollment, CHECKPOINT_SPENT);
    }
    return host_fail(host, ENROLLD_CLASS_INTERNAL, "the plugin says something unknown of the registration");
}

static bool is_usable(const char *device_configuration) {
    size_t size = strlen(device_configuration);
    AUTO_DOCUMENT json_object *object =
        size <= DEVICE_CONFIGURATION_MAX ? document_parse(device_configuration, size) : NULL;
    return object != NULL;
}

static int host_take_thing(const struct enrolld_host *host, const char *thing_name, const char *device_configuration) {
    struct enrollment *enrollment = enrollment_of(host);
    struct checkpoint *held = &enrollment->held;
    size_t length = strlen(thing_name);
    if (held->certificate_pem == NULL)
        return host_fail(host, ENROLLD_CLASS_INTERNAL, "the plugin has a thing but no certificate");
    if (length > 0 && !text_is_thing_name(thing_name))
        return host_fail(host, ENROLLD_CLASS_INVALID,
                         "the thing name \"%.140s\" is not one: 1 to 128 of a-z A-Z 0-9 : _ -", thing_name);
    /* json-c's own check takes overlong forms (RFC 3629, section 3). */
    if (device_configuration != NULL && !text_is_utf8(device_configuration, strlen(device_configuration)))
        return host_fail(host, ENROLLD_CLASS_INVALID, "the device configuration is not UTF-8");
    if (device_configuration != NULL && !is_usable(device_configuration)) {
        report_note(enrollment->step, "the device configuration is left out: it is no JSON object of at most 12 KiB");
        device_configuration = NULL;
    }
    if (length > 0) /* else what ThingName= says stays */
        memcpy(held->thing_name, thing_name, length + 1);
    free(held->device_configuration);
    held->device_configuration = device_configuration != NULL ? strdup(device_configuration) : NULL;
    held->has_thing = true;
    if (device_configuration != NULL && held->device_configuration == NULL)
        return host_fail(host, ENROLLD_CLASS_INTERNAL, "out of memory");
    checkpoint_drop_secret(held);
    if (enrollment_save(enrollment, CHECKPOINT_REGISTERED) < 0)
        return -1;
    return enrollment_has_other_thing(enrollment) ? enrollment_refuse_thing(enrollment) : 0;
}

static int host_connect_current(const struct enrolld_host *host) {
    struct enrollment *enrollment = enrollment_of(host);
    struct current *current = enrollment->current;
    AUTO_FREE char *client_id = NULL;
    bool lost;
    host_disconnect(enrollment);
    if (current == NULL)
        return host_fail(host, ENROLLD_CLASS_INTERNAL, "the plugin connects with an identity that is not there yet");
    const char *common_name = client_id_common_name(&current->identity, &current->certificate);
    if (client_id_own(enrollment->settings, &current->identity, common_name, current->certificate.id, &client_id,
                      enrollment->failure) < 0)
        return -1;
    if (current->key == NULL && current_load_key(current, enrollment->settings, &lost, enrollment->failure) < 0)
        return -1;
    current_keep_distance(current);
    int r = host_connect(enrollment, client_id, current->certificate_pem, current->key, enrollment->step,
                         enrollment->failure);
    if (r < 0)
        host_explain_denial(client_id, enrollment->failure);
    return r;
}

void host_open(struct enrollment *enrollment) {
    const struct current *current = enrollment->current;
    if (current != NULL)
        enrollment->public_current = (struct enrolld_current){.size = sizeof(struct enrolld_current),
                                                              .method = current->identity.method,
                                                              .thing_name = current->identity.thing_name,
                                                              .certificate_id = current->certificate.id};
    enrollment->host = (struct enrolld_host){
        .size = sizeof(struct enrolld_host),
        .method = enrollment->method,
        .serial_number = enrollment->serial_number,
        .endpoint = enrollment->settings->endpoint,
        .waited_s = enrollment->host.waited_s,
        .step = host_step,
        .fail = host_fail,
        .pause = host_pause,
        .option = host_option,
        .span_ms = host_span_ms,
        .next_option = host_next_option,
        .request_pem = host_request_pem,
        .connect = host_plugin_connect,
        .subscribe = host_subscribe,
        .exchange = host_exchange,
        .disconnect = host_plugin_disconnect,
        .https = host_https,
        .take_key = host_take_key,
        .certificate_pem = host_certificate_pem,
        .certificate_id = host_certificate_id,
        .certificate_common_name = host_certificate_common_name,
        .held_secret = host_held_secret,
        .take_certificate = host_take_certificate,
        .registration = host_registration,
        .take_thing = host_take_thing,
        .try_identity = host_try_identity,
        .current = current != NULL ? &enrollment->public_current : NULL,
        .connect_current = host_connect_current,
    };
}
