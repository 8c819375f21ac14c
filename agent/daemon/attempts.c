#include "daemon/attempts.h"

#include "common/step.h"
#include "daemon/log.h"
#include "daemon/schedule.h"

#include <sys/random.h>
#include <time.h>

/* Up to four times the first span, or this. */
#define SOON_ATTEMPT 3
#define SOON_MS 8000

/* Until there is a configuration that says otherwise. */
static const struct retry_range unconfigured_range = {.base_ms = 5 * 60 * 1000, .cap_ms = 60 * 60 * 1000};

static uint64_t clock_usec(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Never waits for entropy: at early boot a weak number still spreads a fleet better than none. */
static uint64_t random_number(void) {
    uint64_t number;
    if (getrandom(&number, sizeof number, GRND_INSECURE) == (ssize_t)sizeof number)
        return number;
    return clock_usec(CLOCK_BOOTTIME) * 0x9e3779b97f4a7c15ULL;
}

static const struct retry_range *range_of(const struct settings *settings, enum failure_class row) {
    return settings != NULL ? &settings->retry[row] : &unconfigured_range;
}

static void save(const struct attempts *attempts) {
    struct failure failure;
    if (store_save_retry(attempts->store, attempts->record, &attempts->retry, &failure) < 0)
        log_message(LOG_WARNING, "%s", failure.message);
}

uint64_t attempts_delay_ms(const struct settings *settings, enum failure_class row, uint32_t number,
                           uint32_t retry_after_s) {
    return schedule_delay_ms(range_of(settings, row), number, retry_after_s, random_number());
}

uint64_t attempts_random_ms(uint64_t longest_ms) {
    return random_number() % (longest_ms + 1);
}

static struct attempt_end end_attempt(const struct settings *settings, enum failure_class row, uint32_t number,
                                      uint32_t retry_after_s) {
    uint64_t delay_ms = attempts_delay_ms(settings, row, number, retry_after_s);
    return (struct attempt_end){number, delay_ms, clock_usec(CLOCK_REALTIME) + delay_ms * 1000};
}

static void clamp(struct attempts *attempts, const struct settings *settings) {
    struct retry *retry = &attempts->retry;
    retry->next_usec = schedule_clamp(range_of(settings, retry->class), retry->attempts, retry->asked_s,
                                      retry->next_usec, clock_usec(CLOCK_REALTIME));
}

bool attempts_load(struct attempts *attempts, const struct settings *settings, struct failure *ret_failure) {
    struct retry *retry = &attempts->retry;
    store_load_retry(attempts->store, attempts->record, retry);
    if (retry->attempts == 0)
        return false;
    failure_record(ret_failure, retry->class, STEP_WORKER, "attempt %u, before this start of enrolld, failed",
                   retry->attempts);
    if (retry->begun) {
        failure_record(ret_failure, FAILURE_INTERNAL, STEP_WORKER,
                       "attempt %u was cut off by a power cut, a crash or a restart", retry->attempts);
        log_message(LOG_WARNING, "%s", ret_failure->message);
        attempts_fail(attempts, settings, FAILURE_INTERNAL, 0);
    }
    clamp(attempts, settings);
    return true;
}

int attempts_begin(struct attempts *attempts, struct failure *failure) {
    struct retry retry = attempts->retry;
    if (retry.attempts < UINT32_MAX)
        retry.attempts++;
    retry.begun = true;
    if (store_save_retry(attempts->store, attempts->record, &retry, failure) < 0)
        return -1;
    attempts->retry = retry;
    return 0;
}

struct attempt_end attempts_fail(struct attempts *attempts, const struct settings *settings, enum failure_class row,
                                 uint32_t retry_after_s) {
    if (!attempts->retry.begun)
        return end_attempt(settings, row, ++attempts->local, retry_after_s);
    struct attempt_end end = end_attempt(settings, row, attempts->retry.attempts, retry_after_s);
    attempts->retry =
        (struct retry){.attempts = end.number, .class = row, .next_usec = end.next_usec, .asked_s = retry_after_s};
    save(attempts);
    return end;
}

uint64_t attempts_soon_ms(const struct settings *settings) {
    struct retry_range soon = *range_of(settings, FAILURE_NETWORK);
    if (soon.cap_ms > SOON_MS)
        soon.cap_ms = SOON_MS;
    return schedule_delay_ms(&soon, SOON_ATTEMPT, 0, random_number());
}

void attempts_move(struct attempts *attempts, uint64_t next_usec) {
    if (attempts->retry.attempts == 0 || attempts->retry.begun)
        return;
    attempts->retry.next_usec = next_usec;
    save(attempts);
}

void attempts_forget(struct attempts *attempts) {
    attempts->retry = (struct retry){0};
    attempts->local = 0;
    store_clear_record(attempts->store, attempts->record);
}

bool attempts_must_wait(struct attempts *attempts, const struct settings *settings) {
    clamp(attempts, settings);
    return attempts->retry.attempts > 0 && attempts->retry.next_usec > clock_usec(CLOCK_REALTIME);
}
