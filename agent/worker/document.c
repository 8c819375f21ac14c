#include "worker/document.h"

#include "common/cleanup.h"
#include "common/json-flags.h"
#include "common/text.h"

#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 8

void document_cleanup(json_object **object) {
    json_object_put(*object);
}

/* json-c stops at its first error and says so; trailing text and deep nesting are errors too. Its own check of UTF-8
 * takes overlong forms. */
json_object *document_parse(const char *text, size_t size) {
    bool good = size > 0 && size <= DOCUMENT_MAX && text_is_utf8(text, size);
    json_tokener *tokener = good ? json_tokener_new_ex(DEPTH_MAX) : NULL;
    if (tokener == NULL)
        return NULL;
    json_tokener_set_flags(tokener, json_flags_for(text, size));
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

char *document_print(json_object *object) {
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
    char *copy = NULL;
    if (text == NULL)
        return NULL;
    int length = asprintf(&copy, "%s\n", text);
    explicit_bzero((char *)text, strlen(text)); /* the object's own copy may have secrets in it */
    return length >= 0 ? copy : NULL;
}

void document_add_text(json_object *object, const char *name, const char *text) {
    json_object_object_add(object, name, json_object_new_string(text));
}

void document_add_number(json_object *object, const char *name, int64_t number) {
    json_object_object_add(object, name, json_object_new_int64(number));
}

static json_object *get_member(json_object *object, const char *name, json_type type) {
    json_object *member = NULL;
    return json_object_object_get_ex(object, name, &member) && json_object_is_type(member, type) ? member : NULL;
}

bool document_get_text(json_object *object, const char *name, char *buffer, size_t size) {
    json_object *member = get_member(object, name, json_type_string);
    size_t length = member != NULL ? (size_t)json_object_get_string_len(member) : size;
    const char *text = member != NULL ? json_object_get_string(member) : NULL;
    AUTO_FREE char *printable = length < size && text_is_utf8(text, length) ? strdup(text) : NULL;
    if (printable == NULL)
        return false;
    text_make_printable(printable);
    if (strcmp(printable, text) != 0)
        return false;
    memcpy(buffer, text, length + 1);
    return true;
}

char *document_get_long_text(json_object *object, const char *name) {
    json_object *member = get_member(object, name, json_type_string);
    const char *text = member != NULL ? json_object_get_string(member) : NULL;
    return text != NULL && strlen(text) == (size_t)json_object_get_string_len(member) ? strdup(text) : NULL;
}

char *document_get_object(json_object *object, const char *name) {
    json_object *member = get_member(object, name, json_type_object);
    const char *text = member != NULL ? json_object_to_json_string_ext(member, JSON_C_TO_STRING_PLAIN) : NULL;
    return text != NULL ? strdup(text) : NULL;
}

bool document_get_number(json_object *object, const char *name, int64_t *ret) {
    json_object *member = get_member(object, name, json_type_int);
    *ret = member != NULL ? json_object_get_int64(member) : -1;
    return *ret >= 0;
}

/* json-c has no call for it: the text that it lends is its own copy. */
void document_wipe(json_object *object, const char *name) {
    json_object *member = get_member(object, name, json_type_string);
    if (member != NULL)
        explicit_bzero((char *)json_object_get_string(member), (size_t)json_object_get_string_len(member));
}
