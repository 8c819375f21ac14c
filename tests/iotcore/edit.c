#include "edit.h"

#include "common/cleanup.h"
#include "json_read.h"
#include "topic.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The states that UpdateCertificate sets. */
static bool status_settable(const char *status) {
    return status != NULL &&
           (strcmp(status, "ACTIVE") == 0 || strcmp(status, "INACTIVE") == 0 || strcmp(status, "REVOKED") == 0);
}

static int clear_faults(struct standin *standin, const char *word) {
    if (strcmp(word, "clear") != 0)
        return -EINVAL;
    fault_list_clear(&standin->faults);
    return 0;
}

static int set_template(struct registry *registry, const char *name, struct json_object *edit) {
    struct json_object *body = NULL, *enabled = json_member(edit, "enabled", json_type_boolean);
    const char *text = NULL;
    if (!topic_template_name_valid(name))
        return -EINVAL;
    if (json_object_object_get_ex(edit, "body", &body))
        text = json_object_is_type(body, json_type_string)
                   ? json_object_get_string(body)
                   : json_object_to_json_string_ext(body, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    return registry_template_set(registry, name, text, enabled == NULL || json_object_get_boolean(enabled));
}

static int apply(struct standin *standin, struct json_object *edit) {
    struct registry *registry = standin->provisioning.registry;
    const char *certificate = json_text(edit, "certificate"), *thing = json_text(edit, "deleteThing");
    const char *template = json_text(edit, "template"), *policy = json_text(edit, "policy");
    const char *faults = json_text(edit, "faults");
    struct json_object *options = json_member(edit, "options", json_type_object);
    struct json_object *offset = json_member(edit, "clockOffset", json_type_int);
    struct json_object *fault = json_member(edit, "fault", json_type_object);
    if (certificate != NULL && status_settable(json_text(edit, "status")))
        return registry_certificate_set_status(registry, certificate, json_text(edit, "status"));
    if (thing != NULL)
        return registry_thing_delete(registry, thing);
    if (fault != NULL)
        return fault_add(&standin->faults, fault);
    if (faults != NULL)
        return clear_faults(standin, faults);
    if (options != NULL)
        return option_set_all(&standin->options, options);
    if (template != NULL)
        return set_template(registry, template, edit);
    if (policy != NULL)
        return registry_policy_set(registry, policy, json_member(edit, "document", json_type_object));
    if (offset == NULL)
        return -EINVAL;
    registry_set_clock_offset(registry, json_object_get_int64(offset));
    return 0;
}

static void apply_file(struct standin *standin, const char *name) {
    AUTO_FREE char *path = NULL;
    if (asprintf(&path, "%s/%s", standin->edits_path, name) < 0)
        return;
    AUTO_JSON struct json_object *edit = json_parse_file(path);
    int error = apply(standin, edit);
    unlink(path);
    if (error == 0)
        standin_save(standin);
    struct json_object *event = event_new("edit");
    event_text(event, "file", name);
    event_text(event, "result", error == 0 ? "applied" : "refused");
    event_text(event, "reason", error == 0 ? NULL : strerror(-error));
    event_write(standin->events, event);
}

static int is_edit(const struct dirent *entry) {
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > strlen(".json") &&
           strcmp(entry->d_name + length - strlen(".json"), ".json") == 0;
}

void edit_tick(struct standin *standin) {
    struct dirent **entries;
    int count = scandir(standin->edits_path, &entries, is_edit, alphasort);
    if (count < 0)
        return;
    for (int i = 0; i < count; i++) {
        apply_file(standin, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}
