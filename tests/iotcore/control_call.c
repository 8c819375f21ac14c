#include "control_call.h"

#include "json_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int control_invalid(const struct control_call *call, const char *format, ...) {
    va_list arguments;
    char text[200];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return rejection_set(call->rejection, 400, "InvalidRequestException", "%s", text);
}

int control_not_found(const struct control_call *call, const char *what, const char *name) {
    return rejection_set(call->rejection, 404, "ResourceNotFoundException", "%s %.128s not found", what, name);
}

int control_state(const struct control_call *call, const char *format, ...) {
    va_list arguments;
    char text[200];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return rejection_set(call->rejection, 406, "CertificateStateException", "%s", text);
}

int control_out_of_memory(const struct control_call *call) {
    return rejection_set(call->rejection, 500, "InternalFailureException", "Out of memory");
}

static int wrong_type(const struct control_call *call, const char *name) {
    return rejection_set(call->rejection, 400, "SerializationException", "%s has another type than it should", name);
}

/* A member that is null is not there. */
static int find(const struct control_call *call, struct json_object *object, const char *name, enum json_type type,
                struct json_object **ret) {
    struct json_object *value = NULL;
    json_object_object_get_ex(object, name, &value);
    if (value != NULL && !json_object_is_type(value, type))
        return wrong_type(call, name);
    *ret = value;
    return 0;
}

int control_text(const struct control_call *call, struct json_object *object, const char *name, size_t limit,
                 const char **ret) {
    struct json_object *value;
    if (find(call, object, name, json_type_string, &value) < 0)
        return -1;
    const char *text = value != NULL ? json_object_get_string(value) : NULL;
    size_t length = value != NULL ? (size_t)json_object_get_string_len(value) : 0;
    if (length > limit || (text != NULL && strlen(text) != length))
        return control_invalid(call, "%s is longer than %zu, or holds a NUL", name, limit);
    *ret = text;
    return 0;
}

int control_object(const struct control_call *call, const char *name, struct json_object **ret) {
    return find(call, call->body, name, json_type_object, ret);
}

int control_boolean(const struct control_call *call, const char *name, bool *ret) {
    struct json_object *value;
    if (find(call, call->body, name, json_type_boolean, &value) < 0)
        return -1;
    *ret = value != NULL && json_object_get_boolean(value);
    return 0;
}

int control_flag(const struct control_call *call, const char *name, bool *ret) {
    const char *value = control_uri_parameter(call->uri, name);
    if (value != NULL && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        return control_invalid(call, "%s is neither true nor false", name);
    *ret = value != NULL && strcmp(value, "true") == 0;
    return 0;
}

int control_one_of(const struct control_call *call, const char *name, const char *value, const char *const *words) {
    if (value == NULL)
        return 0;
    for (; *words != NULL; words++)
        if (strcmp(*words, value) == 0)
            return 0;
    return control_invalid(call, "%.64s is no value of %s", value, name);
}

int control_certificate_id(const struct control_call *call) {
    size_t length = strlen(call->name);
    if (length != 64 || strspn(call->name, "0123456789abcdefABCDEF") != length)
        return control_invalid(call, "The certificate id is not 64 hexadecimal digits");
    return 0;
}

void control_set(struct json_object *object, const char *name, const char *text) {
    if (text != NULL)
        json_object_object_add(object, name, json_object_new_string(text));
}
