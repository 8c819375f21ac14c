#include "ctl/properties.h"

#include "common/cleanup.h"
#include "common/text.h"
#include "ctl/moment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum property_type type;
} table[PROPERTY_COUNT] = {
    [PROPERTY_VERSION] = {"Version", PROPERTY_TEXT},
    [PROPERTY_STATE] = {"State", PROPERTY_TEXT},
    [PROPERTY_METHOD] = {"Method", PROPERTY_TEXT},
    [PROPERTY_METHODS] = {"Methods", PROPERTY_OUTCOMES},
    [PROPERTY_STEP] = {"Step", PROPERTY_TEXT},
    [PROPERTY_ATTEMPT] = {"Attempt", PROPERTY_NUMBER},
    [PROPERTY_NEXT_ATTEMPT] = {"NextAttempt", PROPERTY_TIME},
    [PROPERTY_LAST_ERROR] = {"LastError", PROPERTY_ERROR},
    [PROPERTY_THING_NAME] = {"ThingName", PROPERTY_TEXT},
    [PROPERTY_SERIAL_NUMBER] = {"SerialNumber", PROPERTY_TEXT},
    [PROPERTY_CERTIFICATE_ID] = {"CertificateId", PROPERTY_TEXT},
    [PROPERTY_GENERATION] = {"Generation", PROPERTY_NUMBER},
    [PROPERTY_KEY_BACKEND] = {"KeyBackend", PROPERTY_TEXT},
    [PROPERTY_KEY_ALGORITHM] = {"KeyAlgorithm", PROPERTY_TEXT},
    [PROPERTY_KEY_ORIGIN] = {"KeyOrigin", PROPERTY_TEXT},
    [PROPERTY_NOT_BEFORE] = {"NotBefore", PROPERTY_TIME},
    [PROPERTY_NOT_AFTER] = {"NotAfter", PROPERTY_TIME},
    [PROPERTY_RENEW_AFTER] = {"RenewAfter", PROPERTY_TIME},
    [PROPERTY_RENEW_RULE] = {"RenewRule", PROPERTY_TEXT},
    [PROPERTY_RENEW_METHOD] = {"RenewMethod", PROPERTY_TEXT},
    [PROPERTY_RENEW_HINDRANCE] = {"RenewHindrance", PROPERTY_TEXT},
    [PROPERTY_RETIRE_PENDING] = {"RetirePending", PROPERTY_LIST},
    [PROPERTY_REFUSED_SINCE] = {"RefusedSince", PROPERTY_TIME},
    [PROPERTY_ENDPOINTS] = {"Endpoints", PROPERTY_LIST},
    [PROPERTY_CREDENTIAL_DIRECTORY] = {"CredentialDirectory", PROPERTY_TEXT},
    [PROPERTY_VOLATILE_STATE] = {"VolatileState", PROPERTY_TEXT},
};

const char *property_name(enum property property) {
    return table[property].name;
}

enum property_type property_type_of(enum property property) {
    return table[property].type;
}

static void list_free(char **list) {
    for (char **item = list; item != NULL && *item != NULL; item++)
        free(*item);
    free(list);
}

static void outcome_clear(struct property_outcome *outcome) {
    free(outcome->name);
    free(outcome->outcome);
    free(outcome->message);
    *outcome = (struct property_outcome){0};
}

static void outcomes_free(struct property_outcome *outcomes) {
    for (struct property_outcome *outcome = outcomes; outcome != NULL && outcome->name != NULL; outcome++)
        outcome_clear(outcome);
    free(outcomes);
}

static void value_clear(union property_value *value, enum property_type type) {
    switch (type) {
    case PROPERTY_TEXT:
        free(value->text);
        break;
    case PROPERTY_LIST:
        list_free(value->list);
        break;
    case PROPERTY_ERROR:
        free(value->error.class);
        free(value->error.step);
        free(value->error.message);
        break;
    case PROPERTY_OUTCOMES:
        outcomes_free(value->outcomes);
        break;
    case PROPERTY_NUMBER:
    case PROPERTY_TIME:
        break;
    }
    memset(value, 0, sizeof *value); /* {0} would clear its first member only (gcc 15) */
}

