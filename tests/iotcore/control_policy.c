#include "control_handler.h"

#include "common/cleanup.h"
#include "control_page.h"
#include "control_principal.h"
#include "json_read.h"
#include "registry.h"

#include <errno.h>
#include <string.h>

/* API reference: policyName, policyDocument; the quota is 2048 characters without blanks */
#define NAME_LIMIT 128
#define DOCUMENT_LIMIT 404600
#define ARN_LIMIT 2048

static int find_policy(const struct control_call *call, struct json_object **ret) {
    *ret = json_member(registry_section(call->registry, "policies"), call->name, json_type_object);
    return *ret != NULL ? 0 : control_not_found(call, "Policy", call->name);
}

/* The certificate that the body names as target. */
static int find_target(const struct control_call *call, struct json_object **ret) {
    const char *target, *id;
    if (control_text(call, call->body, "target", ARN_LIMIT, &target) < 0)
        return -1;
    return control_principal(call, target, ret, &id);
}

static size_t find_name(struct json_object *names, const char *name) {
    size_t count = json_object_array_length(names), i = 0;
    while (i < count && strcmp(json_object_get_string(json_object_array_get_idx(names, i)), name) != 0)
        i++;
    return i;
}

static struct json_object *names_of(struct json_object *certificate) {
    return json_member(certificate, "policies", json_type_array);
}

int control_attach_policy(const struct control_call *call) {
    struct json_object *policy, *certificate;
    if (find_policy(call, &policy) < 0 || find_target(call, &certificate) < 0)
        return -1;
    struct json_object *names = names_of(certificate);
    if (names != NULL && find_name(names, call->name) == json_object_array_length(names))
        json_object_array_add(names, json_object_new_string(call->name));
    return 0;
}

int control_detach_policy(const struct control_call *call) {
    struct json_object *certificate;
    if (find_target(call, &certificate) < 0)
        return -1;
    struct json_object *names = names_of(certificate);
    size_t index = names != NULL ? find_name(names, call->name) : 0;
    if (names != NULL && index < json_object_array_length(names))
        json_object_array_del_idx(names, index, 1);
    return 0;
}

int control_list_attached_policies(const struct control_call *call) {
    static const struct control_paging paging = {"pageSize", "marker", "nextMarker", "policies", "policyName"};
    struct json_object *certificate, *entries;
    const char *id;
    if (control_principal(call, call->name, &certificate, &id) < 0)
        return -1;
    struct json_object *names = names_of(certificate);
    entries = json_object_new_array();
    for (size_t i = 0; names != NULL && i < json_object_array_length(names); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(names, i));
        struct json_object *entry = json_object_new_object();
        AUTO_FREE char *arn = registry_arn(call->registry, "policy", name);
        control_set(entry, "policyName", name);
        control_set(entry, "policyArn", arn);
        json_object_array_add(entries, entry);
    }
    return control_page(&paging, call->uri, entries, call->reply, call->rejection);
}

static bool name_valid(const char *name) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=,.@-";
    size_t length = strlen(name);
    return length <= NAME_LIMIT && strspn(name, letters) == length;
}

static void describe(const struct control_call *call, const char *document) {
    AUTO_FREE char *arn = registry_arn(call->registry, "policy", call->name);
    control_set(call->reply, "policyName", call->name);
    control_set(call->reply, "policyArn", arn);
    control_set(call->reply, "policyDocument", document);
}

int control_create_policy(const struct control_call *call) {
    const char *text;
    if (control_text(call, call->body, "policyDocument", DOCUMENT_LIMIT, &text) < 0)
        return -1;
    if (text == NULL || !name_valid(call->name))
        return control_invalid(call, "policyDocument is missing, or the name is not valid");
    if (registry_policy_exists(call->registry, call->name))
        return rejection_set(call->rejection, 409, "ResourceAlreadyExistsException", "Policy %.128s already exists",
                             call->name);
    AUTO_JSON struct json_object *document = json_parse(text, strlen(text));
    if (!json_object_is_type(document, json_type_object) ||
        registry_policy_set(call->registry, call->name, document) < 0)
        return rejection_set(call->rejection, 400, "MalformedPolicyException", "The policy document is malformed");
    describe(call, text);
    control_set(call->reply, "policyVersionId", "1");
    return 0;
}

int control_get_policy(const struct control_call *call) {
    struct json_object *policy;
    if (find_policy(call, &policy) < 0)
        return -1;
    describe(call, json_object_to_json_string_ext(policy, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    control_set(call->reply, "defaultVersionId", "1");
    return 0;
}
