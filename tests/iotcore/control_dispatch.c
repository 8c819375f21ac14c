#include "control_dispatch.h"

#include "control_handler.h"
#include "json_read.h"

#include <string.h>

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
    [CONTROL_UPDATE_THING] = control_update_thing,
    [CONTROL_DELETE_THING] = control_delete_thing,
    [CONTROL_LIST_THINGS] = control_list_things,
    [CONTROL_ATTACH_THING_PRINCIPAL] = control_attach_thing_principal,
    [CONTROL_DETACH_THING_PRINCIPAL] = control_detach_thing_principal,
    [CONTROL_LIST_THING_PRINCIPALS] = control_list_thing_principals,
    [CONTROL_LIST_PRINCIPAL_THINGS] = control_list_principal_things,
    [CONTROL_CREATE_PROVISIONING_TEMPLATE] = control_create_provisioning_template,
    [CONTROL_DESCRIBE_PROVISIONING_TEMPLATE] = control_describe_provisioning_template,
    [CONTROL_UPDATE_PROVISIONING_TEMPLATE] = control_update_provisioning_template,
    [CONTROL_DELETE_PROVISIONING_TEMPLATE] = control_delete_provisioning_template,
    [CONTROL_DESCRIBE_ENDPOINT] = control_describe_endpoint,
    [CONTROL_CREATE_TOPIC_RULE] = control_create_topic_rule,
    [CONTROL_REPLACE_TOPIC_RULE] = control_replace_topic_rule,
    [CONTROL_ENABLE_TOPIC_RULE] = control_enable_topic_rule,
    [CONTROL_DISABLE_TOPIC_RULE] = control_disable_topic_rule,
    [CONTROL_GET_TOPIC_RULE] = control_get_topic_rule,
    [CONTROL_LIST_TOPIC_RULES] = control_list_topic_rules,
    [CONTROL_DELETE_TOPIC_RULE] = control_delete_topic_rule,
    [CONTROL_PUBLISH] = control_publish,
};

/* An empty body is an empty object. What is published need not be JSON. */
static int read_body(const struct control_request *request, struct control_call *call,
                     enum control_operation operation) {
    bool is_json = request->body_size > 0 && operation != CONTROL_PUBLISH;
    call->bytes = request->body;
    call->size = request->body_size;
    call->body = is_json ? json_parse(request->body, request->body_size) : json_object_new_object();
    if (json_object_is_type(call->body, json_type_object))
        return 0;
    return rejection_set(call->rejection, 400, "SerializationException", "The body is not a JSON object");
}

/* Who asks is not verified, but has to say that he is somebody. */
int control_dispatch(const struct control_request *request, struct control_uri *uri, struct control_call *call,
                     enum control_operation *ret) {
    call->uri = uri;
    call->principal = request->principal;
    if (!control_uri_parse(uri, request->target) ||
        (*ret = control_route(request->method, uri, &call->name)) == CONTROL_OPERATION_COUNT)
        return rejection_set(call->rejection, 404, "UnknownOperationException", "There is no such operation");
    if (!request->authorized)
        return rejection_set(call->rejection, 403, "MissingAuthenticationTokenException",
                             "Missing Authentication Token");
    return read_body(request, call, *ret) < 0 ? -1 : handlers[*ret](call);
}

bool control_changes(enum control_operation operation) {
    const char *name = control_operation_name(operation);
    return !(strncmp(name, "List", strlen("List")) == 0 || strncmp(name, "Describe", strlen("Describe")) == 0 ||
             operation == CONTROL_GET_POLICY || operation == CONTROL_GET_TOPIC_RULE || operation == CONTROL_PUBLISH);
}
