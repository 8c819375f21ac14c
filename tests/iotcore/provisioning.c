#include "provisioning.h"

#include "common/cleanup.h"
#include "hook.h"
#include "json_read.h"
#include "template.h"

#include <openssl/rand.h>
#include <openssl/rsa.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* API reference, Parameters: the longest key and value. */
enum { PARAMETER_NAME_LIMIT = 2048, PARAMETER_VALUE_LIMIT = 4096 };

static inline void cleanup_certificate(X509 **certificate) {
    X509_free(*certificate);
}

static inline void cleanup_request(X509_REQ **request) {
    X509_REQ_free(*request);
}

static inline void cleanup_key(EVP_PKEY **key) {
    EVP_PKEY_free(*key);
}

static inline void cleanup_name(X509_NAME **name) {
    X509_NAME_free(*name);
}

void provisioning_reply_clear(struct provisioning_reply *reply) {
    json_object_put(reply->payload);
    free(reply->thing_name);
    *reply = (struct provisioning_reply){0};
}

struct json_object *provisioning_rejected(const struct rejection *rejection) {
    struct json_object *payload = json_object_new_object();
    json_object_object_add(payload, "statusCode", json_object_new_int(rejection->status_code));
    json_object_object_add(payload, "errorCode", json_object_new_string(rejection->error_code));
    json_object_object_add(payload, "errorMessage", json_object_new_string(rejection->message));
    return payload;
}

static int internal_error(struct rejection *rejection) {
    return rejection_set(rejection, 500, "InternalError", "The stand-in could not do its work");
}

/* Characters as in base64, so that nobody takes a token for anything but opaque text. */
static char *make_token(size_t size) {
    static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *token = malloc(size + 1);
    if (token == NULL || RAND_bytes((unsigned char *)token, (int)size) != 1) {
        free(token);
        return NULL;
    }
    for (size_t i = 0; i < size; i++)
        token[i] = characters[(unsigned char)token[i] % 64];
    token[size] = '\0';
    return token;
}

/* Registers the certificate as PENDING_ACTIVATION and adds it with its ownership token to the reply. */
static int hand_out(struct provisioning *provisioning, const struct registry_requester *requester, X509 *certificate,
                    struct provisioning_reply *reply) {
    AUTO_FREE char *pem = issuer_certificate_pem(certificate), *token = make_token(provisioning->options->token_size);
    if (pem == NULL || token == NULL || !issuer_certificate_id(certificate, reply->certificate_id))
        return internal_error(&reply->rejection);
    registry_certificate_add(provisioning->registry, reply->certificate_id, pem, requester);
    registry_token_add(provisioning->registry, token, reply->certificate_id, requester);
    json_object_object_add(reply->payload, "certificateId", json_object_new_string(reply->certificate_id));
    json_object_object_add(reply->payload, "certificatePem", json_object_new_string(pem));
    json_object_object_add(reply->payload, "certificateOwnershipToken", json_object_new_string(token));
    return 0;
}

static X509 *issue(const struct provisioning *provisioning, const X509_NAME *subject, EVP_PKEY *public_key) {
    const struct standin_options *options = provisioning->options;
    const struct issuer_terms terms = {
        .profile = options->private_issuer ? ISSUER_PRIVATE : ISSUER_AWS,
        .now = registry_now(provisioning->registry),
        .begin = options->issued_begin,
        .end = options->issued_end,
    };
    return issuer_sign(&provisioning->issuer, &terms, subject, public_key);
}

static int create_from_csr(struct provisioning *provisioning, const struct registry_requester *requester,
                           struct json_object *payload, struct provisioning_reply *reply) {
    const char *pem = json_text(payload, "certificateSigningRequest");
    if (pem == NULL)
        return rejection_set(&reply->rejection, 400, "InvalidPayload", "No certificateSigningRequest in the payload");
    __attribute__((cleanup(cleanup_request))) X509_REQ *request =
        issuer_read_request(pem, strlen(pem), &reply->rejection);
    if (request == NULL)
        return -1;
    __attribute__((cleanup(cleanup_certificate))) X509 *certificate =
        issue(provisioning, X509_REQ_get_subject_name(request), X509_REQ_get0_pubkey(request));
    return certificate != NULL ? hand_out(provisioning, requester, certificate, reply)
                               : internal_error(&reply->rejection);
}

