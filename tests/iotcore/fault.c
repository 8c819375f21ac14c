#include "fault.h"

#include "json_read.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const operation_names[] = {
    [FAULT_CREATE_KEYS] = "create",  [FAULT_CREATE_FROM_CSR] = "create-from-csr",
    [FAULT_CONNECT] = "connect",     [FAULT_REGISTER_THING] = "register-thing",
    [FAULT_SUBSCRIBE] = "subscribe", [FAULT_PUBLISH] = "publish",
};

static const char *const action_names[] = {
    [FAULT_NONE] = "",         [FAULT_REFUSE] = "refuse", [FAULT_HANGUP] = "hangup",       [FAULT_SILENCE] = "silence",
    [FAULT_REJECT] = "reject", [FAULT_DROP] = "drop",     [FAULT_DELAY] = "delay",         [FAULT_CLOSE] = "close",
    [FAULT_CUT] = "cut",       [FAULT_AMEND] = "amend",   [FAULT_DUPLICATE] = "duplicate", [FAULT_REPLACE] = "replace",
};

/* The place of the text in the list, -1 if it is not there. */
static int find_name(const char *const *names, size_t count, const char *text) {
    for (size_t i = 0; text != NULL && i < count; i++)
        if (strcmp(names[i], text) == 0)
            return (int)i;
    return -1;
}

static int operation_of(struct json_object *fault) {
    return find_name(operation_names, sizeof operation_names / sizeof *operation_names, json_text(fault, "operation"));
}

static enum fault_action action_of(struct json_object *fault) {
    int action = find_name(action_names, sizeof action_names / sizeof *action_names, json_text(fault, "action"));
    return action >= 0 ? (enum fault_action)action : FAULT_NONE;
}

enum fault_operation fault_operation_of(enum topic_operation operation) {
    switch (operation) {
    case TOPIC_CREATE_KEYS:
        return FAULT_CREATE_KEYS;
    case TOPIC_CREATE_FROM_CSR:
        return FAULT_CREATE_FROM_CSR;
    case TOPIC_REGISTER_THING:
        break;
    }
    return FAULT_REGISTER_THING;
}

static enum fault_stage stage_of(enum fault_action action) {
    return action == FAULT_REFUSE || action == FAULT_HANGUP ? FAULT_AT_DOOR : FAULT_AT_WORK;
}

static int64_t number(struct json_object *fault, const char *name, int64_t otherwise) {
    struct json_object *value = json_member(fault, name, json_type_int);
    return value != NULL ? json_object_get_int64(value) : otherwise;
}

static bool is_object(const char *text) {
    AUTO_JSON struct json_object *value = text != NULL ? json_parse(text, strlen(text)) : NULL;
    return json_object_is_type(value, json_type_object);
}

/* A member that nobody looks at is a mistake of the test. */
static bool members_known(struct json_object *fault) {
    static const char *const names[] = {"operation",    "action",     "times",     "who",    "topic",
                                        "milliseconds", "statusCode", "errorCode", "payload"};
    json_object_object_foreach(fault, name, value) {
        (void)value;
        if (find_name(names, sizeof names / sizeof *names, name) < 0)
            return false;
    }
    return true;
}

int fault_add(struct fault_list *list, struct json_object *fault) {
    int operation = operation_of(fault);
    enum fault_action action = action_of(fault);
    const char *who = json_text(fault, "who"), *payload = json_text(fault, "payload");
    if (operation < 0 || action == FAULT_NONE || number(fault, "times", 1) < 0 || !members_known(fault) ||
        (operation > FAULT_REGISTER_THING && stage_of(action) != FAULT_AT_DOOR) ||
        (operation == FAULT_CONNECT && json_text(fault, "topic") != NULL) ||
        (who != NULL && strcmp(who, "claim") != 0 && strcmp(who, "device") != 0) ||
        (action == FAULT_REPLACE && payload == NULL) || (action == FAULT_AMEND && !is_object(payload)) ||
        (action == FAULT_DELAY && number(fault, "milliseconds", -1) < 0))
        return -EINVAL;
    if (list->faults == NULL)
        list->faults = json_object_new_array();
    json_object_array_add(list->faults, json_object_get(fault));
    return 0;
}

static struct fault describe(struct json_object *object) {
    enum fault_action action = action_of(object);
    struct fault fault = {
        .action = action,
        .operation_name = operation_names[operation_of(object)],
        .action_name = action_names[action],
        .milliseconds = (unsigned)number(object, "milliseconds", 0),
        .status_code = (int)number(object, "statusCode", 500),
    };
    const char *code = json_text(object, "errorCode"), *payload = json_text(object, "payload");
    snprintf(fault.error_code, sizeof fault.error_code, "%s", code != NULL ? code : "InternalError");
    fault.payload = payload != NULL ? strdup(payload) : NULL;
    return fault;
}

static bool meets(struct json_object *fault, const struct fault_target *target) {
    const char *who = json_text(fault, "who"), *topic = json_text(fault, "topic");
    return target->operations[operation_of(fault)] && (who == NULL || (strcmp(who, "device") == 0) == target->device) &&
           (topic == NULL || (target->topic != NULL && fnmatch(topic, target->topic, 0) == 0));
}

/* Times 0 stays as it is: no number is left to go down to. */
static void count_down(struct fault_list *list, size_t index) {
    struct json_object *object = json_object_array_get_idx(list->faults, index);
    int64_t times = number(object, "times", 1);
    if (times > 1)
        json_object_object_add(object, "times", json_object_new_int64(times - 1));
    else if (times == 1)
        json_object_array_del_idx(list->faults, index, 1);
}

struct fault fault_take(struct fault_list *list, const struct fault_target *target) {
    size_t count = list->faults != NULL ? json_object_array_length(list->faults) : 0;
    for (size_t i = 0; i < count; i++) {
        struct json_object *object = json_object_array_get_idx(list->faults, i);
        if (!meets(object, target))
            continue;
        if (stage_of(action_of(object)) != target->stage)
            break;
        struct fault fault = describe(object);
        count_down(list, i);
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