void properties_clear(struct properties *properties) {
    for (enum property property = 0; property < PROPERTY_COUNT; property++)
        value_clear(&properties->values[property], table[property].type);
}

static int text_read(sd_bus_message *message, char **ret) {
    const char *borrowed;
    int r = sd_bus_message_read(message, "s", &borrowed);
    if (r < 0)
        return r;
    char *text = strdup(borrowed);
    if (text == NULL)
        return -ENOMEM;
    text_make_printable(text);
    *ret = text;
    return 0;
}

static int error_read(sd_bus_message *message, struct property_error *ret) {
    int r = sd_bus_message_enter_container(message, 'r', "ssst");
    if (r < 0 || (r = text_read(message, &ret->class)) < 0 || (r = text_read(message, &ret->step)) < 0 ||
        (r = text_read(message, &ret->message)) < 0 || (r = sd_bus_message_read(message, "t", &ret->time)) < 0)
        return r;
    return sd_bus_message_exit_container(message);
}

static int list_read(sd_bus_message *message, char ***ret) {
    int r = sd_bus_message_read_strv(message, ret);
    if (r < 0)
        return r;
    if (*ret == NULL) /* an empty array */
        *ret = calloc(1, sizeof **ret);
    for (char **item = *ret; item != NULL && *item != NULL; item++)
        text_make_printable(*item);
    return *ret != NULL ? 0 : -ENOMEM;
}

