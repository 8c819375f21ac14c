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
    struct json_object *hook;
    bool enabled;
};

/* "ProvisioningHook": for templates of fleet provisioning. NULL if there is none. */
static int read_hook(const struct control_call *call, struct json_object **ret) {
    static const char *const versions[] = {"2020-04-01", NULL};
    struct json_object *hook;
    const char *version, *target;
    if (control_object(call, "preProvisioningHook", &hook) < 0)
        return -1;
    if (hook != NULL && (control_text(call, hook, "payloadVersion", 32, &version) < 0 ||
                         control_one_of(call, "payloadVersion", version, versions) < 0 ||
                         control_text(call, hook, "targetArn", ROLE_LIMIT, &target) < 0))
        return -1;
    if (hook != NULL && target == NULL)
        return control_invalid(call, "targetArn is required");
    *ret = hook;
    return 0;
}

static int read_template(const struct control_call *call, struct template_request *ret) {
    static const char *const types[] = {"FLEET_PROVISIONING", "JITP", NULL};
    struct template_request request = {0};
    if (control_text(call, call->body, "templateName", TOPIC_TEMPLATE_NAME_SIZE - 1, &request.name) < 0 ||
        control_text(call, call->body, "templateBody", TEMPLATE_LIMIT, &request.body) < 0 ||
        control_text(call, call->body, "type", 32, &request.type) < 0 ||
        control_text(call, call->body, "provisioningRoleArn", ROLE_LIMIT, &request.role) < 0 ||
        control_text(call, call->body, "description", DESCRIPTION_LIMIT, &request.description) < 0 ||
        control_boolean(call, "enabled", &request.enabled) < 0 ||
        control_one_of(call, "type", request.type, types) < 0 || read_hook(call, &request.hook) < 0)
        return -1;
    if (request.hook != NULL && request.type != NULL && strcmp(request.type, REGISTRY_TEMPLATE_JITP) == 0)
        return control_invalid(call, "A template of type JITP has no hook");
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
    if (request.hook != NULL)
        json_object_object_add(template, "preProvisioningHook", json_object_get(request.hook));
    AUTO_FREE char *arn = registry_arn(call->registry, "provisioningtemplate", request.name);
    control_set(call->reply, "templateArn", arn);
    control_set(call->reply, "templateName", request.name);
    json_object_object_add(call->reply, "defaultVersionId", json_object_new_int(1));
    return 0;
}

static int find_template(const struct control_call *call, struct json_object **ret) {
    *ret = json_member(registry_section(call->registry, "templates"), call->name, json_type_object);
    return *ret != NULL ? 0 : control_not_found(call, "Provisioning template", call->name);
}

int control_update_provisioning_template(const struct control_call *call) {
    const char *role, *description;
    struct json_object *template, *hook;
    bool enabled, remove_hook;
    if (find_template(call, &template) < 0 || read_hook(call, &hook) < 0 ||
        control_text(call, call->body, "provisioningRoleArn", ROLE_LIMIT, &role) < 0 ||
        control_text(call, call->body, "description", DESCRIPTION_LIMIT, &description) < 0 ||
        control_boolean(call, "enabled", &enabled) < 0 ||
        control_boolean(call, "removePreProvisioningHook", &remove_hook) < 0)
        return -1;
    control_set(template, "provisioningRoleArn", role);
    control_set(template, "description", description);
    if (json_member(call->body, "enabled", json_type_boolean) != NULL)
        json_object_object_add(template, "enabled", json_object_new_boolean(enabled));
    if (remove_hook)
        json_object_object_del(template, "preProvisioningHook");
    if (hook != NULL)
        json_object_object_add(template, "preProvisioningHook", json_object_get(hook));
    return 0;
}

int control_delete_provisioning_template(const struct control_call *call) {
    struct json_object *template;
    if (find_template(call, &template) < 0)
        return -1;
    json_object_object_del(registry_section(call->registry, "templates"), call->name);
    return 0;
}

int control_describe_provisioning_template(const struct control_call *call) {
    static const char *const members[] = {"templateBody", "type", "provisioningRoleArn", "description"};
    struct json_object *template;
    if (find_template(call, &template) < 0)
        return -1;
    struct json_object *hook = json_member(template, "preProvisioningHook", json_type_object);
    struct json_object *enabled = json_member(template, "enabled", json_type_boolean);
    AUTO_FREE char *arn = registry_arn(call->registry, "provisioningtemplate", call->name);
    control_set(call->reply, "templateArn", arn);
    control_set(call->reply, "templateName", call->name);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        control_set(call->reply, members[i], json_text(template, members[i]));
    if (hook != NULL)
        json_object_object_add(call->reply, "preProvisioningHook", json_object_get(hook));
    json_object_object_add(call->reply, "defaultVersionId", json_object_new_int(1));
    json_object_object_add(call->reply, "enabled",
                           json_object_new_boolean(enabled == NULL || json_object_get_boolean(enabled)));
    return 0;
}
