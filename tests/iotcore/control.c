#include "control.h"

#include "common/cleanup.h"
#include "common/text.h"
#include "control_handler.h"
#include "control_route.h"
#include "control_server.h"
#include "event.h"
#include "json_read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct control {
    struct standin *standin;
    struct control_server *server;
};

static const control_handler handlers[CONTROL_OPERATION_COUNT] = {
    [CONTROL_GET_REGISTRATION_CODE] = control_get_registration_code,
    [CONTROL_DELETE_REGISTRATION_CODE] = control_delete_registration_code,
    [CONTROL_REGISTER_CA_CERTIFICATE] = control_register_ca_certificate,
    [CONTROL_LIST_CA_CERTIFICATES] = control_list_ca_certificates,
    [CONTROL_DESCRIBE_CA_CERTIFICATE] = control_describe_ca_certificate,
    [CONTROL_UPDATE_CA_CERTIFICATE] = control_update_ca_certificate,
    [CONTROL_DELETE_CA_CERTIFICATE] = control_delete_ca_certificate,
    [CONTROL_REGISTER_CERTIFICATE] = control_register_certificate,
    [CONTROL_REGISTER_CERTIFICATE_WITHOUT_CA] = control_register_certificate_without_ca,
    [CONTROL_LIST_CERTIFICATES] = control_list_certificates,
    [CONTROL_LIST_CERTIFICATES_BY_CA] = control_list_certificates_by_ca,
    [CONTROL_DESCRIBE_CERTIFICATE] = control_describe_certificate,
    [CONTROL_UPDATE_CERTIFICATE] = control_update_certificate,
    [CONTROL_DELETE_CERTIFICATE] = control_delete_certificate,
    [CONTROL_ATTACH_POLICY] = control_attach_policy,
    [CONTROL_DETACH_POLICY] = control_detach_policy,
    [CONTROL_LIST_ATTACHED_POLICIES] = control_list_attached_policies,
    [CONTROL_CREATE_POLICY] = control_create_policy,
    [CONTROL_GET_POLICY] = control_get_policy,
    [CONTROL_CREATE_THING] = control_create_thing,
    [CONTROL_DESCRIBE_THING] = control_describe_thing,
    [CONTROL_DELETE_THING] = control_delete_thing,
    [CONTROL_LIST_THINGS] = control_list_things,
    [CONTROL_ATTACH_THING_PRINCIPAL] = control_attach_thing_principal,
    [CONTROL_DETACH_THING_PRINCIPAL] = control_detach_thing_principal,
    [CONTROL_LIST_THING_PRINCIPALS] = control_list_thing_principals,
    [CONTROL_LIST_PRINCIPAL_THINGS] = control_list_principal_things,
    [CONTROL_CREATE_PROVISIONING_TEMPLATE] = control_create_provisioning_template,
    [CONTROL_DESCRIBE_PROVISIONING_TEMPLATE] = control_describe_provisioning_template,
    [CONTROL_DESCRIBE_ENDPOINT] = control_describe_endpoint,
};

/* An empty body is an empty object. */
static int read_body(const struct control_request *request, struct control_call *call) {
    call->body = request->body_size > 0 ? json_parse(request->body, request->body_size) : json_object_new_object();
    if (json_object_is_type(call->body, json_type_object))
        return 0;
    return rejection_set(call->rejection, 400, "SerializationException", "The body is not a JSON object");
}

/* Who asks is not verified, but has to say that he is somebody. */
static int handle(const struct control_request *request, struct control_uri *uri, struct control_call *call,
                  enum control_operation *ret) {
    if (!control_uri_parse(uri, request->target) ||
        (*ret = control_route(request->method, uri, &call->name)) == CONTROL_OPERATION_COUNT)
        return rejection_set(call->rejection, 404, "UnknownOperationException", "There is no such operation");
    if (!request->authorized)
        return rejection_set(call->rejection, 403, "MissingAuthenticationTokenException",
                             "Missing Authentication Token");
    return read_body(request, call) < 0 ? -1 : handlers[*ret](call);
}

static void tell(const struct standin *standin, enum control_operation operation, const struct control_call *call,
                 const struct control_response *response) {
    const char *id = json_text(call->reply, "certificateId");
    struct json_object *event = event_new("control");
    event_text(event, "operation", control_operation_name(operation));
    json_object_object_add(event, "statusCode", json_object_new_int(response->status));
    event_text(event, "errorCode", response->error_code);
    event_text(event, "certificateId", id);
    event_text(event, "name", call->name);
    event_write(standin->events, event);
}

/* GetRegistrationCode makes one. */
static bool only_reads(enum control_operation operation) {
    const char *name = control_operation_name(operation);
    return strncmp(name, "List", strlen("List")) == 0 || strncmp(name, "Describe", strlen("Describe")) == 0 ||
           operation == CONTROL_GET_POLICY;
}

static void answer(void *userdata, const struct control_request *request, struct control_response *response) {
    struct control *control = userdata;
    enum control_operation operation = CONTROL_OPERATION_COUNT;
    struct rejection rejection = {0};
    struct control_uri uri;
    AUTO_JSON struct json_object *reply = json_object_new_object(), *body = NULL;
    struct control_call call = {.registry = control->standin->provisioning.registry,
                                .endpoint = control->standin->host,
                                .uri = &uri,
                                .principal = request->principal,
                                .reply = reply,
                                .rejection = &rejection};
    response->status = 200;
    if (handle(request, &uri, &call, &operation) < 0) {
        text_make_printable(rejection.message);
        response->status = rejection.status_code;
        response->error_code = rejection.error_code;
        control_set(reply, "message", rejection.message);
    } else if (!only_reads(operation))
        standin_save(control->standin);
    body = call.body;
    int flags = JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE;
    response->body = strdup(json_object_to_json_string_ext(reply, flags));
    tell(control->standin, operation, &call, response);
}

/* By rename, so that whoever waits for it reads all of it. */
static int write_port(const char *state, uint16_t port) {
    AUTO_FREE char *path = NULL, *new_path = NULL;
    if (asprintf(&path, "%s/control-port", state) < 0 || asprintf(&new_path, "%s.new", path) < 0)
        return -1;
    FILE *file = fopen(new_path, "we");
    if (file == NULL)
        return -1;
    bool written = fprintf(file, "%u\n", port) > 0;
    return fclose(file) == 0 && written ? rename(new_path, path) : -1;
}

struct control *control_start(struct standin *standin, const char *state, uint16_t port) {
    struct control *control = calloc(1, sizeof *control);
    uint16_t bound;
    if (control == NULL)
        return NULL;
    control->standin = standin;
    if ((control->server = control_server_start(port, &bound)) != NULL && write_port(state, bound) == 0)
        return control;
    int error = errno;
    control_stop(control);
    errno = error;
    return NULL;
}

void control_tick(struct control *control) {
    if (control != NULL)
        control_server_tick(control->server, answer, control);
}

struct control *control_stop(struct control *control) {
    if (control == NULL)
        return NULL;
    control_server_stop(control->server);
    free(control);
    return NULL;
}
