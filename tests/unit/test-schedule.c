#include "daemon/retry.h"
#include "daemon/schedule.h"
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct retry_range network = {.base_ms = 2000, .cap_ms = 900000};

/* A fixed sequence (xorshift64*), so that a failure can be repeated. */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

static void test_bounds(void) {
    uint64_t state = 1;
    for (uint32_t attempt = 1; attempt <= 40; attempt++) {
        uint64_t limit = attempt < 10 ? 2000ULL << (attempt - 1) : 900000;
        for (int i = 0; i < 2000; i++) {
            uint64_t delay = schedule_delay_ms(&network, attempt, 0, next_random(&state));
            if (delay < 1000 || delay > (limit < 900000 ? limit : 900000)) {
                ASSERT_NUMBER(delay, limit);
                return;
            }
        }
    }
}

/* Full jitter: each tenth of the range gets about a tenth of a fleet. */
static void test_spread(void) {
    unsigned tenths[10] = {0};
    uint64_t state = 2;
    for (int i = 0; i < 100000; i++)
        tenths[schedule_delay_ms(&network, 30, 0, next_random(&state)) * 10 / 900001]++;
    for (int i = 0; i < 10; i++)
        if (tenths[i] < 9500 || tenths[i] > 10500)
            ASSERT_NUMBER(tenths[i], 10000);
}

static void test_extremes(void) {
    ASSERT_NUMBER(schedule_delay_ms(&network, 1, 0, 0), 1000);
    ASSERT_NUMBER(schedule_delay_ms(&network, 1, 0, 2000), 2000);
    ASSERT_NUMBER(schedule_delay_ms(&network, 2, 0, 4000), 4000);
    ASSERT_NUMBER(schedule_delay_ms(&network, 0, 0, 2000), 2000);
    ASSERT_NUMBER(schedule_delay_ms(&network, 200, 0, 900000), 900000);
    ASSERT_NUMBER(schedule_delay_ms(&network, UINT32_MAX, 0, 900000), 900000);
    const struct retry_range year = {.base_ms = 1, .cap_ms = 365ULL * 86400 * 1000};
    ASSERT_NUMBER(schedule_delay_ms(&year, 200, 0, year.cap_ms), year.cap_ms);
}

/* A base below a second is its own lower bound. */
static void test_short_base(void) {
    const struct retry_range range = {.base_ms = 20, .cap_ms = 50};
    ASSERT_NUMBER(schedule_delay_ms(&range, 1, 0, 0), 20);
    ASSERT_NUMBER(schedule_delay_ms(&range, 9, 0, 50), 50);
}

static void test_retry_after(void) {
    ASSERT_NUMBER(schedule_delay_ms(&network, 1, 30, 0), 30000);
    ASSERT_NUMBER(schedule_delay_ms(&network, 9, 30, 400000), 400000);
    ASSERT_NUMBER(schedule_delay_ms(&network, 1, 3600, 7), 3600000);
    ASSERT_NUMBER(schedule_delay_ms(&network, 1, UINT32_MAX, UINT64_MAX), UINT32_MAX * 1000LL);
}

static void test_clamp(void) {
    ASSERT_NUMBER(schedule_clamp(&network, 20, 0, 500, 1000), 500);
    ASSERT_NUMBER(schedule_clamp(&network, 20, 0, 1000 + 900000000LL, 1000), 1000 + 900000000LL);
    ASSERT_NUMBER(schedule_clamp(&network, 20, 0, UINT64_MAX, 1000), 1000 + 900000000LL);
    ASSERT_NUMBER(schedule_clamp(&network, 1, 0, UINT64_MAX, 1000), 1000 + 2000000LL);
    ASSERT_NUMBER(schedule_clamp(&network, 3, 0, UINT64_MAX, 1000), 1000 + 8000000LL);
    ASSERT_NUMBER(schedule_clamp(&network, 3, 0, 1000 + 7000000LL, 1000), 1000 + 7000000LL);
    ASSERT_NUMBER(schedule_clamp(&network, 1, 30, UINT64_MAX, 1000), 1000 + 30000000LL);
    ASSERT_NUMBER(schedule_clamp(&network, 20, 30, UINT64_MAX, 1000), 1000 + 900000000LL);
}

static void test_needs_operator(void) {
    for (int class = 0; class < FAILURE_CLASS_COUNT; class ++)
        ASSERT_NUMBER(schedule_needs_operator((enum failure_class) class),
                      class == FAILURE_DENIED || class == FAILURE_INVALID);
}

