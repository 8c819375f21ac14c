#include "worker/identity.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "common/text.h"

#include <json-c/json.h>

#include <stdio.h>
#include <string.h>

static void cleanup_json(json_object **object) {
    json_object_put(*object);
}
#define AUTO_JSON CLEANUP(cleanup_json)

void identity_clear(struct identity *identity) {
    free(identity->device_configuration);
    memset(identity, 0, sizeof *identity);
}

/* json-c stops at its first error and says so; trailing text and deep nesting are errors too. */
static json_object *parse_object(const char *text, size_t size) {
    json_tokener *tokener = size > 0 && size <= IDENTITY_JSON_MAX ? json_tokener_new_ex(8) : NULL;
    if (tokener == NULL)
        return NULL;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    json_object *object = json_tokener_parse_ex(tokener, text, (int)size);
    bool whole = json_tokener_get_error(tokener) == json_tokener_success;
    for (size_t i = json_tokener_get_parse_end(tokener); whole && i < size; i++)
        whole = text[i] == '\n' || text[i] == ' ';
    json_tokener_free(tokener);
    if (whole && json_object_is_type(object, json_type_object))
        return object;
    json_object_put(object);
    return NULL;
}

static void add_text(json_object *object, const char *name, const char *text) {
    json_object_object_add(object, name, json_object_new_string(text));
}

static void add_number(json_object *object, const char *name, int64_t number) {
    json_object_object_add(object, name, json_object_new_int64(number));
}

int identity_encode(const struct identity *identity, char **ret_json, struct failure *failure) {
    AUTO_JSON json_object *object = json_object_new_object();
    json_object *configuration = NULL;
    if (identity->device_configuration != NULL) {
        configuration = parse_object(identity->device_configuration, strlen(identity->device_configuration));
        if (configuration == NULL)
            return failure_set(failure, FAILURE_INVALID, STEP_REGISTER, "deviceConfiguration is not a JSON object");
    }
    add_number(object, "schema", IDENTITY_SCHEMA);
    add_number(object, "generation", (int64_t)identity->generation);
    add_text(object, "method", identity->method);
    add_text(object, "endpoint", identity->endpoint);
    add_text(object, "clientId", identity->client_id);
    add_text(object, "thingName", identity->thing_name);
    add_text(object, "serialNumber", identity->serial_number);
    add_text(object, "certificateId", identity->certificate_id);
    add_text(object, "keyBackend", identity->key_backend);
    add_text(object, "keyAlgorithm", identity->key_algorithm);
    add_text(object, "keyOrigin", identity->key_origin);
    add_text(object, "parentName", identity->parent_name);
    add_number(object, "notBefore", identity->not_before);
    add_number(object, "notAfter", identity->not_after);
    add_number(object, "issuedAt", identity->issued_at);
    if (configuration != NULL)
        json_object_object_add(object, "deviceConfiguration", configuration);
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
    char *copy = NULL;
    if (text == NULL || asprintf(&copy, "%s\n", text) < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "out of memory");
    *ret_json = copy;
    return 0;
}

/* Copies a text member; false if it is not there, no text, too long or has control characters. */
static bool get_text(json_object *object, const char *name, char *buffer, size_t size) {
    json_object *member = NULL;
    if (!json_object_object_get_ex(object, name, &member) || !json_object_is_type(member, json_type_string))
        return false;
    size_t length = (size_t)json_object_get_string_len(member);
    const char *text = json_object_get_string(member);
    if (length >= size || !text_is_utf8(text, length))
        return false;
    memcpy(buffer, text, length + 1);
    text_make_printable(buffer);
    return strcmp(buffer, text) == 0;
}

static bool get_number(json_object *object, const char *name, int64_t *ret) {
    json_object *member = NULL;
    if (!json_object_object_get_ex(object, name, &member) || !json_object_is_type(member, json_type_int))
        return false;
    *ret = json_object_get_int64(member);
    return *ret >= 0;
}

/* NULL, or the first member that is missing or malformed. */
static const char *read_members(json_object *object, struct identity *identity) {
    const struct {
        const char *name;
        char *buffer;
        size_t size;
    } texts[] = {
        {"method", identity->method, sizeof identity->method},
        {"endpoint", identity->endpoint, sizeof identity->endpoint},
        {"clientId", identity->client_id, sizeof identity->client_id},
        {"thingName", identity->thing_name, sizeof identity->thing_name},
        {"serialNumber", identity->serial_number, sizeof identity->serial_number},
        {"certificateId", identity->certificate_id, sizeof identity->certificate_id},
        {"keyBackend", identity->key_backend, sizeof identity->key_backend},
        {"keyAlgorithm", identity->key_algorithm, sizeof identity->key_algorithm},
        {"keyOrigin", identity->key_origin, sizeof identity->key_origin},
        {"parentName", identity->parent_name, sizeof identity->parent_name},
    };
    int64_t generation = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!get_text(object, texts[i].name, texts[i].buffer, texts[i].size))
            return texts[i].name;
    if (!get_number(object, "generation", &generation))
        return "generation";
    identity->generation = (uint64_t)generation;
    if (!get_number(object, "notBefore", &identity->not_before))
        return "notBefore";
    if (!get_number(object, "notAfter", &identity->not_after))
        return "notAfter";
    return get_number(object, "issuedAt", &identity->issued_at) ? NULL : "issuedAt";
}

int identity_parse(const char *json, size_t size, struct identity *ret, struct failure *failure) {
    AUTO_JSON json_object *object = parse_object(json, size);
    struct identity identity = {0};
    json_object *member = NULL;
    int64_t schema = 0;
    if (object == NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "identity.json is not a JSON object");
    if (!get_number(object, "schema", &schema) || schema < 1)
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "identity.json: schema is missing or malformed");
    const char *wrong = read_members(object, &identity);
    if (wrong != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "identity.json: %s is missing or malformed", wrong);
    if (json_object_object_get_ex(object, "deviceConfiguration", &member)) {
        const char *text = json_object_to_json_string_ext(member, JSON_C_TO_STRING_PLAIN);
        identity.device_configuration = text != NULL ? strdup(text) : NULL;
    }
    *ret = identity;
    return 0;
}
