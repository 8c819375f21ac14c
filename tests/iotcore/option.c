#include "option.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct standin_options option_defaults(void) {
    return (struct standin_options){.limit_connects = true, .token_size = 470};
}

static int read_choice(const char *value, const char *const *choices, unsigned *ret) {
    for (unsigned i = 0; choices[i] != NULL; i++)
        if (strcmp(choices[i], value) == 0) {
            *ret = i;
            return 0;
        }
    return -EINVAL;
}

static int read_switch(const char *value, const char *off, const char *on, bool *ret) {
    unsigned choice;
    if (read_choice(value, (const char *const[]){off, on, NULL}, &choice) < 0)
        return -EINVAL;
    *ret = choice == 1;
    return 0;
}

static int read_number(const char *value, double minimum, double maximum, double *ret) {
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !(number >= minimum && number <= maximum))
        return -EINVAL;
    *ret = number;
    return 0;
}

static int read_binding(const char *value, enum token_binding *ret) {
    static const char *const names[] = {[TOKEN_BINDING_NONE] = "none",
                                        [TOKEN_BINDING_PRINCIPAL] = "principal",
                                        [TOKEN_BINDING_CONNECTION] = "connection",
                                        NULL};
    unsigned choice;
    if (read_choice(value, names, &choice) < 0)
        return -EINVAL;
    *ret = (enum token_binding)choice;
    return 0;
}

static int set_number(struct standin_options *options, const char *name, const char *value) {
    double number;
    if (strcmp(name, "token_size") == 0 && read_number(value, 1, 100000, &number) == 0)
        options->token_size = (size_t)number;
    else if (strcmp(name, "disconnect_delay") == 0 && read_number(value, 0, 3600, &number) == 0)
        options->disconnect_delay = (unsigned)number;
    else if (strcmp(name, "propagation") == 0 && read_number(value, 0, 86400, &number) == 0)
        options->propagation = (int64_t)(number * 1000);
    else
        return -EINVAL;
    return 0;
}

int option_set(struct standin_options *options, const char *name, const char *value) {
    if (strcmp(name, "refusal") == 0)
        return read_switch(value, "connack", "close", &options->refuse_by_closing);
    if (strcmp(name, "connect_rate") == 0)
        return read_switch(value, "off", "on", &options->limit_connects);
    if (strcmp(name, "direct_reply") == 0)
        return read_switch(value, "off", "on", &options->reply_unsubscribed);
    if (strcmp(name, "token_reuse") == 0)
        return read_switch(value, "off", "on", &options->token_reuse);
    if (strcmp(name, "token_binding") == 0)
        return read_binding(value, &options->token_binding);
    return set_number(options, name, value);
}

static int set_member(struct standin_options *options, const char *name, struct json_object *value) {
    char key[32];
    size_t length = strlen(name);
    if (length >= sizeof key)
        return -EINVAL;
    for (size_t i = 0; i <= length; i++)
        key[i] = (char)(name[i] == '-' ? '_' : name[i]);
    if (json_object_is_type(value, json_type_boolean))
        return option_set(options, key, json_object_get_boolean(value) ? "on" : "off");
    return value != NULL ? option_set(options, key, json_object_get_string(value)) : -EINVAL;
}

int option_set_all(struct standin_options *options, struct json_object *members) {
    struct standin_options changed = *options;
    json_object_object_foreach(members, name, value) {
        if (set_member(&changed, name, value) < 0)
            return -EINVAL;
    }
    *options = changed;
    return 0;
}