/* For tests that look where else it has got to. */
static bool keep_key(const struct provisioning *provisioning, const char *certificate_id, const char *pem) {
    AUTO_FREE char *path = NULL;
    if (asprintf(&path, "%s/%s.key", provisioning->keys_path, certificate_id) < 0)
        return false;
    FILE *stream = fopen(path, "we");
    bool written = stream != NULL && fputs(pem, stream) >= 0;
    return stream != NULL && fclose(stream) == 0 && written;
}

/* The key is RSA of 2048 bits, the subject always the same. */
static int create_keys(struct provisioning *provisioning, const struct registry_requester *requester,
                       struct provisioning_reply *reply) {
    __attribute__((cleanup(cleanup_key))) EVP_PKEY *key = EVP_RSA_gen(2048);
    __attribute__((cleanup(cleanup_name))) X509_NAME *subject = X509_NAME_new();
    if (key == NULL || subject == NULL ||
        X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, (const unsigned char *)"AWS IoT Certificate",
                                   -1, -1, 0) != 1)
        return internal_error(&reply->rejection);
    __attribute__((cleanup(cleanup_certificate))) X509 *certificate = issue(provisioning, subject, key);
    AUTO_FREE char *pem = issuer_key_pem(key);
    if (certificate == NULL || pem == NULL || hand_out(provisioning, requester, certificate, reply) < 0)
        return internal_error(&reply->rejection);
    json_object_object_add(reply->payload, "privateKey", json_object_new_string(pem));
    return keep_key(provisioning, reply->certificate_id, pem) ? 0 : internal_error(&reply->rejection);
}

static int read_parameters(struct json_object *payload, struct json_object **ret, struct rejection *rejection) {
    struct json_object *given;
    AUTO_JSON struct json_object *parameters = json_object_new_object();
    if (json_object_object_get_ex(payload, "parameters", &given) && !json_object_is_type(given, json_type_object))
        return rejection_set(rejection, 400, "InvalidParameters", "parameters is not a map");
    if (given != NULL) {
        json_object_object_foreach(given, name, value) {
            if (!json_object_is_type(value, json_type_string) || strlen(name) > PARAMETER_NAME_LIMIT ||
                json_object_get_string_len(value) > PARAMETER_VALUE_LIMIT)
                return rejection_set(rejection, 400, "InvalidParameters", "Parameter %.128s is no text or too long",
                                     name);
            json_object_object_add(parameters, name, json_object_get(value));
        }
    }
    *ret = TAKE_POINTER(parameters);
    return 0;
}

static int apply_template(struct provisioning *provisioning, struct json_object *template,
                          struct json_object *parameters, struct provisioning_reply *reply) {
    struct template_result result;
    if (template_resolve(template, parameters, reply->certificate_id, &result, &reply->rejection) < 0)
        return -1;
    int error = registry_apply(provisioning->registry, &result, reply->certificate_id, &reply->rejection);
    if (error == 0) {
        json_object_object_add(reply->payload, "deviceConfiguration", json_object_get(result.device_configuration));
        if (result.thing.name != NULL)
            json_object_object_add(reply->payload, "thingName", json_object_new_string(result.thing.name));
        reply->thing_name = TAKE_POINTER(result.thing.name);
    }
    template_result_clear(&result);
    return error;
}

static int refuse_token(struct rejection *rejection, const char *why) {
    return rejection_set(rejection, 400, "InvalidCertificateOwnershipToken", "Certificate ownership token %s.", why);
}

/* Whether the token is good for the connection that has sent it. */
static bool token_owned(struct json_object *token, const struct registry_requester *requester,
                        enum token_binding binding) {
    const char *principal = json_text(token, "principal");
    switch (binding) {
    case TOKEN_BINDING_NONE:
        return true;
    case TOKEN_BINDING_PRINCIPAL:
        return principal != NULL && strcmp(principal, requester->certificate_id) == 0;
    case TOKEN_BINDING_CONNECTION:
        break;
    }
    struct json_object *connection = json_member(token, "connection", json_type_int);
    return connection != NULL && json_object_get_int64(connection) == requester->connection;
}

