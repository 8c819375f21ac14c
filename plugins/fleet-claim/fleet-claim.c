/* Fleet provisioning by claim: connect with the certificate that the whole batch shares, have the device's own request
 * signed (CreateCertificateFromCsr) or take key and certificate from the cloud (CreateKeysAndCertificate), register the
 * thing (RegisterThing). AWS IoT Developer Guide, "Provisioning devices that don't have device certificates using fleet
 * provisioning". A renewal is the same exchange under the device's own certificate, with a template of its own. */
#include "common/cleanup.h"
#include "messages.h"

#include <enrolld/plugin.h>

#include <stdio.h>
#include <string.h>

#define CREATE_FROM_CSR_TOPIC "$aws/certificates/create-from-csr/json"
#define CREATE_KEYS_TOPIC "$aws/certificates/create/json"
#define TEMPLATE_NAME_MAX 36 /* API reference, TemplateName */
#define TOPIC_MAX 128
#define PARAMETERS_MAX 32

static const struct enrolld_option options[] = {
    {"Template", ENROLLD_OPTION_TEXT, true, "name of the provisioning template"},
    {"Certificate", ENROLLD_OPTION_FILE, true, "the claim certificate in PEM: /PATH or credential:ID"},
    {"PrivateKey", ENROLLD_OPTION_FILE, true, "its private key in PEM: /PATH or credential:ID"},
    {"KeySource", ENROLLD_OPTION_TEXT, false,
     "csr: the key is made here; cloud: the cloud makes it, and it is imported", "csr cloud", "csr", ENROLLD_USE_BOTH},
    {"ClientId", ENROLLD_OPTION_TEXT, false, "MQTT client id of the claim connection", NULL, "%s-enroll"},
    {"Parameter.", ENROLLD_OPTION_PREFIX, false,
     "a parameter of the template: text with specifiers, file:/PATH or credential:ID"},
    {"RenewTemplate", ENROLLD_OPTION_TEXT, true, "name of the provisioning template that renews", NULL, NULL,
     ENROLLD_USE_RENEW},
    {"RenewParameter.", ENROLLD_OPTION_PREFIX, false,
     "a parameter of that template, with %o for the id of the certificate in use and %t for the thing's name", NULL,
     NULL, ENROLLD_USE_RENEW},
    {NULL, ENROLLD_OPTION_TEXT, false, NULL},
};

/* What a rejection means for the next attempt; the documentation lists status codes but no error codes. */
static enum enrolld_class classify(const struct rejection *rejection) {
    int code = rejection->status_code;
    if (code == 401 || code == 403)
        return ENROLLD_CLASS_DENIED;
    if (code == 429 || code >= 500)
        return ENROLLD_CLASS_CLOUD_BUSY;
    return code >= 400 ? ENROLLD_CLASS_INVALID : ENROLLD_CLASS_CLOUD_BUSY;
}

static bool renews(const struct enrolld_host *host) {
    return host->current != NULL;
}

/* What the hook compares with the thing that the certificate in use hangs on. */
static bool tells_thing(const struct enrolld_host *host) {
    const char *name, *value;
    size_t position = 0;
    while (host->next_option(host, "RenewParameter.", &position, &name, &value))
        if (strcmp(name, "ThingName") == 0)
            return true;
    return false;
}

static const char *advice(const struct enrolld_host *host, const struct rejection *rejection) {
    switch (rejection->status_code) {
    case 403:
        if (!renews(host))
            return "; the hook's log says why: with that of etc/aws perhaps a certificate of the thing is still "
                   "ACTIVE. Set it INACTIVE, or allow the thing by its attribute reprovision (etc/aws/README.md, "
                   "A gateway that comes again)";
        if (!tells_thing(host))
            return "; the hook is told nothing but RenewParameter.NAME=, and RenewParameter.ThingName=%t is not set";
        return "; the hook's log says why";
    case 404:
        return "; is there an enabled template of this name in this account and region?";
    default:
        return "";
    }
}

