#include "daemon/renewal.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

#define DAY 86400000000ULL
#define BEGIN (20000 * DAY) /* 2024-10-04 */

static const struct settings usual = {.renew_percent = 66};

static struct renewal_plan plan(const struct settings *settings, uint64_t days, uint64_t issued_after_days,
                                const char *device) {
    const struct renewal_dates dates = {
        .not_before_usec = BEGIN, .not_after_usec = BEGIN + days * DAY, .issued_usec = BEGIN + issued_after_days * DAY};
    return renewal_make_plan(settings, &dates, device);
}

static void test_lifetime(void) {
    struct renewal_plan made = plan(&usual, 100, 0, "sn-1");
    ASSERT_NUMBER(made.rule, RENEWAL_LIFETIME);
    ASSERT_NUMBER(made.after_usec, BEGIN + 66 * DAY);
}

/* AWS IoT's own certificates end at this second, and nobody means that as a date. */
static void test_no_end(void) {
    struct renewal_dates dates = {BEGIN, RENEWAL_NO_END_USEC, BEGIN, 0};
    ASSERT_NUMBER(renewal_make_plan(&usual, &dates, "sn-1").rule, RENEWAL_NEVER);
    ASSERT_NUMBER(renewal_make_plan(&usual, &dates, "sn-1").after_usec, 0);
    dates.not_after_usec -= 1000000;
    ASSERT_NUMBER(renewal_make_plan(&usual, &dates, "sn-1").rule, RENEWAL_LIFETIME);
    dates.not_after_usec = 253402300799ULL * 1000000; /* RFC 5280: 9999-12-31T23:59:59Z */
    ASSERT_NUMBER(renewal_make_plan(&usual, &dates, "sn-1").rule, RENEWAL_NEVER);
}

static void test_max_age(void) {
    struct settings settings = usual;
    settings.max_age_ms = 30 * DAY / 1000;
    struct renewal_plan made = plan(&settings, 100, 10, "sn-1");
    ASSERT_NUMBER(made.rule, RENEWAL_MAX_AGE);
    ASSERT_NUMBER(made.after_usec, BEGIN + 40 * DAY);
    made = plan(&settings, 30, 0, "sn-1"); /* what comes first */
    ASSERT_NUMBER(made.rule, RENEWAL_LIFETIME);
    const struct renewal_dates endless = {BEGIN, RENEWAL_NO_END_USEC, BEGIN, 0};
    ASSERT_NUMBER(renewal_make_plan(&settings, &endless, "sn-1").after_usec, BEGIN + 30 * DAY);
}

/* A clock that was wrong when the certificate came must not put its renewal off. */
static void test_issued_by_a_wrong_clock(void) {
    struct settings settings = usual;
    settings.max_age_ms = 30 * DAY / 1000;
    const struct renewal_dates future = {BEGIN, RENEWAL_NO_END_USEC, RENEWAL_NO_END_USEC + DAY, 0};
    ASSERT_NUMBER(renewal_make_plan(&settings, &future, "sn-1").after_usec, BEGIN + 30 * DAY);
    const struct renewal_dates past = {BEGIN, RENEWAL_NO_END_USEC, BEGIN - 900 * DAY, 0};
    ASSERT_NUMBER(renewal_make_plan(&settings, &past, "sn-1").after_usec, BEGIN + 30 * DAY);
    const struct renewal_dates unknown = {BEGIN, RENEWAL_NO_END_USEC, 0, 0};
    ASSERT_NUMBER(renewal_make_plan(&settings, &unknown, "sn-1").after_usec, BEGIN + 30 * DAY);
}

/* A clock that is right now knows what one that was years ahead did not. */
static void test_issued_in_the_future(void) {
    struct settings settings = usual;
    settings.max_age_ms = 30 * DAY / 1000;
    struct renewal_dates dates = {BEGIN, RENEWAL_NO_END_USEC, BEGIN + 4000 * DAY, BEGIN + 3 * DAY};
    ASSERT_NUMBER(renewal_make_plan(&settings, &dates, "sn-1").after_usec, BEGIN + 30 * DAY);
    dates.now_usec = 0;
    ASSERT_NUMBER(renewal_make_plan(&settings, &dates, "sn-1").after_usec, BEGIN + 4030 * DAY);
    dates = (struct renewal_dates){BEGIN, RENEWAL_NO_END_USEC, BEGIN + 3 * DAY + DAY / 2, BEGIN + 3 * DAY};
    ASSERT_NUMBER(renewal_make_plan(&settings, &dates, "sn-1").after_usec, BEGIN + 33 * DAY + DAY / 2);
}

