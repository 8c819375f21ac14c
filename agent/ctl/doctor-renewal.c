#include "ctl/doctor-renewal.h"

#include "common/step.h"
#include "ctl/in-force.h"
#include "ctl/moment.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAX 1024
#define USEC_PER_DAY (UINT64_C(86400) * 1000000)
#define SOON_USEC (30 * USEC_PER_DAY)
/* 2049-12-31T23:59:59Z: a certificate of AWS's own CA ends then, which is as good as never. */
#define NO_END_USEC (UINT64_C(2524607999) * 1000000)

/* An id has 64 digits. */
#define COMMAND "aws iot update-certificate --certificate-id %.64s --new-status "

/* Something would have it renewed one day: then what is in the way of that matters. */
static bool is_wanted(const struct in_force *settings, const struct properties *properties) {
    return properties->values[PROPERTY_NOT_AFTER].time < NO_END_USEC ||
           in_force_value(settings, "Renewal", "MaxAge")[0] != '\0';
}

static void add_hindrance(const struct properties *properties, struct findings *findings) {
    char text[TEXT_MAX], time[MOMENT_TEXT_MAX];
    uint64_t end = properties->values[PROPERTY_NOT_AFTER].time;
    bool is_soon = end < moment_now() + SOON_USEC;
    snprintf(text, sizeof text, "never, and the certificate ends at %s: %s", moment_format(end, time, sizeof time),
             properties_text(properties, PROPERTY_RENEW_HINDRANCE));
    findings_add(findings, "renewal", is_soon ? "wrong" : "warning", text,
                 "see docs/renewal.md, then `enrollctl reload`");
}

/* Of a renewal, which is tried again. What the cloud has against the identity, or has not taken of a retirement, has
 * rows of its own. */
static const struct property_error *last_failure(const struct properties *properties) {
    const struct property_error *error = &properties->values[PROPERTY_LAST_ERROR].error;
    bool is_of_renewal = error->class != NULL && error->class[0] != '\0' && strcmp(error->step, STEP_RETIRE) != 0 &&
                         properties->values[PROPERTY_ATTEMPT].number > 0 &&
                         properties->values[PROPERTY_NEXT_ATTEMPT].time > 0 &&
                         properties->values[PROPERTY_REFUSED_SINCE].time == 0;
    return is_of_renewal ? error : NULL;
}

static void add_date(const struct properties *properties, const char *date, struct findings *findings) {
    char text[TEXT_MAX], advice[TEXT_MAX], time[MOMENT_TEXT_MAX];
    const struct property_error *error = last_failure(properties);
    if (error == NULL) {
        findings_add(findings, "renewal", "ok", date, "");
        return;
    }
    snprintf(text, sizeof text, "%s; but the last attempt has failed: %s at step %s: %s", date, error->class,
             error->step, error->message);
    snprintf(advice, sizeof advice, "tried again at %s; at once, when it is corrected: `enrollctl renew`",
             moment_format(properties->values[PROPERTY_NEXT_ATTEMPT].time, time, sizeof time));
    findings_add(findings, "renewal", "warning", text, advice);
}

static void add_renewal(const struct in_force *settings, const struct properties *properties,
                        struct findings *findings) {
    char text[TEXT_MAX], time[MOMENT_TEXT_MAX];
    uint64_t after = properties->values[PROPERTY_RENEW_AFTER].time;
    if (after > 0) {
        snprintf(text, sizeof text, "%s, rule %s, method %s", moment_format(after, time, sizeof time),
                 properties_text(properties, PROPERTY_RENEW_RULE), properties_text(properties, PROPERTY_RENEW_METHOD));
        add_date(properties, text, findings);
    } else if (properties_text(properties, PROPERTY_RENEW_HINDRANCE)[0] != '\0' && is_wanted(settings, properties))
        add_hindrance(properties, findings);
    else
        add_date(properties, "never: the certificate has no end, and MaxAge= is not set", findings);
}

static void add_pending(const char *id, bool is_told, struct findings *findings) {
    char text[TEXT_MAX], advice[TEXT_MAX];
    snprintf(text, sizeof text, "the old certificate %s is still active in the cloud", id);
    snprintf(advice, sizeof advice, "%s; by hand: " COMMAND "INACTIVE",
             is_told ? "enrolld goes on telling; does the rule of RetireTopic= work? `journalctl -u enrolld`"
                     : "set RetireTopic= in [Renewal]",
             id);
    findings_add(findings, "retirement", "warning", text, advice);
}

static void add_retirement(const struct in_force *settings, const struct properties *properties,
                           struct findings *findings) {
    char *const *ids = properties->values[PROPERTY_RETIRE_PENDING].list;
    bool is_told = in_force_value(settings, "Renewal", "RetireTopic")[0] != '\0';
    for (char *const *id = ids; id != NULL && *id != NULL; id++)
        add_pending(*id, is_told, findings);
    if (!is_told && (ids == NULL || *ids == NULL) && properties->values[PROPERTY_RENEW_AFTER].time > 0)
        findings_add(findings, "retirement", "warning", "each renewal leaves another certificate active in the cloud",
                     "set RetireTopic= in [Renewal], see docs/renewal.md");
    if (is_told && strcmp(in_force_value(settings, "Renewal", "RetireAcknowledged"), "yes") != 0)
        findings_add(findings, "retirement", "warning",
                     "nobody answers on RetireTopic=: an old certificate that stays active would not be seen",
                     "have the rule answer, as that of etc/aws does, and set RetireAcknowledged=yes");
}

static void add_refusal(const struct properties *properties, struct findings *findings) {
    char text[TEXT_MAX], advice[TEXT_MAX], time[MOMENT_TEXT_MAX];
    uint64_t since = properties->values[PROPERTY_REFUSED_SINCE].time;
    if (since == 0)
        return;
    snprintf(text, sizeof text, "the cloud refuses this identity since %s", moment_format(since, time, sizeof time));
    snprintf(advice, sizeof advice,
             "is its certificate active, has it its policy? " COMMAND "ACTIVE; then `enrollctl check`",
             properties_text(properties, PROPERTY_CERTIFICATE_ID));
    findings_add(findings, "refusal", "wrong", text, advice);
}

void doctor_look_at_renewal(sd_bus *bus, const struct properties *properties, struct findings *findings) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    AUTO_IN_FORCE struct in_force settings = {0};
    if (!properties_provisioned(properties) || in_force_read(bus, &settings, &error) < 0)
        return; /* other rows say why */
    add_renewal(&settings, properties, findings);
    add_retirement(&settings, properties, findings);
    add_refusal(properties, findings);
}