static bool certificate_is(const struct provisioning *provisioning, struct json_object *token, const char *status) {
    const char *actual = registry_certificate_status(provisioning->registry, json_text(token, "certificateId"));
    return actual != NULL && strcmp(actual, status) == 0;
}

/* The token of the request, used or not; NULL with the rejection. */
static struct json_object *find_token(struct provisioning *provisioning, const struct registry_requester *requester,
                                      const char *text, struct rejection *rejection) {
    struct json_object *token = text != NULL ? registry_token(provisioning->registry, text) : NULL;
    if (text == NULL || *text == '\0')
        refuse_token(rejection, "cannot be empty");
    else if (token == NULL || json_text(token, "certificateId") == NULL)
        refuse_token(rejection, "is not valid");
    else if (!token_owned(token, requester, provisioning->options->token_binding))
        refuse_token(rejection, "belongs to another requester");
    else
        return token;
    return NULL;
}

/* With token_reuse=on the success is told again, and nothing is done again. */
static int repeat(struct provisioning *provisioning, struct json_object *token, const char *template_name,
                  struct provisioning_reply *reply) {
    const char *template = json_text(token, "template"), *thing_name = NULL;
    if (!provisioning->options->token_reuse || template == NULL || strcmp(template, template_name) != 0 ||
        (!certificate_is(provisioning, token, "ACTIVE") && !certificate_is(provisioning, token, "INACTIVE")))
        return refuse_token(&reply->rejection, "has been used");
    json_object_put(reply->payload);
    reply->payload = NULL;
    /* A copy, as a fault may change what is sent. */
    if (json_object_deep_copy(json_member(token, "reply", json_type_object), &reply->payload, NULL) < 0)
        return internal_error(&reply->rejection);
    thing_name = json_text(reply->payload, "thingName");
    reply->thing_name = thing_name != NULL ? strdup(thing_name) : NULL;
    reply->repeated = true;
    return 0;
}

/* What RegisterThing needs before it does anything. */
struct registration {
    struct json_object *template, *token, *parameters; /* template and parameters are owned by it */
    const char *token_text;
};

static void registration_clear(struct registration *registration) {
    json_object_put(registration->template);
    json_object_put(registration->parameters);
}

#define AUTO_REGISTRATION __attribute__((cleanup(registration_clear)))

/* Template, token, parameters: in this order. */
static int read_registration(struct provisioning *provisioning, const struct registry_requester *requester,
                             const char *template_name, struct json_object *payload, struct registration *ret,
                             struct rejection *rejection) {
    ret->template = registry_template(provisioning->registry, template_name, REGISTRY_TEMPLATE_FLEET);
    ret->token_text = json_text(payload, "certificateOwnershipToken");
    if (ret->template == NULL)
        return rejection_set(rejection, 404, "ResourceNotFound", "Provisioning template %s not found", template_name);
    ret->token = find_token(provisioning, requester, ret->token_text, rejection);
    return ret->token != NULL ? read_parameters(payload, &ret->parameters, rejection) : -1;
}

/* Then the hook and the resources; the token is used up by success only. */
static int register_thing(struct provisioning *provisioning, const struct registry_requester *requester,
                          const char *template_name, struct json_object *payload, struct json_object *hook_answer,
                          struct provisioning_reply *reply) {
    AUTO_REGISTRATION struct registration registration = {0};
    int error = read_registration(provisioning, requester, template_name, payload, &registration, &reply->rejection);
    if (registration.token != NULL)
        snprintf(reply->certificate_id, sizeof reply->certificate_id, "%s",
                 json_text(registration.token, "certificateId"));
    if (registration.token != NULL && json_member(registration.token, "reply", json_type_object) != NULL)
        return repeat(provisioning, registration.token, template_name, reply);
    if (registration.token != NULL && !certificate_is(provisioning, registration.token, "PENDING_ACTIVATION"))
        return refuse_token(&reply->rejection, "is not valid");
    if (error < 0 ||
        (registry_template_hook(provisioning->registry, template_name) != NULL &&
         hook_obey(hook_answer, registration.parameters, &reply->rejection) < 0) ||
        hook_ask(provisioning->hook_path, registration.parameters, &reply->delay_milliseconds, &reply->rejection) < 0 ||
        apply_template(provisioning, registration.template, registration.parameters, reply) < 0)
        return -1;
    registry_token_use(provisioning->registry, registration.token_text, template_name, reply->payload);
    return 0;
}

