/* A provisioning method for enrolld, built out of tree: a plain HTTPS service that enrols devices and registers their
 * certificates with the cloud by itself. docs/plugin.md of enrolld builds it step by step.
 *
 *   POST Url= {"serialNumber": "...", "certificateSigningRequest": "<PEM>"}   the first time
 *   POST Url= {"serialNumber": "...", "certificateId": "<64 hex>"}            once a certificate is held
 *   Authorization: Bearer <content of Token=>
 *
 *   200 {"certificatePem": "<PEM, leaf first>", "thingName": "..."}           certificatePem is for the former only
 *   202, perhaps with Retry-After: not yet. Any other status, perhaps with {"message": "..."}: no. */
#include <enrolld/plugin.h>

#include <json-c/json.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_MAX 1024

static const struct enrolld_option options[] = {
    {.name = "Url", .type = ENROLLD_OPTION_TEXT, .required = true, .help = "the service, https://HOST[:PORT]/PATH"},
    {.name = "Token",
     .type = ENROLLD_OPTION_FILE,
     .required = true,
     .help = "the bearer token: /PATH or credential:ID"},
    {.name = "ServerCA",
     .type = ENROLLD_OPTION_FILE,
     .help = "who may have issued the service's certificate, else RootCA= of [Cloud]"},
    {.name = NULL},
};

/* The member's text, NULL if there is none. It lives as long as the object. */
static const char *member(json_object *object, const char *name) {
    json_object *value = NULL;
    if (!json_object_object_get_ex(object, name, &value) || !json_object_is_type(value, json_type_string))
        return NULL;
    return json_object_get_string(value);
}

static json_object *parse(const struct enrolld_https_response *response) {
    json_tokener *tokener = json_tokener_new_ex(8);
    json_object *object = NULL;
    if (tokener != NULL && response->body_size > 0)
        object = json_tokener_parse_ex(tokener, response->body, (int)response->body_size);
    json_tokener_free(tokener);
    if (json_object_is_type(object, json_type_object))
        return object;
    json_object_put(object);
    return NULL;
}

/* What a status means for the next attempt. */
static enum enrolld_class classify(int status) {
    if (status == 202)
        return ENROLLD_CLASS_NOT_YET;
    if (status == 401 || status == 403)
        return ENROLLD_CLASS_DENIED;
    if (status == 429 || status >= 500)
        return ENROLLD_CLASS_CLOUD_BUSY;
    return ENROLLD_CLASS_INVALID;
}

static const char *words_for(int status) {
    switch (status) {
    case 202:
        return "the service has not decided yet";
    case 401:
        return "the service does not accept the token: is Token= the right one?";
    case 403:
        return "the service refuses this device";
    case 404:
        return "there is no such service: is Url= right?";
    case 409:
        return "the service knows this serial number with another key";
    case 429:
        return "the service is asked too often";
    default:
        return status >= 500 ? "the service is in trouble" : "the service does not take the request";
    }
}

static int fail_with_status(const struct enrolld_host *host, const struct enrolld_https_response *response) {
    json_object *object = parse(response);
    const char *message = member(object, "message");
    int r = host->fail(host, classify(response->status), "%s (HTTP %d)%s%.300s", words_for(response->status),
                       response->status, message != NULL ? ": " : "", message != NULL ? message : "");
    json_object_put(object);
    return r;
}

/* A file with a token usually ends with a line break, which is not part of it. */
static int make_authorization(const struct enrolld_host *host, char *header, size_t size) {
    const char *token = host->option(host, "Token");
    size_t length = strcspn(token, "\r\n");
    if (length == 0 || length > TOKEN_MAX)
        return host->fail(host, ENROLLD_CLASS_INVALID, "Token= has no token of 1 to %d characters in its first line",
                          TOKEN_MAX);
    snprintf(header, size, "Authorization: Bearer %.*s", (int)length, token);
    return 0;
}

/* The question: for a certificate, or what became of the one that is held. */
static json_object *make_question(const struct enrolld_host *host) {
    const char *certificate_id = host->certificate_id(host);
    const char *name = certificate_id != NULL ? "certificateId" : "certificateSigningRequest";
    json_object *question = json_object_new_object();
    if (question == NULL)
        return NULL;
    json_object_object_add(question, "serialNumber", json_object_new_string(host->serial_number));
    json_object_object_add(question, name,
                           json_object_new_string(certificate_id != NULL ? certificate_id : host->request_pem(host)));
    return question;
}

static int post(const struct enrolld_host *host, const char *body, struct enrolld_https_response *response) {
    char authorization[TOKEN_MAX + 32];
    const char *headers[] = {authorization, "Content-Type: application/json", "Accept: application/json", NULL};
    const struct enrolld_https_request request = {
        .size = sizeof request,
        .method = "POST",
        .url = host->option(host, "Url"),
        .headers = headers,
        .body = body,
        .body_size = strlen(body),
        .root_ca_pem = host->option(host, "ServerCA"),
    };
    *response = (struct enrolld_https_response){.size = sizeof *response};
    if (make_authorization(host, authorization, sizeof authorization) < 0)
        return -1;
    int r = host->https(host, &request, response);
    explicit_bzero(authorization, sizeof authorization);
    return r;
}

/* Asks the service. On success *answer is an object, which the caller frees. */
static int ask(const struct enrolld_host *host, json_object **answer) {
    struct enrolld_https_response response;
    json_object *question = make_question(host);
    if (question == NULL)
        return host->fail(host, ENROLLD_CLASS_INTERNAL, "out of memory");
    int r = post(host, json_object_to_json_string(question), &response);
    json_object_put(question);
    if (r < 0)
        return -1;
    if (response.status != 200)
        return fail_with_status(host, &response);
    *answer = parse(&response);
    if (*answer == NULL)
        return host->fail(host, ENROLLD_CLASS_CLOUD_BUSY, "the service's reply is no JSON object");
    return 0;
}

/* From here on the certificate survives a power cut, and is not asked for again. */
static int take_certificate(const struct enrolld_host *host, json_object *answer) {
    const char *pem = member(answer, "certificatePem");
    if (pem == NULL)
        return host->fail(host, ENROLLD_CLASS_CLOUD_BUSY, "the service's reply has no certificatePem");
    return host->take_certificate(host, pem, NULL, NULL);
}

static int take_thing(const struct enrolld_host *host, json_object *answer) {
    const char *name = member(answer, "thingName");
    host->step(host, ENROLLD_STEP_REGISTER);
    if (name == NULL)
        return host->fail(host, ENROLLD_CLASS_NOT_YET, "the service has not registered the certificate yet");
    return host->take_thing(host, name, NULL);
}

static int enroll(const struct enrolld_host *host) {
    json_object *answer = NULL;
    host->step(host, ENROLLD_STEP_CERTIFICATE);
    bool is_held = host->certificate_pem(host) != NULL;
    if (ask(host, &answer) < 0)
        return -1;
    int r = is_held ? 0 : take_certificate(host, answer);
    if (r == 0)
        r = take_thing(host, answer);
    json_object_put(answer);
    return r;
}

static const struct enrolld_method methods[] = {
    {"https-json", "asks an HTTPS service, which registers the certificate by itself", options, false},
    {NULL, NULL, NULL, false},
};

const struct enrolld_plugin enrolld_plugin = {
    .abi = ENROLLD_PLUGIN_ABI,
    .size = sizeof(struct enrolld_plugin),
    .host_size = sizeof(struct enrolld_host),
    .method_size = sizeof(struct enrolld_method),
    .option_size = sizeof(struct enrolld_option),
    .methods = methods,
    .enroll = enroll,
};
