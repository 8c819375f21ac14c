#include "ctl/status.h"

#include "ctl/moment.h"
#include "ctl/status-json.h"
#include "ctl/steps.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The certificate id is 64 hex digits (AWS IoT API reference, CertificateId); the first ones tell it from others. */
#define CERTIFICATE_ID_SHORT 16

#define LABEL_WIDTH 15

static void print_label(const char *label) {
    printf("%*s ", LABEL_WIDTH - 1, label);
}

static void print_text(const char *label, const char *text) {
    if (text[0] == '\0')
        return;
    print_label(label);
    terminal_print_wrapped(text, LABEL_WIDTH, LABEL_WIDTH);
}

static void print_property(const char *label, const struct properties *properties, enum property property) {
    print_text(label, properties_text(properties, property));
}

static void print_moment(const char *label, uint64_t moment) {
    char time[MOMENT_TEXT_MAX], distance[MOMENT_TEXT_MAX];
    print_label(label);
    printf("%s, %s\n", moment_distance(moment, moment_now(), distance, sizeof distance),
           moment_format(moment, time, sizeof time));
}

enum terminal_colour status_colour(const struct properties *properties) {
    if (properties_provisioned(properties))
        return TERMINAL_GREEN;
    return strcmp(properties_text(properties, PROPERTY_STATE), "failed") == 0 ? TERMINAL_RED : TERMINAL_YELLOW;
}

static void print_state(const struct properties *properties) {
    enum terminal_colour colour = status_colour(properties);
    print_label("State:");
    printf("%s%s%s\n", terminal_colour(colour), properties_text(properties, PROPERTY_STATE), terminal_plain());
}

static void print_certificate_id(const char *id) {
    printf("%.*s%s", CERTIFICATE_ID_SHORT, id, strlen(id) > CERTIFICATE_ID_SHORT ? "..." : "");
}

static void print_certificate(const struct properties *properties) {
    print_label("Certificate:");
    print_certificate_id(properties_text(properties, PROPERTY_CERTIFICATE_ID));
    printf(", generation %" PRIu32 "\n", properties->values[PROPERTY_GENERATION].number);
    print_moment("Valid from:", properties->values[PROPERTY_NOT_BEFORE].time);
    print_moment("Valid to:", properties->values[PROPERTY_NOT_AFTER].time);
}

/* RenewRule in words; as it is if this is an older enrollctl than the daemon. */
static const char *rule_text(const char *rule) {
    static const struct {
        const char *rule, *text;
    } table[] = {
        {"lifetime", "by its lifetime"},
        {"max-age", "by MaxAge="},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(rule, table[i].rule) == 0)
            return table[i].text;
    return rule;
}

static void print_never(const struct properties *properties) {
    const char *hindrance = properties_text(properties, PROPERTY_RENEW_HINDRANCE);
    print_label("Renewal:");
    printf("never: ");
    terminal_print_wrapped(hindrance[0] != '\0' ? hindrance : "it has no end, and MaxAge= is not set", LABEL_WIDTH,
                           LABEL_WIDTH + strlen("never: "));
}

/* When, by which rule and which method; or why never. */
static void print_renewal(const struct properties *properties) {
    char time[MOMENT_TEXT_MAX], distance[MOMENT_TEXT_MAX];
    const char *rule = properties_text(properties, PROPERTY_RENEW_RULE);
    const char *method = properties_text(properties, PROPERTY_RENEW_METHOD);
    uint64_t after = properties->values[PROPERTY_RENEW_AFTER].time, now = moment_now();
    if (strcmp(rule, "never") == 0)
        print_never(properties);
    if (after == 0)
        return;
    print_label("Renewal:");
    printf("%s, %s", after > now ? moment_distance(after, now, distance, sizeof distance) : "due",
           moment_format(after, time, sizeof time));
    printf("%s%s%s%s\n", rule[0] != '\0' ? ", " : "", rule_text(rule), method[0] != '\0' ? ", method " : "", method);
}

/* What the cloud has against it, and what it still knows of those before. */
static void print_cloud(const struct properties *properties) {
    uint64_t refused = properties->values[PROPERTY_REFUSED_SINCE].time;
    if (refused > 0) {
        printf("%s", terminal_colour(TERMINAL_RED));
        print_moment("Refused since:", refused);
        printf("%s", terminal_plain());
    }
    for (char *const *id = properties->values[PROPERTY_RETIRE_PENDING].list; id != NULL && *id != NULL; id++) {
        print_label("Not retired:");
        print_certificate_id(*id);
        puts(", old certificate still active in the cloud");
    }
}

