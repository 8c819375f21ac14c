#include "renewal-world.h"

#include "common/cleanup.h"
#include "daemon/agent-private.h"
#include "daemon/log.h"
#include "fake-worker.h"
#include "harness.h"

#include <systemd/sd-journal.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* --- the clocks --- */

int64_t ahead_s;
static int64_t boot_ahead_s; /* CLOCK_BOOTTIME */
long reading_takes_ns;
static long passed_ns;
int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret) {
    int r = __real_clock_gettime(clock, ret);
    if (r == 0 && clock == CLOCK_REALTIME)
        ret->tv_sec += (time_t)ahead_s;
    if (r == 0 && clock == CLOCK_BOOTTIME) {
        passed_ns += reading_takes_ns;
        ret->tv_sec += (time_t)boot_ahead_s + (passed_ns + ret->tv_nsec) / 1000000000;
        ret->tv_nsec = (passed_ns + ret->tv_nsec) % 1000000000;
    }
    return r;
}

/* Timers that may still be armed: the agent has two at most. */
static sd_event_source *timers[8];
static size_t timer_count;
int __real_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy,
                             sd_event_time_handler_t callback, void *userdata);
int __wrap_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy,
                             sd_event_time_handler_t callback, void *userdata);

/* The kernel's clocks are not ahead; and what is due comes at once, however much time it has. */
int __wrap_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy,
                             sd_event_time_handler_t callback, void *userdata) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_BOOTTIME)
        return __real_sd_event_add_time(event, ret, clock, usec, accuracy, callback, userdata);
    uint64_t ahead_usec = (uint64_t)(clock == CLOCK_REALTIME ? ahead_s : boot_ahead_s) * 1000000;
    int r =
        __real_sd_event_add_time(event, ret, clock, usec > ahead_usec ? usec - ahead_usec : 0, 1, callback, userdata);
    if (r < 0)
        return r;
    sd_event_source **place = &timers[timer_count++ % (sizeof timers / sizeof *timers)];
    sd_event_source_disable_unref(*place);
    *place = sd_event_source_ref(*ret);
    return r;
}

static void forget_timers(void) {
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++)
        timers[i] = sd_event_source_disable_unref(timers[i]);
}

static void bring_timer_near(sd_event_source *timer, uint64_t span_usec) {
    uint64_t usec;
    int enabled = SD_EVENT_OFF;
    if (timer != NULL && sd_event_source_get_enabled(timer, &enabled) >= 0 && enabled != SD_EVENT_OFF &&
        sd_event_source_get_time(timer, &usec) >= 0)
        sd_event_source_set_time(timer, usec > span_usec ? usec - span_usec : 0);
}

void pass(int64_t seconds) {
    ahead_s += seconds;
    boot_ahead_s += seconds;
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++)
        bring_timer_near(timers[i], (uint64_t)seconds * 1000000);
}

/* --- chance --- */

uint64_t random_number = RANDOM_NUMBER;
ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags);

ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags) {
    (void)flags;
    memset(buffer, 0, size);
    memcpy(buffer, &random_number, size < sizeof random_number ? size : sizeof random_number);
    return (ssize_t)size;
}

/* --- the journal --- */

static struct {
    unsigned count;
    char fields[2048];
} entries[16];
static char entry_ids[16][33];
int __wrap_sd_journal_sendv(const struct iovec *fields, int count);

static size_t entry_of(const char *message_id) {
    size_t i = 0;
    while (i < 15 && entry_ids[i][0] != '\0' && strcmp(entry_ids[i], message_id) != 0)
        i++;
    snprintf(entry_ids[i], sizeof entry_ids[i], "%s", message_id);
    return i;
}

int __wrap_sd_journal_sendv(const struct iovec *fields, int count) {
    char text[sizeof entries->fields] = "";
    for (int i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s\n", (int)fields[i].iov_len,
                 (const char *)fields[i].iov_base);
    fprintf(stderr, "%.*s\n", (int)strcspn(text, "\n"), text);
    const char *id = strstr(text, "\nMESSAGE_ID=");
    if (id == NULL)
        return 0;
    char number[33];
    snprintf(number, sizeof number, "%s", id + strlen("\nMESSAGE_ID="));
    size_t i = entry_of(number);
    entries[i].count++;
    memcpy(entries[i].fields, text, sizeof text);
    return 0;
}

unsigned journal_count(const char *message_id) {
    return entries[entry_of(message_id)].count;
}

