/* When a certificate gets its successor: pure arithmetic. Times are microseconds since the epoch. */
#pragma once

#include "common/settings.h"

/* Ends of certificates that mean "never": those that AWS IoT issues itself, and RFC 5280's (section 4.1.2.5), are at
 * this date or later: 2049-12-31T23:59:59Z. */
#define RENEWAL_NO_END_USEC (2524607999ULL * 1000000)

enum renewal_rule {
    RENEWAL_NEVER,
    RENEWAL_LIFETIME, /* Lifetime= has passed */
    RENEWAL_MAX_AGE,  /* MaxAge= has */
};

struct renewal_dates {
    uint64_t not_before_usec, not_after_usec; /* of the certificate */
    uint64_t issued_usec;                     /* when it was put into use here, 0 if unknown */
    uint64_t now_usec;                        /* 0: nobody has set the clock */
};

struct renewal_plan {
    enum renewal_rule rule;
    uint64_t after_usec; /* 0: never */
};

/* "never", "lifetime", "max-age" */
const char *renewal_rule_name(enum renewal_rule rule);

/* What comes first of Lifetime= and MaxAge=. Spread= brings it forward, by how much is decided by the name of the
 * device: always the same for one, evenly spread over a fleet that was made on one day. A certificate that was old
 * already when it was put into use here is not renewed at once, and then again: its lifetime counts from then on; but
 * not from a day that has not come yet. */
struct renewal_plan renewal_make_plan(const struct settings *settings, const struct renewal_dates *dates,
                                      const char *device);

/* The last warnings before the end of a certificate that nothing will renew: 30, 7 and 1 days. Which of them holds now
 * (0: none yet), and when the next one comes (0: none does). */
unsigned renewal_warning_days(uint64_t not_after_usec, uint64_t now_usec);
uint64_t renewal_next_warning_usec(uint64_t not_after_usec, uint64_t now_usec);
