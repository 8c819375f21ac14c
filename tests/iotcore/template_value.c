#include "template_value.h"

#include "common/cleanup.h"
#include "json_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CERTIFICATE_ID "AWS::IoT::Certificate::Id"

typedef int (*function_type)(const struct template_scope *scope, struct json_object *argument, struct json_object **ret,
                             struct rejection *rejection);

static int invalid(struct rejection *rejection, const char *what, const char *function) {
    return rejection_set(rejection, 400, "InvalidParameters", "%s in %s", what, function);
}

static const char *parameter_value(const struct template_scope *scope, const char *name) {
    if (strcmp(name, CERTIFICATE_ID) == 0)
        return scope->certificate_id;
    struct json_object *declaration = json_member(scope->declared, name, json_type_object);
    if (declaration == NULL)
        return NULL;
    const char *given = json_text(scope->given, name);
    return given != NULL ? given : json_text(declaration, "Default");
}

static int resolve_reference(const struct template_scope *scope, struct json_object *argument, struct json_object **ret,
                             struct rejection *rejection) {
    if (!json_object_is_type(argument, json_type_string))
        return invalid(rejection, "The reference is not text", "Ref");
    const char *name = json_object_get_string(argument), *value = parameter_value(scope, name);
    if (value == NULL)
        return rejection_set(rejection, 400, "InvalidParameters", "Cannot resolve reference value: %.128s", name);
    *ret = json_object_new_string(value);
    return 0;
}

/* Resolves the list of arguments of a function; *ret is a list of that many elements. */
static int resolve_arguments(const struct template_scope *scope, struct json_object *argument, size_t count,
                             const char *function, struct json_object **ret, struct rejection *rejection) {
    AUTO_JSON struct json_object *list = NULL;
    if (template_value_resolve(scope, argument, &list, rejection) < 0)
        return -1;
    if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) != count)
        return invalid(rejection, "Wrong number of arguments", function);
    *ret = TAKE_POINTER(list);
    return 0;
}

static const char *text_at(struct json_object *list, size_t index) {
    struct json_object *item = json_object_array_get_idx(list, index);
    return json_object_is_type(item, json_type_string) ? json_object_get_string(item) : NULL;
}

static int resolve_join(const struct template_scope *scope, struct json_object *argument, struct json_object **ret,
                        struct rejection *rejection) {
    AUTO_JSON struct json_object *arguments = NULL;
    if (resolve_arguments(scope, argument, 2, "Fn::Join", &arguments, rejection) < 0)
        return -1;
    const char *delimiter = text_at(arguments, 0);
    struct json_object *list = json_object_array_get_idx(arguments, 1);
    if (delimiter == NULL || !json_object_is_type(list, json_type_array))
        return invalid(rejection, "No delimiter or no list", "Fn::Join");
    AUTO_FREE char *text = NULL;
    size_t size;
    FILE *output = open_memstream(&text, &size);
    bool all_text = output != NULL;
    for (size_t i = 0; all_text && i < json_object_array_length(list); i++) {
        const char *item = text_at(list, i);
        all_text = item != NULL;
        if (all_text)
            fprintf(output, "%s%s", i > 0 ? delimiter : "", item);
    }
    if (output == NULL || fclose(output) != 0 || !all_text)
        return invalid(rejection, "An element is not text", "Fn::Join");
    *ret = json_object_new_string(text);
    return 0;
}

/* The index is a number or, as in the guide's examples, text. */
static int resolve_select(const struct template_scope *scope, struct json_object *argument, struct json_object **ret,
                          struct rejection *rejection) {
    AUTO_JSON struct json_object *arguments = NULL;
    if (resolve_arguments(scope, argument, 2, "Fn::Select", &arguments, rejection) < 0)
        return -1;
    struct json_object *list = json_object_array_get_idx(arguments, 1);
    const char *text = json_object_get_string(json_object_array_get_idx(arguments, 0));
    char *end = NULL;
    unsigned long index = text != NULL ? strtoul(text, &end, 10) : 0;
    if (end == text || *end != '\0' || !json_object_is_type(list, json_type_array) ||
        index >= json_object_array_length(list))
        return invalid(rejection, "The index is out of the list", "Fn::Select");
    *ret = json_object_get(json_object_array_get_idx(list, index));
    return 0;
}

static int resolve_split(const struct template_scope *scope, struct json_object *argument, struct json_object **ret,
                         struct rejection *rejection) {
    AUTO_JSON struct json_object *arguments = NULL;
    if (resolve_arguments(scope, argument, 2, "Fn::Split", &arguments, rejection) < 0)
        return -1;
    const char *delimiter = text_at(arguments, 0), *text = text_at(arguments, 1), *found;
    if (delimiter == NULL || *delimiter == '\0' || text == NULL)
        return invalid(rejection, "No delimiter or no text", "Fn::Split");
    struct json_object *list = json_object_new_array();
    for (; (found = strstr(text, delimiter)) != NULL; text = found + strlen(delimiter))
        json_object_array_add(list, json_object_new_string_len(text, (int)(found - text)));
    json_object_array_add(list, json_object_new_string(text));
    *ret = list;
    return 0;
}