const char *journal_last(const char *message_id) {
    return entries[entry_of(message_id)].fields;
}

void journal_forget(void) {
    memset(entries, 0, sizeof entries);
}

/* --- what the kernel tells --- */

static int clock_end = -1, network_end = -1;

static void watch_clock(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        exit(99);
    world.clock = ends[0];
    cleanup_close(&clock_end);
    clock_end = ends[1];
}

void set_clock(int64_t days) {
    ahead_s = days * DAY;
    ASSERT_NUMBER(write(clock_end, "12345678", 8), 8);
}

void connect_kernel(void) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        exit(99);
    world.route = ends[0];
    cleanup_close(&network_end);
    network_end = ends[1];
}

void tell(unsigned short type) {
    const struct nlmsghdr message = {.nlmsg_len = sizeof message, .nlmsg_type = type};
    if (send(network_end, &message, sizeof message, 0) < 0) /* what nobody reads is dropped, as by the kernel */
        ASSERT_NUMBER(errno, EAGAIN);
}

/* --- facts --- */

void set_fact(const char *key, const char *value) {
    char name[64];
    snprintf(name, sizeof name, FAKE_FACT_PREFIX "%s", key);
    setenv(name, value, 1);
}

void set_date(const char *key, int64_t days) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)(time(NULL) + days * DAY));
    set_fact(key, text);
}

void set_dates(int64_t begin_days, int64_t end_days) {
    set_date("NOT_BEFORE", begin_days);
    set_date("ISSUED_AT", begin_days);
    set_date("NOT_AFTER", end_days);
}

void set_workers(const char *list) {
    setenv(FAKE_WORKER_VARIABLE, list, 1);
}

/* --- begin and end --- */

void begin(const char *configuration) {
    set_up(configuration);
    set_fact("RENEW_METHOD", "fleet-claim");
    set_fact("HINDRANCE", "");
    set_dates(-1, 364);
    watch_clock();
    random_number = RANDOM_NUMBER;
    log_set_target(LOG_TARGET_JOURNAL);
    start("enroll=done check=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
}

void forget_runs(void) {
    unlinkat(world.top_fd, "record", 0);
}

void restart(const char *workers) {
    stop();
    forget_timers();
    forget_runs();
    watch_clock();
    start(workers);
}

void end(void) {
    tear_down();
    forget_timers();
    cleanup_close(&clock_end);
    cleanup_close(&network_end);
    clock_end = network_end = -1;
    unsetenv(FAKE_FACT_PREFIX "RETRY_AFTER");
    unsetenv(FAKE_FACT_PREFIX "IMPORTED");
    ahead_s = boot_ahead_s = 0;
    reading_takes_ns = 0;
    random_number = RANDOM_NUMBER;
    journal_forget();
}

/* --- what is seen --- */

void settle(void) {
    time_t deadline = time(NULL) + PATIENCE_S;
    while (sd_event_run(world.event, world.agent->job != NULL ? 10000 : 0) > 0 || world.agent->job != NULL)
        if (time(NULL) > deadline) {
            CU_FAIL("a worker does not end");
            return;
        }
}

void run_for_a_moment(void) {
    for (int i = 0; i < 20; i++)
        sd_event_run(world.event, 10000);
}

unsigned count_runs(const char *verb) {
    char path[sizeof world.record_path], line[2048];
    unsigned found = 0;
    snprintf(path, sizeof path, "%s", world.record_path);
    FILE *stream = fopen(path, "re");
    while (stream != NULL && fgets(line, sizeof line, stream) != NULL)
        found += strncmp(line, verb, strlen(verb)) == 0 && strchr(" \n", line[strlen(verb)]) != NULL;
    if (stream != NULL)
        fclose(stream);
    return found;
}

bool is_second(const struct status *status) {
    return status->state == STATE_PROVISIONED && status->generation == 2;
}

bool has_failed(const struct status *status) {
    return status->state == STATE_PROVISIONED && status->error.class[0] != '\0';
}

bool has_failed_twice(const struct status *status) {
    return has_failed(status) && status->attempt == 2;
}

bool is_renewing(const struct status *status) {
    return status->state == STATE_RENEWING;
}

bool is_holding(const struct status *status) {
    return (status->state == STATE_RENEWING || status->state == STATE_ENROLLING) && strcmp(status->step, "claim") == 0;
}

bool is_quiet(const struct status *status) {
    return status->state == STATE_PROVISIONED && status->renew_rule[0] != '\0' && status->step[0] == '\0';
}