static int fail_rejected(const struct enrolld_host *host, const char *operation, const struct rejection *rejection) {
    if (rejection->status_code == 0 && rejection->error_code[0] == '\0')
        return host->fail(host, ENROLLD_CLASS_CLOUD_BUSY, "%s was rejected without a reason", operation);
    return host->fail(host, classify(rejection), "%s was rejected: %d %s: %s%s", operation, rejection->status_code,
                      rejection->error_code, rejection->error_message, advice(host, rejection));
}

static int make_topic(const struct enrolld_host *host, char topic[TOPIC_MAX]) {
    const char *key = renews(host) ? "RenewTemplate" : "Template", *name = host->option(host, key);
    size_t length = strlen(name);
    if (length > TEMPLATE_NAME_MAX ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != length)
        return host->fail(host, ENROLLD_CLASS_INVALID,
                          "%s=%.80s is no template name: up to 36 of the characters a-z A-Z 0-9 _ -", key, name);
    snprintf(topic, TOPIC_MAX, "$aws/provisioning-templates/%s/provision/json", name);
    return 0;
}

static bool comes_from_cloud(const struct enrolld_host *host) {
    return strcmp(host->option(host, "KeySource"), "cloud") == 0;
}

static const char *create_topic(const struct enrolld_host *host) {
    return comes_from_cloud(host) ? CREATE_KEYS_TOPIC : CREATE_FROM_CSR_TOPIC;
}

/* All four reply topics in one SUBSCRIBE saves a round trip; nothing is published before they stand. */
static int subscribe(const struct enrolld_host *host, const char *provision_topic) {
    char filter[4][TOPIC_MAX + 16];
    const char *filters[] = {filter[0], filter[1], filter[2], filter[3]};
    for (int i = 0; i < 4; i++)
        snprintf(filter[i], sizeof filter[i], "%s/%s", i < 2 ? create_topic(host) : provision_topic,
                 i % 2 == 0 ? "accepted" : "rejected");
    return host->subscribe(host, filters, sizeof filters / sizeof *filters);
}

/* The private key of the reply becomes the device's, and is wiped here. */
static int take_created(const struct enrolld_host *host, struct created_certificate *created) {
    if (comes_from_cloud(host)) {
        if (created->private_key_pem == NULL)
            return host->fail(host, ENROLLD_CLASS_CLOUD_BUSY,
                              "the reply to CreateKeysAndCertificate has no private key");
        if (host->take_key(host, created->private_key_pem) < 0)
            return -1;
        explicit_bzero(created->private_key_pem, strlen(created->private_key_pem));
    }
    return host->take_certificate(host, created->certificate_pem, created->certificate_id, created->ownership_token);
}

static int create_certificate(const struct enrolld_host *host) {
    struct created_certificate created = {0};
    struct rejection rejection;
    struct enrolld_reply reply = {0};
    const char *operation = comes_from_cloud(host) ? "CreateKeysAndCertificate" : "CreateCertificateFromCsr";
    host->step(host, ENROLLD_STEP_CERTIFICATE);
    AUTO_FREE char *request = comes_from_cloud(host) ? strdup("{}") : create_from_csr_request(host->request_pem(host));
    if (request == NULL)
        return host->fail(host, ENROLLD_CLASS_INTERNAL, "out of memory");
    if (host->exchange(host, create_topic(host), request, strlen(request), &reply) < 0)
        return -1;
    if (!reply.accepted) {
        rejection_parse(reply.payload, reply.size, &rejection);
        return fail_rejected(host, operation, &rejection);
    }
    const char *wrong = created_certificate_parse(reply.payload, reply.size, &created);
    if (wrong != NULL)
        return host->fail(host, ENROLLD_CLASS_CLOUD_BUSY, "the reply to %s cannot be used: %s", operation, wrong);
    int r = take_created(host, &created);
    created_certificate_clear(&created);
    return r;
}

