#include "ctl/status-json.h"

#include "common/cleanup.h"

#include <errno.h>
#include <json-c/json.h>

static void object_put(json_object **object) {
    json_object_put(*object);
}
#define AUTO_JSON CLEANUP(object_put)

/* Takes the value; a NULL one is "out of memory", as nothing here makes a JSON null that way. */
static int add(json_object *object, const char *name, json_object *value) {
    if (value == NULL)
        return -ENOMEM;
    if (json_object_object_add(object, name, value) == 0)
        return 0;
    json_object_put(value);
    return -ENOMEM;
}

static json_object *text_object(const char *text) {
    return json_object_new_string(text != NULL ? text : "");
}

static int add_list(json_object *object, const char *name, char *const *list) {
    json_object *array = json_object_new_array();
    for (; array != NULL && list != NULL && *list != NULL; list++) {
        json_object *item = text_object(*list);
        if (item == NULL || json_object_array_add(array, item) < 0) {
            json_object_put(item);
            json_object_put(array);
            return -ENOMEM;
        }
    }
    return add(object, name, array);
}

static json_object *outcome_object(const struct property_outcome *outcome) {
    json_object *object = json_object_new_object();
    if (object != NULL && (add(object, "Name", text_object(outcome->name)) < 0 ||
                           add(object, "Outcome", text_object(outcome->outcome)) < 0 ||
                           add(object, "Message", text_object(outcome->message)) < 0)) {
        json_object_put(object);
        return NULL;
    }
    return object;
}

static int add_outcomes(json_object *object, const char *name, const struct property_outcome *outcomes) {
    json_object *array = json_object_new_array();
    for (; array != NULL && outcomes != NULL && outcomes->name != NULL; outcomes++) {
        json_object *item = outcome_object(outcomes);
        if (item == NULL || json_object_array_add(array, item) < 0) {
            json_object_put(item);
            json_object_put(array);
            return -ENOMEM;
        }
    }
    return add(object, name, array);
}

static int add_error(json_object *object, const char *name, const struct property_error *error) {
    if (error->class == NULL || error->class[0] == '\0')
        return json_object_object_add(object, name, NULL) == 0 ? 0 : -ENOMEM;
    json_object *member = json_object_new_object();
    if (member == NULL)
        return -ENOMEM;
    if (add(member, "Class", text_object(error->class)) < 0 || add(member, "Step", text_object(error->step)) < 0 ||
        add(member, "Message", text_object(error->message)) < 0 ||
        add(member, "Time", json_object_new_uint64(error->time)) < 0) {
        json_object_put(member);
        return -ENOMEM;
    }
    return add(object, name, member);
}

static int add_property(json_object *object, const struct properties *properties, enum property property) {
    const char *name = property_name(property);
    const union property_value *value = &properties->values[property];
    switch (property_type_of(property)) {
    case PROPERTY_TEXT:
        return add(object, name, text_object(value->text));
    case PROPERTY_NUMBER:
        return add(object, name, json_object_new_uint64(value->number));
    case PROPERTY_TIME:
        return add(object, name, json_object_new_uint64(value->time));
    case PROPERTY_LIST:
        return add_list(object, name, value->list);
    case PROPERTY_ERROR:
        return add_error(object, name, &value->error);
    case PROPERTY_OUTCOMES:
        return add_outcomes(object, name, value->outcomes);
    }
    return -EINVAL;
}

int status_json_print(const struct properties *properties) {
    AUTO_JSON json_object *object = json_object_new_object();
    if (object == NULL)
        return -ENOMEM;
    for (enum property property = 0; property < PROPERTY_COUNT; property++)
        if (add_property(object, properties, property) < 0)
            return -ENOMEM;
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    return text != NULL && puts(text) >= 0 ? 0 : -ENOMEM;
}