static int outcome_read(sd_bus_message *message, struct property_outcome *ret) {
    int r = text_read(message, &ret->name);
    if (r >= 0)
        r = text_read(message, &ret->outcome);
    if (r >= 0)
        r = text_read(message, &ret->message);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

/* Reads a method more to the end of the array. */
static int outcome_add(sd_bus_message *message, struct property_outcome **outcomes, size_t count) {
    struct property_outcome *more = realloc(*outcomes, (count + 2) * sizeof *more);
    if (more == NULL)
        return -ENOMEM;
    *outcomes = more;
    memset(more + count, 0, 2 * sizeof *more);
    int r = outcome_read(message, more + count);
    if (r < 0)
        outcome_clear(more + count);
    return r;
}

static int outcomes_read(sd_bus_message *message, struct property_outcome **ret) {
    size_t count = 0;
    int r = sd_bus_message_enter_container(message, 'a', "(sss)");
    while (r >= 0 && (r = sd_bus_message_enter_container(message, 'r', "sss")) > 0)
        r = outcome_add(message, ret, count++);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int value_read(sd_bus_message *message, enum property_type type, union property_value *ret) {
    switch (type) {
    case PROPERTY_TEXT:
        return text_read(message, &ret->text);
    case PROPERTY_NUMBER:
        return sd_bus_message_read(message, "u", &ret->number);
    case PROPERTY_TIME:
        return sd_bus_message_read(message, "t", &ret->time);
    case PROPERTY_LIST:
        return list_read(message, &ret->list);
    case PROPERTY_ERROR:
        return error_read(message, &ret->error);
    case PROPERTY_OUTCOMES:
        return outcomes_read(message, &ret->outcomes);
    }
    return -EINVAL;
}

static int variant_read(sd_bus_message *message, enum property property, union property_value *ret) {
    static const char *const signatures[] = {
        [PROPERTY_TEXT] = "s",  [PROPERTY_NUMBER] = "u",     [PROPERTY_TIME] = "t",
        [PROPERTY_LIST] = "as", [PROPERTY_ERROR] = "(ssst)", [PROPERTY_OUTCOMES] = "a(sss)",
    };
    enum property_type type = table[property].type;
    union property_value value;
    memset(&value, 0, sizeof value);
    int r = sd_bus_message_enter_container(message, 'v', signatures[type]);
    if (r < 0)
        return r;
    r = value_read(message, type, &value);
    if (r < 0) {
        value_clear(&value, type);
        return r;
    }
    value_clear(ret, type);
    *ret = value;
    return sd_bus_message_exit_container(message);
}

static int entry_read(struct properties *properties, sd_bus_message *message, uint32_t *changed) {
    const char *name;
    int r = sd_bus_message_read(message, "s", &name);
    if (r < 0)
        return r;
    for (enum property property = 0; property < PROPERTY_COUNT; property++)
        if (strcmp(name, table[property].name) == 0) {
            *changed |= UINT32_C(1) << property;
            return variant_read(message, property, &properties->values[property]);
        }
    return sd_bus_message_skip(message, "v");
}

int properties_read(struct properties *properties, sd_bus_message *message, uint32_t *ret_changed) {
    uint32_t changed = 0;
    int r = sd_bus_message_enter_container(message, 'a', "{sv}");
    while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
        r = entry_read(properties, message, &changed);
        if (r >= 0)
            r = sd_bus_message_exit_container(message);
    }
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    if (r < 0)
        return r;
    *ret_changed = changed;
    return 0;
}

const char *properties_text(const struct properties *properties, enum property property) {
    const char *text = properties->values[property].text;
    return text != NULL ? text : "";
}

bool properties_provisioned(const struct properties *properties) {
    const char *state = properties_text(properties, PROPERTY_STATE);
    return strcmp(state, "provisioned") == 0 || strcmp(state, "renewing") == 0;
}

static void error_print(FILE *stream, const struct property_error *error) {
    char time[MOMENT_TEXT_MAX];
    if (error->class != NULL && error->class[0] != '\0')
        fprintf(stream, "%s: %s: %s (%s)", error->class, error->step, error->message,
                moment_format(error->time, time, sizeof time));
}

bool property_outcome_is_failure(const struct property_outcome *outcome) {
    return outcome->outcome[0] != '\0' && strcmp(outcome->outcome, "trying") != 0 &&
           strcmp(outcome->outcome, "done") != 0;
}

static void outcomes_print(FILE *stream, const struct property_outcome *outcomes) {
    for (const struct property_outcome *outcome = outcomes; outcome != NULL && outcome->name != NULL; outcome++)
        fprintf(stream, "%s%s%s%s%s%s", outcome == outcomes ? "" : "; ", outcome->name,
                outcome->outcome[0] != '\0' ? ": " : "", outcome->outcome, outcome->message[0] != '\0' ? ": " : "",
                outcome->message);
}

bool property_is_set(const struct properties *properties, enum property property) {
    const union property_value *value = &properties->values[property];
    switch (table[property].type) {
    case PROPERTY_TEXT:
        return value->text != NULL && value->text[0] != '\0';
    case PROPERTY_NUMBER:
        return value->number != 0;
    case PROPERTY_TIME:
        return value->time != 0;
    case PROPERTY_LIST:
        return value->list != NULL && value->list[0] != NULL;
    case PROPERTY_ERROR:
        return value->error.class != NULL && value->error.class[0] != '\0';
    case PROPERTY_OUTCOMES:
        return value->outcomes != NULL && value->outcomes[0].name != NULL;
    }
    return false;
}

void property_print(FILE *stream, const struct properties *properties, enum property property) {
    const union property_value *value = &properties->values[property];
    char time[MOMENT_TEXT_MAX];
    switch (table[property].type) {
    case PROPERTY_TEXT:
        fputs(properties_text(properties, property), stream);
        break;
    case PROPERTY_NUMBER:
        fprintf(stream, "%" PRIu32, value->number);
        break;
    case PROPERTY_TIME:
        fputs(value->time > 0 ? moment_format(value->time, time, sizeof time) : "", stream);
        break;
    case PROPERTY_LIST:
        for (char **item = value->list; item != NULL && *item != NULL; item++)
            fprintf(stream, "%s%s", item == value->list ? "" : " ", *item);
        break;
    case PROPERTY_ERROR:
        error_print(stream, &value->error);
        break;
    case PROPERTY_OUTCOMES:
        outcomes_print(stream, value->outcomes);
        break;
    }
}