static void test_record(void) {
    const struct retry retry = {
        .attempts = UINT32_MAX, .begun = true, .class = FAILURE_CLOUD_BUSY, .next_usec = UINT64_MAX, .asked_s = 600};
    struct retry again = {0};
    char text[RETRY_TEXT_MAX];
    retry_format(&retry, text);
    ASSERT_TEXT(text, "attempts=4294967295\nbegun=yes\nclass=cloud-busy\nnext=18446744073709551615\nasked=600\n");
    ASSERT_NUMBER(retry_parse(text, &again), 0);
    ASSERT_NUMBER(again.attempts, retry.attempts);
    ASSERT_NUMBER(again.begun, 1);
    ASSERT_NUMBER(again.class, FAILURE_CLOUD_BUSY);
    ASSERT_NUMBER(again.next_usec == UINT64_MAX, 1);
    ASSERT_NUMBER(again.asked_s, 600);
}

static void test_record_of_older_version(void) {
    struct retry retry = {.asked_s = 7};
    ASSERT_NUMBER(retry_parse("attempts=2\nbegun=no\nclass=tpm\nnext=5\n", &retry), 0);
    ASSERT_NUMBER(retry.attempts, 2);
    ASSERT_NUMBER(retry.asked_s, 0);
}

/* The times of the rest are good without it. */
static void test_bad_request_of_a_server(void) {
    static const char *const bad[] = {"asked=86401\n", "asked=-1\n", "asked=\n", "asked=1\nasked=1\n"};
    char text[RETRY_TEXT_MAX];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct retry retry = {.asked_s = 7};
        snprintf(text, sizeof text, "attempts=2\nbegun=no\nclass=tpm\nnext=5\n%s", bad[i]);
        ASSERT_NUMBER(retry_parse(text, &retry), 0);
        ASSERT_NUMBER(retry.attempts, 2);
        ASSERT_NUMBER(retry.asked_s, 0);
    }
}

/* An older program must get along with the file of a newer one: an A/B system may go back. */
static void test_record_of_newer_version(void) {
    struct retry retry = {0};
    ASSERT_NUMBER(retry_parse("colour=blue\nattempts=2\nbegun=no\nclass=tpm\nnext=5\n", &retry), 0);
    ASSERT_NUMBER(retry.attempts, 2);
    ASSERT_NUMBER(retry_parse("next=6\nnext-but-one=a value=longer than those that are known\nbegun=no\n=\n"
                              "class=tpm\nattempts=3\n",
                              &retry),
                  0);
    ASSERT_NUMBER(retry.attempts, 3);
    ASSERT_NUMBER(retry.next_usec, 6);
}

static void test_bad_records(void) {
    static const char *const bad[] = {
        "",
        "\n",
        "attempts=1\nbegun=no\nclass=tpm\n",
        "attempts=1\nbegun=no\nclass=tpm\nnext=5",
        "attempts=1\nbegun=no\nclass=tpm\nnext=\n",
        "attempts=-1\nbegun=no\nclass=tpm\nnext=5\n",
        "attempts=4294967296\nbegun=no\nclass=tpm\nnext=5\n",
        "attempts=1\nbegun=maybe\nclass=tpm\nnext=5\n",
        "attempts=1\nbegun=no\nclass=tpn\nnext=5\n",
        "attempts=1\nbegun=no\nclass=tpm\nnext=99999999999999999999\n",
        "attempts=1\nbegun=no\nclass=tpm\nnext=000000000000000000000005\n",
        "attempts=1\nbegun=no\nclass=tpm\nnext5\nlater=next=5\n",
        "attempts=1\nbegun=no\nclass=tpm\nnext5=\nnex=5\n",
        "attempts=1\nattempts=1\nbegun=no\nclass=tpm\nnext=5\n",
        "attempts=1\nbegun=no\nclass=tpm\nnext=5\nnonsense\n",
        "attempts=1\nbegun=no\nclass=tpm\nnext=5\nnonsense",
        "attempts=1\nbegun=no\nclass=tpm\nnext=5\nlater=x",
    };
    struct retry retry = {.attempts = 77};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (retry_parse(bad[i], &retry) != -EBADMSG)
            ASSERT_TEXT(bad[i], "refused");
    char large[RETRY_TEXT_MAX + 1];
    memset(large, 'x', sizeof large);
    large[sizeof large - 1] = '\0';
    ASSERT_NUMBER(retry_parse(large, &retry), -EBADMSG);
    ASSERT_NUMBER(retry.attempts, 77);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"delays stay within base, cap and floor", test_bounds},
        {"delays are spread evenly", test_spread},
        {"first, last and absurd attempts", test_extremes},
        {"a base below one second", test_short_base},
        {"what the server asked for is obeyed", test_retry_after},
        {"a time on disk is at most one wait of that attempt away", test_clamp},
        {"classes that need an operator", test_needs_operator},
        {"the record of attempts, there and back", test_record},
        {"a record of an older version", test_record_of_older_version},
        {"a record with an absurd pause", test_bad_request_of_a_server},
        {"a record with lines of a newer version", test_record_of_newer_version},
        {"bad records are refused", test_bad_records},
        {NULL, NULL},
    };
    return unit_run("schedule", tests, argc, argv);
}