static void add_text(struct json_object *object, const char *name, const char *text) {
    json_object_object_add(object, name, text != NULL ? json_object_new_string(text) : NULL);
}

/* "Pre-provisioning hooks": what the function is told. */
static struct json_object *make_hook_event(const struct provisioning *provisioning,
                                           const struct registry_requester *requester, const char *template_name,
                                           const struct registration *registration) {
    const char *id = json_text(registration->token, "certificateId");
    struct json_object *certificates = registry_section(provisioning->registry, "certificates");
    struct json_object *event = json_object_new_object();
    AUTO_FREE char *arn = registry_arn(provisioning->registry, "provisioningtemplate", template_name);
    add_text(event, "claimCertificateId", requester->certificate_id);
    add_text(event, "certificateId", id);
    add_text(event, "certificatePem", json_text(json_member(certificates, id, json_type_object), "pem"));
    add_text(event, "templateArn", arn);
    add_text(event, "clientId", requester->client_id);
    json_object_object_add(event, "parameters", json_object_get(registration->parameters));
    return event;
}

struct json_object *provisioning_hook_event(struct provisioning *provisioning,
                                            const struct registry_requester *requester,
                                            const struct topic_request *request, const void *payload, size_t size,
                                            char **ret_arn) {
    AUTO_REGISTRATION struct registration registration = {0};
    struct rejection rejection;
    AUTO_JSON struct json_object *object = size > 0 ? json_parse(payload, size) : NULL;
    const char *arn = registry_template_hook(provisioning->registry, request->template_name);
    if (request->operation != TOPIC_REGISTER_THING || arn == NULL ||
        read_registration(provisioning, requester, request->template_name, object, &registration, &rejection) < 0 ||
        !certificate_is(provisioning, registration.token, "PENDING_ACTIVATION"))
        return NULL;
    *ret_arn = strdup(arn);
    return *ret_arn != NULL ? make_hook_event(provisioning, requester, request->template_name, &registration) : NULL;
}

static int perform(struct provisioning *provisioning, const struct registry_requester *requester,
                   const struct topic_request *request, struct json_object *payload, struct json_object *hook_answer,
                   struct provisioning_reply *reply) {
    switch (request->operation) {
    case TOPIC_CREATE_KEYS:
        return create_keys(provisioning, requester, reply);
    case TOPIC_CREATE_FROM_CSR:
        return create_from_csr(provisioning, requester, payload, reply);
    case TOPIC_REGISTER_THING:
        return register_thing(provisioning, requester, request->template_name, payload, hook_answer, reply);
    }
    return internal_error(&reply->rejection);
}

void provisioning_handle(struct provisioning *provisioning, const struct registry_requester *requester,
                         const struct topic_request *request, const void *payload, size_t size,
                         struct json_object *hook_answer, struct provisioning_reply *ret) {
    struct provisioning_reply reply = {.payload = json_object_new_object()};
    AUTO_JSON struct json_object *object = size > 0 ? json_parse(payload, size) : json_object_new_object();
    if (!json_object_is_type(object, json_type_object))
        rejection_set(&reply.rejection, 400, "InvalidPayload", "The payload is not a JSON object");
    else
        reply.accepted = perform(provisioning, requester, request, object, hook_answer, &reply) == 0;
    if (!reply.accepted) {
        json_object_put(reply.payload);
        reply.payload = provisioning_rejected(&reply.rejection);
    }
    *ret = reply;
}
