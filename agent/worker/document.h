/* JSON objects that enrolld itself stores: identity.json, the checkpoint. Pure; the reader takes them as hostile. */
#pragma once

#include <json-c/json.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOCUMENT_MAX (64 * 1024) /* bytes: what the channel carries */

/* The whole text as one JSON object, NULL if it is anything else, too large or too deep. json_object_put() it. */
json_object *document_parse(const char *text, size_t size);

/* The cleanup of a json_object *. */
void document_cleanup(json_object **object);
#define AUTO_DOCUMENT __attribute__((cleanup(document_cleanup)))

/* The text of an object, with a newline at its end; the caller frees it. NULL when out of memory. */
char *document_print(json_object *object);

void document_add_text(json_object *object, const char *name, const char *text);
void document_add_number(json_object *object, const char *name, int64_t number);

/* Copies a text member of one line; false if it is not there, no text, does not fit or has control characters. */
bool document_get_text(json_object *object, const char *name, char *buffer, size_t size);

/* A copy of a text member of any length, which may have newlines but no NUL; NULL if it is not there or not that. The
 * caller frees it. */
char *document_get_long_text(json_object *object, const char *name);

/* A copy of a member that is an object, as text; NULL if it is not there or not that. The caller frees it. */
char *document_get_object(json_object *object, const char *name);

/* False if it is not there, not a whole number or negative. */
bool document_get_number(json_object *object, const char *name, int64_t *ret);

/* Overwrites the text of a member that is secret, before the object is released. */
void document_wipe(json_object *object, const char *name);