/* KeyOrigin in words; as it is if this is an older enrollctl than the daemon. */
static const char *origin_text(const char *origin) {
    static const struct {
        const char *origin, *text;
    } table[] = {
        {"tpm", "made in the TPM"},
        {"imported", "imported into the TPM"},
        {"cloud", "made in the cloud"},
        {"vendor", "made by the chip's vendor"},
        {"file", "made in software: nothing protects it but file permissions"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(origin, table[i].origin) == 0)
            return table[i].text;
    return origin;
}

static void print_identity(const struct properties *properties) {
    print_property("Thing:", properties, PROPERTY_THING_NAME);
    print_property("Serial number:", properties, PROPERTY_SERIAL_NUMBER);
    print_certificate(properties);
    print_renewal(properties);
    print_cloud(properties);
    print_label("Key:");
    printf("%s, %s, %s\n", properties_text(properties, PROPERTY_KEY_BACKEND),
           properties_text(properties, PROPERTY_KEY_ALGORITHM),
           origin_text(properties_text(properties, PROPERTY_KEY_ORIGIN)));
    print_property("Credentials:", properties, PROPERTY_CREDENTIAL_DIRECTORY);
}

static void print_step(const struct properties *properties) {
    const char *step = properties_text(properties, PROPERTY_STEP), *words = step_describe(step);
    if (step[0] == '\0')
        return;
    print_label("Step:");
    printf("%s%s%s\n", step, words != NULL ? ", " : "", words != NULL ? words : "");
}

static void print_attempt(const struct properties *properties) {
    uint32_t attempt = properties->values[PROPERTY_ATTEMPT].number;
    uint64_t next = properties->values[PROPERTY_NEXT_ATTEMPT].time;
    print_step(properties);
    if (attempt > 0) {
        print_label("Attempt:");
        printf("%" PRIu32 "\n", attempt);
    }
    if (next > 0)
        print_moment("Next attempt:", next);
}

static void print_last_error(const struct property_error *error) {
    char time[MOMENT_TEXT_MAX], distance[MOMENT_TEXT_MAX];
    if (error->class == NULL || error->class[0] == '\0')
        return;
    print_label("Last error:");
    printf("%s%s%s at step %s, %s, %s\n", terminal_colour(TERMINAL_RED), error->class, terminal_plain(), error->step,
           moment_distance(error->time, moment_now(), distance, sizeof distance),
           moment_format(error->time, time, sizeof time));
    print_text("", error->message);
}

static void print_outcome(const struct property_outcome *outcome, const char *message, bool is_bad) {
    const char *said = outcome->outcome[0] != '\0' ? outcome->outcome : "not tried";
    printf("%s, %s%s%s", outcome->name, is_bad ? terminal_colour(TERMINAL_RED) : "", said,
           is_bad ? terminal_plain() : "");
    if (message[0] != '\0')
        printf(": ");
    terminal_print_wrapped(message, LABEL_WIDTH, LABEL_WIDTH + strlen(outcome->name) + strlen(said) + 4);
}

/* What each method has come to, where there is a choice: of a single one the rest tells. So does the last error what
 * the method said that it is of. */
static void print_methods(const struct properties *properties) {
    const struct property_outcome *outcomes = properties->values[PROPERTY_METHODS].outcomes, *outcome;
    const char *last = properties->values[PROPERTY_LAST_ERROR].error.message;
    if (outcomes == NULL || outcomes->name == NULL || outcomes[1].name == NULL)
        return;
    for (outcome = outcomes; outcome->name != NULL; outcome++) {
        bool is_told = last != NULL && strcmp(outcome->message, last) == 0;
        print_label(outcome == outcomes ? "Methods:" : "");
        print_outcome(outcome, is_told ? "" : outcome->message,
                      property_outcome_is_failure(outcome) && !properties_provisioned(properties));
    }
}

static void print_endpoints(const struct properties *properties) {
    char *const *list = properties->values[PROPERTY_ENDPOINTS].list;
    if (list == NULL || *list == NULL)
        return;
    print_label("Endpoint:");
    property_print(stdout, properties, PROPERTY_ENDPOINTS);
    puts("");
}

static void print_volatile_state(const struct properties *properties) {
    if (strcmp(properties_text(properties, PROPERTY_VOLATILE_STATE), "yes") != 0)
        return;
    print_label("Warning:");
    printf("%s", terminal_colour(TERMINAL_YELLOW));
    terminal_print_wrapped("the state directory is in memory: at the next boot this identity is gone, and another one "
                           "costs another certificate",
                           LABEL_WIDTH, LABEL_WIDTH);
    printf("%s", terminal_plain());
}

static void print_status(const struct properties *properties) {
    print_state(properties);
    print_property("Method:", properties, PROPERTY_METHOD);
    print_methods(properties);
    if (properties_text(properties, PROPERTY_CERTIFICATE_ID)[0] != '\0')
        print_identity(properties);
    print_endpoints(properties);
    print_attempt(properties);
    if (properties_provisioned(properties))
        print_volatile_state(properties);
    print_last_error(&properties->values[PROPERTY_LAST_ERROR].error);
}

enum exit_code status_run(sd_bus *bus, bool json) {
    AUTO_PROPERTIES struct properties properties = {0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = bus_get_properties(bus, BUS_USUAL_TIMEOUT, &properties, &error);
    if (r < 0)
        return bus_complain("cannot read the status", r, &error);
    if (!json)
        print_status(&properties);
    else if ((r = status_json_print(&properties)) < 0)
        return bus_complain("cannot print the status", r, &error);
    return properties_provisioned(&properties) ? EXIT_CODE_DONE : EXIT_CODE_NOT_PROVISIONED;
}