/* NULL after a failure. */
static char *make_register_request(const struct enrolld_host *host, const char *ownership_token) {
    struct parameter parameters[PARAMETERS_MAX + 1];
    const char *family = renews(host) ? "RenewParameter." : "Parameter.";
    size_t count = 0, position = 0;
    char *request = NULL;
    while (count <= PARAMETERS_MAX &&
           host->next_option(host, family, &position, &parameters[count].name, &parameters[count].value))
        count++;
    if (count > PARAMETERS_MAX)
        host->fail(host, ENROLLD_CLASS_INVALID, "there are more than %d keys %sNAME=", PARAMETERS_MAX, family);
    else if ((request = register_thing_request(ownership_token, parameters, count)) == NULL)
        host->fail(host, ENROLLD_CLASS_INTERNAL, "out of memory");
    return request;
}

/* A token error tells nothing of the certificate: it may be registered, by a request whose reply was lost. */
static int take_rejection(const struct enrolld_host *host, const struct enrolld_reply *reply) {
    struct rejection rejection;
    rejection_parse(reply->payload, reply->size, &rejection);
    bool spent = rejection.status_code == 400 && strstr(rejection.error_code, "OwnershipToken") != NULL;
    /* A server that fails in the middle may have done it all the same. */
    bool unknown = rejection.status_code == 0 || rejection.status_code >= 500;
    if (!unknown && host->registration(host, spent ? ENROLLD_REGISTRATION_SPENT : ENROLLD_REGISTRATION_REFUSED) < 0)
        return -1;
    return fail_rejected(host, "RegisterThing", &rejection);
}

static int register_thing(const struct enrolld_host *host, const char *topic) {
    struct enrolld_reply reply = {0};
    struct registered_thing registered = {0};
    host->step(host, ENROLLD_STEP_REGISTER);
    char *request = make_register_request(host, host->held_secret(host));
    if (request == NULL)
        return -1;
    int r = host->registration(host, ENROLLD_REGISTRATION_ASKED);
    if (r == 0)
        r = host->exchange(host, topic, request, strlen(request), &reply);
    explicit_bzero(request, strlen(request));
    free(request);
    if (r < 0)
        return -1;
    if (!reply.accepted)
        return take_rejection(host, &reply);
    const char *wrong = registered_thing_parse(reply.payload, reply.size, &registered);
    if (wrong != NULL)
        return host->fail(host, ENROLLD_CLASS_CLOUD_BUSY, "the reply to RegisterThing cannot be used: %s", wrong);
    r = host->take_thing(host, registered.thing_name, registered.device_configuration);
    registered_thing_clear(&registered);
    return r;
}

static int connect(const struct enrolld_host *host) {
    if (renews(host))
        return host->connect_current(host);
    return host->connect(host, host->option(host, "ClientId"), host->option(host, "Certificate"),
                         host->option(host, "PrivateKey"));
}

static int provision(const struct enrolld_host *host) {
    char topic[TOPIC_MAX];
    host->step(host, renews(host) ? ENROLLD_STEP_IDENTITY : ENROLLD_STEP_CLAIM);
    if (make_topic(host, topic) < 0 || connect(host) < 0 || subscribe(host, topic) < 0)
        return -1;
    if (host->held_secret(host) == NULL && create_certificate(host) < 0)
        return -1;
    if (register_thing(host, topic) < 0)
        return -1;
    host->disconnect(host);
    return 0;
}

static const struct enrolld_method methods[] = {
    {"fleet-claim", "fleet provisioning with a claim certificate that many devices share", options, false},
    {NULL, NULL, NULL, false},
};

const struct enrolld_plugin enrolld_plugin = {
    .abi = ENROLLD_PLUGIN_ABI,
    .size = sizeof(struct enrolld_plugin),
    .host_size = sizeof(struct enrolld_host),
    .method_size = sizeof(struct enrolld_method),
    .option_size = sizeof(struct enrolld_option),
    .methods = methods,
    .brings_key = comes_from_cloud,
    .enroll = provision,
    .renew = provision,
};
