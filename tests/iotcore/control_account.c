#include "control_handler.h"

#include "common/cleanup.h"
#include "json_read.h"
#include "registry.h"
#include "registry_authority.h"
#include "template.h"
#include "topic.h"

#include <string.h>

/* API reference, templateBody, description and roleArn */
#define TEMPLATE_LIMIT 10240
#define DESCRIPTION_LIMIT 500
#define ROLE_LIMIT 2048

int control_get_registration_code(const struct control_call *call) {
    const char *code = registry_registration_code(call->registry);
    if (code == NULL)
        return control_out_of_memory(call);
    control_set(call->reply, "registrationCode", code);
    return 0;
}

int control_delete_registration_code(const struct control_call *call) {
    if (json_text(registry_root(call->registry), "registrationCode") == NULL)
        return control_not_found(call, "Registration code", "");
    registry_registration_code_delete(call->registry);
    return 0;
}

/* The retired types iot:Data and iot:Jobs, the former of which is the default, are refused by AWS too. */
int control_describe_endpoint(const struct control_call *call) {
    const char *type = control_uri_parameter(call->uri, "endpointType");
    if (type == NULL || strcmp(type, "iot:Data-ATS") != 0)
        return control_invalid(call, "Endpoint type %.64s is not supported", type != NULL ? type : "iot:Data");
    control_set(call->reply, "endpointAddress", call->endpoint);
    return 0;
}

struct template_request {
    const char *name, *body, *type, *role, *description;
    bool enabled;
};

static int read_template(const struct control_call *call, struct template_request *ret) {
    static const char *const types[] = {"FLEET_PROVISIONING", "JITP", NULL};
    struct template_request request = {0};
    if (control_text(call, call->body, "templateName", TOPIC_TEMPLATE_NAME_SIZE - 1, &request.name) < 0 ||
        control_text(call, call->body, "templateBody", TEMPLATE_LIMIT, &request.body) < 0 ||
        control_text(call, call->body, "type", 32, &request.type) < 0 ||
        control_text(call, call->body, "provisioningRoleArn", ROLE_LIMIT, &request.role) < 0 ||
        control_text(call, call->body, "description", DESCRIPTION_LIMIT, &request.description) < 0 ||
        control_boolean(call, "enabled", &request.enabled) < 0 || control_one_of(call, "type", request.type, types) < 0)
        return -1;
    if (request.name == NULL || !topic_template_name_valid(request.name))
        return control_invalid(call, "templateName is missing or not valid");
    if (request.body == NULL || request.role == NULL)
        return control_invalid(call, "templateBody and provisioningRoleArn are required");
    *ret = request;
    return 0;
}

int control_create_provisioning_template(const struct control_call *call) {
    struct json_object *templates = registry_section(call->registry, "templates");
    struct template_request request = {0};
    if (read_template(call, &request) < 0)
        return -1;
    if (json_member(templates, request.name, json_type_object) != NULL)
        return rejection_set(call->rejection, 409, "ResourceAlreadyExistsException",
                             "Provisioning template %.36s already exists", request.name);
    if (registry_template_set(call->registry, request.name, request.type, request.body, request.enabled) < 0)
        return control_invalid(call, "templateBody is not a JSON object");
    struct json_object *template = json_member(templates, request.name, json_type_object);
    control_set(template, "type", request.type != NULL ? request.type : "FLEET_PROVISIONING");
    control_set(template, "provisioningRoleArn", request.role);
    control_set(template, "description", request.description);
    AUTO_FREE char *arn = registry_arn(call->registry, "provisioningtemplate", request.name);
    control_set(call->reply, "templateArn", arn);
    control_set(call->reply, "templateName", request.name);
    json_object_object_add(call->reply, "defaultVersionId", json_object_new_int(1));
    return 0;
}

int control_describe_provisioning_template(const struct control_call *call) {
    static const char *const members[] = {"templateBody", "type", "provisioningRoleArn", "description"};
    struct json_object *template =
        json_member(registry_section(call->registry, "templates"), call->name, json_type_object);
    if (template == NULL)
        return control_not_found(call, "Provisioning template", call->name);
    struct json_object *enabled = json_member(template, "enabled", json_type_boolean);
    AUTO_FREE char *arn = registry_arn(call->registry, "provisioningtemplate", call->name);
    control_set(call->reply, "templateArn", arn);
    control_set(call->reply, "templateName", call->name);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        control_set(call->reply, members[i], json_text(template, members[i]));
    json_object_object_add(call->reply, "defaultVersionId", json_object_new_int(1));
    json_object_object_add(call->reply, "enabled",
                           json_object_new_boolean(enabled == NULL || json_object_get_boolean(enabled)));
    return 0;
}
