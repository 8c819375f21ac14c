#include "hook.h"

#include "json_read.h"

#include <errno.h>
#include <string.h>

static int denied(struct rejection *rejection, const char *why) {
    return rejection_set(rejection, 403, "AccessDenied", "Access Denied: %s", why);
}

static struct json_object *find_rule(struct json_object *rules, const char *serial) {
    for (size_t i = 0; i < json_object_array_length(rules); i++) {
        struct json_object *rule = json_object_array_get_idx(rules, i);
        const char *prefix = json_text(rule, "serialPrefix");
        if (prefix != NULL && strncmp(serial, prefix, strlen(prefix)) == 0)
            return rule;
    }
    return NULL;
}

static void override(struct json_object *parameters, struct json_object *overrides) {
    json_object_object_foreach(overrides, name, value) {
        json_object_object_add(parameters, name, json_object_get(value));
    }
}

static int follow(struct json_object *rule, struct json_object *parameters, unsigned *ret_delay,
                  struct rejection *rejection) {
    const char *result = json_text(rule, "result");
    struct json_object *overrides = json_member(rule, "parameterOverrides", json_type_object);
    if (result != NULL && strcmp(result, "timeout") == 0)
        *ret_delay = HOOK_TIMEOUT_MILLISECONDS;
    if (result == NULL || strcmp(result, "allow") != 0)
        return denied(rejection, "the pre-provisioning hook did not allow it");
    if (overrides != NULL)
        override(parameters, overrides);
    return 0;
}

int hook_obey(struct json_object *answer, struct json_object *parameters, struct rejection *rejection) {
    struct json_object *allowed = json_member(answer, "allowProvisioning", json_type_boolean);
    struct json_object *overrides = json_member(answer, "parameterOverrides", json_type_object);
    if (answer == NULL)
        return denied(rejection, "the pre-provisioning hook failed or did not answer in time");
    if (allowed == NULL || !json_object_get_boolean(allowed))
        return denied(rejection, "the pre-provisioning hook did not allow it");
    if (overrides != NULL)
        override(parameters, overrides);
    return 0;
}

int hook_ask(const char *path, struct json_object *parameters, unsigned *ret_delay, struct rejection *rejection) {
    AUTO_JSON struct json_object *rules = json_parse_file(path);
    const char *serial = json_text(parameters, "SerialNumber");
    if (rules == NULL && errno == ENOENT)
        return 0;
    if (!json_object_is_type(rules, json_type_array))
        return denied(rejection, "the rules of the pre-provisioning hook are no list");
    struct json_object *rule = find_rule(rules, serial != NULL ? serial : "");
    return rule == NULL ? 0 : follow(rule, parameters, ret_delay, rejection);
}
