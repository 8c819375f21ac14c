#include "fault.h"

#include "json_read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum fault_action parse_action(const char *text) {
    static const char *const names[] = {
        [FAULT_DROP] = "drop",       [FAULT_DELAY] = "delay", [FAULT_DUPLICATE] = "duplicate", [FAULT_CLOSE] = "close",
        [FAULT_REPLACE] = "replace", [FAULT_AMEND] = "amend", [FAULT_REJECT] = "reject",
    };
    for (size_t i = FAULT_DROP; text != NULL && i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], text) == 0)
            return (enum fault_action)i;
    return FAULT_NONE;
}

static int64_t number(struct json_object *fault, const char *name, int64_t otherwise) {
    struct json_object *value = json_member(fault, name, json_type_int);
    return value != NULL ? json_object_get_int64(value) : otherwise;
}

static bool is_object(const char *text) {
    AUTO_JSON struct json_object *value = text != NULL ? json_parse(text, strlen(text)) : NULL;
    return json_object_is_type(value, json_type_object);
}

int fault_add(struct fault_list *list, struct json_object *fault) {
    enum fault_action action = parse_action(json_text(fault, "action"));
    if (action == FAULT_NONE || json_text(fault, "operation") == NULL || number(fault, "times", 1) < 1 ||
        (action == FAULT_REPLACE && json_text(fault, "payload") == NULL) ||
        (action == FAULT_AMEND && !is_object(json_text(fault, "payload"))) ||
        (action == FAULT_DELAY && number(fault, "milliseconds", -1) < 0))
        return -EINVAL;
    if (list->faults == NULL)
        list->faults = json_object_new_array();
    json_object_array_add(list->faults, json_object_get(fault));
    return 0;
}

static struct fault describe(struct json_object *object) {
    struct fault fault = {
        .action = parse_action(json_text(object, "action")),
        .milliseconds = (unsigned)number(object, "milliseconds", 0),
        .status_code = (int)number(object, "statusCode", 500),
    };
    const char *code = json_text(object, "errorCode"), *payload = json_text(object, "payload");
    snprintf(fault.error_code, sizeof fault.error_code, "%s", code != NULL ? code : "InternalError");
    fault.payload = payload != NULL ? strdup(payload) : NULL;
    return fault;
}

struct fault fault_take(struct fault_list *list, enum topic_operation operation) {
    size_t count = list->faults != NULL ? json_object_array_length(list->faults) : 0;
    for (size_t i = 0; i < count; i++) {
        struct json_object *object = json_object_array_get_idx(list->faults, i);
        if (strcmp(json_text(object, "operation"), topic_operation_name(operation)) != 0)
            continue;
        struct fault fault = describe(object);
        int64_t times = number(object, "times", 1);
        if (times > 1)
            json_object_object_add(object, "times", json_object_new_int64(times - 1));
        else
            json_object_array_del_idx(list->faults, i, 1);
        return fault;
    }
    return (struct fault){.action = FAULT_NONE};
}

void fault_clear(struct fault *fault) {
    free(fault->payload);
    *fault = (struct fault){0};
}

void fault_list_clear(struct fault_list *list) {
    json_object_put(list->faults);
    list->faults = NULL;
}
