/* What org.enrolld1.Agent publishes, as a client sees it: one table of names and types, from which status, --json and
 * monitor are printed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <systemd/sd-bus.h>

/* In the order of the interface's documentation. */
enum property {
    PROPERTY_VERSION,
    PROPERTY_STATE,
    PROPERTY_METHOD,
    PROPERTY_METHODS,
    PROPERTY_STEP,
    PROPERTY_ATTEMPT,
    PROPERTY_NEXT_ATTEMPT,
    PROPERTY_LAST_ERROR,
    PROPERTY_THING_NAME,
    PROPERTY_SERIAL_NUMBER,
    PROPERTY_CERTIFICATE_ID,
    PROPERTY_GENERATION,
    PROPERTY_KEY_BACKEND,
    PROPERTY_KEY_ALGORITHM,
    PROPERTY_KEY_ORIGIN,
    PROPERTY_NOT_BEFORE,
    PROPERTY_NOT_AFTER,
    PROPERTY_RENEW_AFTER,
    PROPERTY_RENEW_RULE,
    PROPERTY_RENEW_METHOD,
    PROPERTY_RENEW_HINDRANCE,
    PROPERTY_RETIRE_PENDING,
    PROPERTY_REFUSED_SINCE,
    PROPERTY_ENDPOINTS,
    PROPERTY_CREDENTIAL_DIRECTORY,
    PROPERTY_VOLATILE_STATE,
};
#define PROPERTY_COUNT (PROPERTY_VOLATILE_STATE + 1)

enum property_type {
    PROPERTY_TEXT,     /* s */
    PROPERTY_NUMBER,   /* u */
    PROPERTY_TIME,     /* t, microseconds since the epoch, 0 for none */
    PROPERTY_LIST,     /* as */
    PROPERTY_ERROR,    /* (ssst): class, step, message, time */
    PROPERTY_OUTCOMES, /* a(sss): name, outcome, message of each method, in their order */
};

struct property_error {
    char *class, *step, *message;
    uint64_t time;
};

/* outcome: "" (not tried), "trying", "done", "unusable" or the class of its failure; message: of that. */
struct property_outcome {
    char *name, *outcome, *message;
};

/* One value; the member that counts follows from property_type_of(). All texts are printable (text_make_printable),
 * and NULL until they were read. */
union property_value {
    char *text;
    uint32_t number;
    uint64_t time;
    char **list; /* ends with NULL */
    struct property_error error;
    struct property_outcome *outcomes; /* ends with a NULL name */
};

struct properties {
    union property_value values[PROPERTY_COUNT];
};

/* The name on D-Bus, "ThingName". */
const char *property_name(enum property property);
enum property_type property_type_of(enum property property);

/* Reads a{sv} from the message's present position; other properties than those above are skipped. Bit 1 << property is
 * set in *ret_changed for each one read. Returns 0 or a negative errno: what was read before it stays. */
int properties_read(struct properties *properties, sd_bus_message *message, uint32_t *ret_changed);

/* Frees the values and makes all of them unread. */
void properties_clear(struct properties *properties);
#define AUTO_PROPERTIES __attribute__((cleanup(properties_clear)))

/* A text, "" if it was not read. */
const char *properties_text(const struct properties *properties, enum property property);

/* True while there is an identity that the device can use, also while it is renewed. */
bool properties_provisioned(const struct properties *properties);

/* True if this is neither the outcome of a method that may still do, nor of one that has done it. */
bool property_outcome_is_failure(const struct property_outcome *outcome);

/* True if there is a value: no empty text or list, no 0. */
bool property_is_set(const struct properties *properties, enum property property);

/* Writes one value on one line, times as local time, nothing for no value. */
void property_print(FILE *stream, const struct properties *properties, enum property property);