static int resolve_find_in_map(const struct template_scope *scope, struct json_object *argument,
                               struct json_object **ret, struct rejection *rejection) {
    AUTO_JSON struct json_object *arguments = NULL;
    struct json_object *value = scope->mappings;
    if (resolve_arguments(scope, argument, 3, "Fn::FindInMap", &arguments, rejection) < 0)
        return -1;
    for (size_t i = 0; i < 3; i++) {
        const char *key = text_at(arguments, i);
        if (key == NULL || !json_object_is_type(value, json_type_object) ||
            !json_object_object_get_ex(value, key, &value))
            return invalid(rejection, "The mapping has no such key", "Fn::FindInMap");
    }
    *ret = json_object_get(value);
    return 0;
}

/* ${NAME} in the text is one of the values given with the function, else a parameter. */
static int substitute(const struct template_scope *scope, const char *text, struct json_object *values, FILE *output,
                      struct rejection *rejection) {
    const char *start, *end;
    while ((start = strstr(text, "${")) != NULL && (end = strchr(start, '}')) != NULL) {
        AUTO_FREE char *name = strndup(start + 2, (size_t)(end - start - 2));
        const char *value = name != NULL ? json_text(values, name) : NULL;
        if (value == NULL && name != NULL)
            value = parameter_value(scope, name);
        if (value == NULL)
            return rejection_set(rejection, 400, "InvalidParameters", "Cannot resolve reference value: %.128s",
                                 name != NULL ? name : "");
        fprintf(output, "%.*s%s", (int)(start - text), text, value);
        text = end + 1;
    }
    fputs(text, output);
    return 0;
}

static int resolve_sub(const struct template_scope *scope, struct json_object *argument, struct json_object **ret,
                       struct rejection *rejection) {
    AUTO_JSON struct json_object *arguments = NULL;
    AUTO_FREE char *replaced = NULL;
    size_t size;
    struct json_object *values = NULL;
    if (template_value_resolve(scope, argument, &arguments, rejection) < 0)
        return -1;
    const char *text = json_object_get_string(arguments);
    if (json_object_is_type(arguments, json_type_array)) {
        values = json_object_array_get_idx(arguments, 1);
        text = text_at(arguments, 0);
    }
    if (text == NULL)
        return invalid(rejection, "No text", "Fn::Sub");
    FILE *output = open_memstream(&replaced, &size);
    if (output == NULL)
        return rejection_set(rejection, 500, "InternalError", "Out of memory");
    int result = substitute(scope, text, values, output, rejection);
    fclose(output);
    if (result == 0)
        *ret = json_object_new_string(replaced);
    return result;
}

static function_type function_find(const char *name) {
    static const struct {
        const char *name;
        function_type function;
    } functions[] = {
        {"Ref", resolve_reference},
        {"Fn::Join", resolve_join},
        {"Fn::Select", resolve_select},
        {"Fn::Split", resolve_split},
        {"Fn::FindInMap", resolve_find_in_map},
        {"Fn::Sub", resolve_sub},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(functions[i].name, name) == 0)
            return functions[i].function;
    return NULL;
}

static int resolve_list(const struct template_scope *scope, struct json_object *list, struct json_object **ret,
                        struct rejection *rejection) {
    AUTO_JSON struct json_object *resolved = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *item = NULL;
        if (template_value_resolve(scope, json_object_array_get_idx(list, i), &item, rejection) < 0)
            return -1;
        json_object_array_add(resolved, item);
    }
    *ret = TAKE_POINTER(resolved);
    return 0;
}

static int resolve_object(const struct template_scope *scope, struct json_object *object, struct json_object **ret,
                          struct rejection *rejection) {
    AUTO_JSON struct json_object *resolved = json_object_new_object();
    json_object_object_foreach(object, name, value) {
        struct json_object *item = NULL;
        function_type function = json_object_object_length(object) == 1 ? function_find(name) : NULL;
        if (function != NULL)
            return function(scope, value, ret, rejection);
        if (template_value_resolve(scope, value, &item, rejection) < 0)
            return -1;
        json_object_object_add(resolved, name, item);
    }
    *ret = TAKE_POINTER(resolved);
    return 0;
}

/* The parser has bounded the depth of the value, and with it that of the recursion. */
int template_value_resolve(const struct template_scope *scope, struct json_object *value, struct json_object **ret,
                           struct rejection *rejection) {
    if (json_object_is_type(value, json_type_object))
        return resolve_object(scope, value, ret, rejection);
    if (json_object_is_type(value, json_type_array))
        return resolve_list(scope, value, ret, rejection);
    *ret = json_object_get(value);
    return 0;
}

int template_value_text(const struct template_scope *scope, struct json_object *value, char **ret,
                        struct rejection *rejection) {
    AUTO_JSON struct json_object *resolved = NULL;
    if (template_value_resolve(scope, value, &resolved, rejection) < 0)
        return -1;
    if (!json_object_is_type(resolved, json_type_string))
        return rejection_set(rejection, 400, "InvalidParameters", "A value of the template is not text");
    char *text = strdup(json_object_get_string(resolved));
    if (text == NULL)
        return rejection_set(rejection, 500, "InternalError", "Out of memory");
    *ret = text;
    return 0;
}
