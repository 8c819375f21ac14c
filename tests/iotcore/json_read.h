/* Reading JSON that may be anything. */
#pragma once

#include <json-c/json.h>

#include <stdbool.h>
#include <stddef.h>

/* The member's text, or NULL if it is not there or no string. */
static inline const char *json_text(struct json_object *object, const char *name) {
    struct json_object *value;
    if (!json_object_is_type(object, json_type_object) || !json_object_object_get_ex(object, name, &value) ||
        !json_object_is_type(value, json_type_string))
        return NULL;
    return json_object_get_string(value);
}

/* The member if it has that type, or NULL. */
static inline struct json_object *json_member(struct json_object *object, const char *name, enum json_type type) {
    struct json_object *value;
    if (!json_object_is_type(object, json_type_object) || !json_object_object_get_ex(object, name, &value) ||
        !json_object_is_type(value, type))
        return NULL;
    return value;
}

/* Parses exactly one value, as strictly as json-c can, at most 32 levels deep; NULL if the bytes are anything else. */
struct json_object *json_parse(const void *bytes, size_t size);

/* Parses a file of at most 16 MiB; NULL with errno 0 if its content is not JSON, else with the errno of reading. */
struct json_object *json_parse_file(const char *path);

static inline void json_cleanup(struct json_object **object) {
    json_object_put(*object);
}

#define AUTO_JSON __attribute__((cleanup(json_cleanup)))
