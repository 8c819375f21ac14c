#include "edit.h"

#include "arrival.h"
#include "common/cleanup.h"
#include "json_read.h"
#include "registry_authority.h"
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
    return registry_template_set(registry, name, json_text(edit, "type"), text,
                                 enabled == NULL || json_object_get_boolean(enabled));
}

static int set_function(struct registry *registry, const char *name, struct json_object *edit) {
    static const char *const members[] = {"file", "policy", "environment"};
    struct json_object *function = json_object_new_object(), *value;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (json_object_object_get_ex(edit, members[i], &value))
            json_object_object_add(function, members[i], json_object_get(value));
    json_object_object_add(registry_section(registry, "functions"), name, function);
    return 0;
}

static bool choice_valid(const char *value, const char *one, const char *other) {
    return value == NULL || strcmp(value, one) == 0 || strcmp(value, other) == 0;
}

static int read_settings(struct json_object *edit, struct registry_authority_settings *ret) {
    *ret = (struct registry_authority_settings){
        .status = json_text(edit, "status"),
        .auto_registration = json_text(edit, "autoRegistrationStatus"),
        .mode = json_text(edit, "certificateMode"),
        .registration_config = json_member(edit, "registrationConfig", json_type_object),
    };
    bool valid = choice_valid(ret->status, "ACTIVE", "INACTIVE") &&
                 choice_valid(ret->auto_registration, "ENABLE", "DISABLE") &&
                 choice_valid(ret->mode, "DEFAULT", "SNI_ONLY");
    return valid ? 0 : -EINVAL;
}

static int add_authority(struct registry *registry, const char *pem, struct json_object *edit) {
    char id[ISSUER_ID_SIZE];
    struct registry_authority_settings settings;
    if (read_settings(edit, &settings) < 0)
        return -EINVAL;
    X509 *certificate = issuer_read_certificate(pem, strlen(pem));
    if (certificate == NULL)
        return -EINVAL;
    settings.status = settings.status != NULL ? settings.status : "ACTIVE";
    settings.auto_registration = settings.auto_registration != NULL ? settings.auto_registration : "ENABLE";
    settings.mode = settings.mode != NULL ? settings.mode : "DEFAULT";
    int error = registry_authority_add(registry, certificate, &settings, id);
    X509_free(certificate);
    return error;
}

static int change_authority(struct registry *registry, const char *authority_id, struct json_object *edit) {
    struct registry_authority_settings settings;
    if (read_settings(edit, &settings) < 0 || settings.mode != NULL)
        return -EINVAL;
    return registry_authority_update(registry, authority_id, &settings);
}

/* -ENOTSUP for an edit of something else. */
static int apply_to_authorities(struct registry *registry, struct json_object *edit) {
    const char *pem = json_text(edit, "registerAuthority"), *changed = json_text(edit, "authority");
    const char *deleted = json_text(edit, "deleteAuthority");
    if (pem != NULL)
        return add_authority(registry, pem, edit);
    if (changed != NULL)
        return change_authority(registry, changed, edit);
    return deleted != NULL ? registry_authority_delete(registry, deleted) : -ENOTSUP;
}

static int set_options(struct standin *standin, struct json_object *options) {
    if (option_set_all(&standin->options, options) < 0)
        return -EINVAL;
    arrival_write_options(standin);
    return 0;
}

static int apply(struct standin *standin, struct json_object *edit) {
    struct registry *registry = standin->provisioning.registry;
    const char *certificate = json_text(edit, "certificate"), *thing = json_text(edit, "deleteThing");
    const char *template = json_text(edit, "template"), *policy = json_text(edit, "policy");
    const char *faults = json_text(edit, "faults"), *function = json_text(edit, "function");
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
        return set_options(standin, options);
    if (template != NULL)
        return set_template(registry, template, edit);
    if (function != NULL && json_text(edit, "file") != NULL)
        return set_function(registry, function, edit);
    if (policy != NULL)
        return registry_policy_set(registry, policy, json_member(edit, "document", json_type_object));
    if (offset == NULL)
        return apply_to_authorities(registry, edit);
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
