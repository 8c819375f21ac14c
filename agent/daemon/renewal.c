#include "daemon/renewal.h"

#define DAY_USEC (86400ULL * 1000000)

static const unsigned warnings[] = {30, 7, 1}; /* days */

const char *renewal_rule_name(enum renewal_rule rule) {
    switch (rule) {
    case RENEWAL_NEVER:
        return "never";
    case RENEWAL_LIFETIME:
        return "lifetime";
    case RENEWAL_MAX_AGE:
        return "max-age";
    }
    return "never";
}

/* FNV-1a, and the last step of splitmix64: names of devices often differ in their last digit alone. */
static uint64_t hash(const char *text) {
    uint64_t number = 0xcbf29ce484222325ULL;
    for (; *text != '\0'; text++)
        number = (number ^ (unsigned char)*text) * 0x100000001b3ULL;
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9ULL;
    number = (number ^ (number >> 27)) * 0x94d049bb133111ebULL;
    return number ^ (number >> 31);
}

/* percent of it, with the precision that is left: a span of 8000 years times 100 does not fit. */
static uint64_t part_of(uint64_t span_usec, unsigned percent) {
    return span_usec / 100 * percent;
}

static uint64_t spread(uint64_t span_usec, const struct settings *settings, const char *device) {
    uint64_t width = part_of(span_usec, settings->spread_percent);
    return span_usec - width / 65536 * (hash(device) % 65536);
}

/* 0: this rule does not speak. */
static uint64_t by_lifetime(const struct settings *settings, const struct renewal_dates *dates, uint64_t issued_usec,
                            const char *device) {
    uint64_t begin = dates->not_before_usec, end = dates->not_after_usec;
    if (end >= RENEWAL_NO_END_USEC || end <= begin)
        return 0;
    uint64_t after = begin + spread(part_of(end - begin, settings->renew_percent), settings, device);
    if (after > issued_usec)
        return after;
    return issued_usec + spread(part_of(end - issued_usec, settings->renew_percent), settings, device);
}

struct renewal_plan renewal_make_plan(const struct settings *settings, const struct renewal_dates *dates,
                                      const char *device) {
    struct renewal_plan plan = {RENEWAL_NEVER, 0};
    /* By a clock that was wrong then: what the certificate says is the better guess. */
    bool ahead = dates->now_usec != 0 && dates->issued_usec > dates->now_usec + DAY_USEC;
    bool known = !ahead && dates->issued_usec >= dates->not_before_usec && dates->issued_usec < dates->not_after_usec;
    uint64_t issued = known ? dates->issued_usec : dates->not_before_usec;
    uint64_t lifetime = by_lifetime(settings, dates, issued, device);
    if (lifetime != 0)
        plan = (struct renewal_plan){RENEWAL_LIFETIME, lifetime};
    uint64_t max_age = settings->max_age_ms != 0 ? issued + spread(settings->max_age_ms * 1000, settings, device) : 0;
    if (max_age != 0 && (plan.after_usec == 0 || max_age < plan.after_usec))
        plan = (struct renewal_plan){RENEWAL_MAX_AGE, max_age};
    return plan;
}

unsigned renewal_warning_days(uint64_t not_after_usec, uint64_t now_usec) {
    unsigned days = 0;
    for (size_t i = 0; i < sizeof warnings / sizeof *warnings; i++)
        if (now_usec + warnings[i] * DAY_USEC >= not_after_usec)
            days = warnings[i];
    return days;
}

uint64_t renewal_next_warning_usec(uint64_t not_after_usec, uint64_t now_usec) {
    for (size_t i = 0; i < sizeof warnings / sizeof *warnings; i++)
        if (now_usec + warnings[i] * DAY_USEC < not_after_usec)
            return not_after_usec - warnings[i] * DAY_USEC;
    return 0;
}