/* From a stock that has lain for long: not renewed at once, nor again and again by an issuer that backdates. */
static void test_old_when_it_came(void) {
    struct renewal_plan made = plan(&usual, 100, 80, "sn-1");
    ASSERT_NUMBER(made.rule, RENEWAL_LIFETIME);
    ASSERT_NUMBER(made.after_usec, BEGIN + 80 * DAY + 20 * DAY / 100 * 66);
}

/* A fleet that was made on one day: each tenth of the spread gets about a tenth of it, and a device always the same. */
static void test_spread(void) {
    struct settings settings = usual;
    unsigned tenths[10] = {0};
    settings.spread_percent = 10;
    uint64_t latest = BEGIN + 66 * DAY, width = 66 * DAY / 10;
    for (int i = 0; i < 10000; i++) {
        char device[32];
        snprintf(device, sizeof device, "SN-2026-%06d", i);
        uint64_t after = plan(&settings, 100, 0, device).after_usec;
        if (after > latest || after < latest - width) {
            ASSERT_NUMBER(after, latest);
            return;
        }
        tenths[(latest - after) * 10 / (width + 1)]++;
        if (after != plan(&settings, 100, 0, device).after_usec)
            ASSERT_NUMBER(after, plan(&settings, 100, 0, device).after_usec);
    }
    for (int i = 0; i < 10; i++)
        if (tenths[i] < 880 || tenths[i] > 1120)
            ASSERT_NUMBER(tenths[i], 1000);
}

static void test_extremes(void) {
    struct settings settings = usual;
    settings.renew_percent = 95;
    settings.spread_percent = 50;
    settings.max_age_ms = 36500ULL * DAY / 1000;
    struct renewal_dates dates = {0, UINT64_MAX / 2, 0, 0};
    ASSERT_NUMBER(renewal_make_plan(&settings, &dates, "").rule, RENEWAL_MAX_AGE);
    dates = (struct renewal_dates){BEGIN, BEGIN, BEGIN, 0}; /* no time at all */
    ASSERT_NUMBER(renewal_make_plan(&usual, &dates, "").rule, RENEWAL_NEVER);
    dates = (struct renewal_dates){BEGIN, BEGIN - DAY, BEGIN, 0};
    ASSERT_NUMBER(renewal_make_plan(&usual, &dates, "").rule, RENEWAL_NEVER);
}

static void test_warnings(void) {
    const uint64_t end = BEGIN + 100 * DAY;
    ASSERT_NUMBER(renewal_warning_days(end, BEGIN), 0);
    ASSERT_NUMBER(renewal_next_warning_usec(end, BEGIN), end - 30 * DAY);
    ASSERT_NUMBER(renewal_warning_days(end, end - 30 * DAY), 30);
    ASSERT_NUMBER(renewal_next_warning_usec(end, end - 30 * DAY), end - 7 * DAY);
    ASSERT_NUMBER(renewal_warning_days(end, end - 7 * DAY), 7);
    ASSERT_NUMBER(renewal_next_warning_usec(end, end - 7 * DAY), end - DAY);
    ASSERT_NUMBER(renewal_warning_days(end, end - DAY), 1);
    ASSERT_NUMBER(renewal_next_warning_usec(end, end - DAY), 0);
    ASSERT_NUMBER(renewal_warning_days(end, end + DAY), 1);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"a fraction of the lifetime", test_lifetime},
        {"a certificate without an end", test_no_end},
        {"an age", test_max_age},
        {"a clock that was wrong when it came", test_issued_by_a_wrong_clock},
        {"a clock that was ahead when it came", test_issued_in_the_future},
        {"a certificate that was old when it came", test_old_when_it_came},
        {"a fleet is spread evenly, and each device stays at its place", test_spread},
        {"absurd dates and settings", test_extremes},
        {"warnings before the end", test_warnings},
        {NULL, NULL},
    };
    return unit_run("renewal", tests, argc, argv);
}
