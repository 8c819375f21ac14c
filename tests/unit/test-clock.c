#include "agent-world.h"

#include "common/cleanup.h"
#include "common/synchronisation.h"
#include "daemon/clock.h"
#include "fake-worker.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define S 1000000ULL
#define FAR 4102444800 /* 2100-01-01 */

/* The wall clock of the code under test is so far ahead of this machine's, which no test may set (ld(1), --wrap). */
static int64_t ahead_s;
int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret) {
    int r = __real_clock_gettime(clock, ret);
    if (r == 0 && clock == CLOCK_REALTIME)
        ret->tv_sec += (time_t)ahead_s;
    return r;
}

/* --- the judgement, by whatever the clock says --- */

static void test_judge(void) {
    static const struct {
        struct clock_reading reading;
        enum clock_trust trust;
    } cases[] = {
        {{.now_usec = 0, .build_usec = 100 * S}, CLOCK_IMPLAUSIBLE},
        {{.now_usec = 100 * S - 1, .build_usec = 100 * S}, CLOCK_IMPLAUSIBLE},
        {{.now_usec = 100 * S, .build_usec = 100 * S}, CLOCK_PLAUSIBLE},
        {{.now_usec = 150 * S, .build_usec = 100 * S, .epoch_usec = 200 * S}, CLOCK_IMPLAUSIBLE},
        {{.now_usec = 250 * S, .build_usec = 100 * S, .epoch_usec = 200 * S}, CLOCK_PLAUSIBLE},
        {{.now_usec = 250 * S, .build_usec = 100 * S, .epoch_usec = 200 * S, .certificate_usec = 300 * S},
         CLOCK_IMPLAUSIBLE},
        {{.now_usec = 350 * S, .build_usec = 400 * S, .certificate_usec = 300 * S}, CLOCK_IMPLAUSIBLE},
        {{.now_usec = 450 * S, .build_usec = 400 * S, .epoch_usec = 1, .certificate_usec = 300 * S}, CLOCK_PLAUSIBLE},
        {{.now_usec = UINT64_MAX, .build_usec = 1}, CLOCK_PLAUSIBLE},
        {{.now_usec = 0, .build_usec = 100 * S, .synchronised = true}, CLOCK_SYNCHRONISED},
        {{.now_usec = 200 * S, .build_usec = 100 * S, .synchronised = true}, CLOCK_SYNCHRONISED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ASSERT_NUMBER(clock_judge(&cases[i].reading), cases[i].trust);
}

static void test_wait(void) {
    const struct clock_reading synchronised = {.synchronised = true, .build_usec = 100 * S};
    const struct clock_reading plausible = {.now_usec = 100 * S, .build_usec = 100 * S};
    const struct clock_reading implausible = {.now_usec = 99 * S, .build_usec = 100 * S};
    ASSERT_NUMBER(clock_wait_usec(&synchronised, 0, 90 * S), 0);
    ASSERT_NUMBER(clock_wait_usec(&plausible, 0, 90 * S), 90 * S);
    ASSERT_NUMBER(clock_wait_usec(&plausible, 30 * S, 90 * S), 60 * S);
    ASSERT_NUMBER(clock_wait_usec(&plausible, 90 * S - 1, 90 * S), 1);
    ASSERT_NUMBER(clock_wait_usec(&plausible, 90 * S, 90 * S), 0);
    ASSERT_NUMBER(clock_wait_usec(&plausible, 1000 * S, 90 * S), 0);
    ASSERT_NUMBER(clock_wait_usec(&plausible, 0, 0), 0);
    CU_ASSERT(clock_wait_usec(&implausible, 1000 * S, 90 * S) == CLOCK_WITHOUT_END);
    CU_ASSERT(clock_wait_usec(&implausible, 1000 * S, 0) == CLOCK_WITHOUT_END);
}

static void assert_words(const struct failure *failure, const char *words) {
    ASSERT_TEXT(failure_class_name(failure->class), "clock");
    ASSERT_TEXT(failure->step, "clock");
    if (strstr(failure->message, words) == NULL)
        ASSERT_TEXT(failure->message, words);
}

static void test_explain(void) {
    struct clock_reading reading = {.now_usec = 5 * S, .build_usec = 1700000000 * S};
    struct failure failure;
    clock_explain(&reading, &failure);
    assert_words(&failure, "it says 1970-01-01T00:00:05Z, but on 2023-11-14T22:13:20Z enrolld was built. ");
    assert_words(&failure, "timedatectl set-time");
    reading.epoch_usec = 1800000000 * S;
    clock_explain(&reading, &failure);
    assert_words(&failure, "but on 2027-01-15T08:00:00Z this system was made (clock-epoch). ");
    reading.certificate_usec = 1900000000 * S;
    clock_explain(&reading, &failure);
    assert_words(&failure, "but on 2030-03-17T17:46:40Z this device got its last certificate. ");
    reading.now_usec = 2000000000 * S;
    clock_explain(&reading, &failure);
    assert_words(&failure, "the clock says 2033-05-18T03:33:20Z, and nobody has confirmed that yet");
    reading.now_usec = UINT64_MAX; /* no calendar has it */
    clock_explain(&reading, &failure);
    assert_words(&failure, "the clock says ");
}

/* --- what the clock is judged by --- */

static void set_epoch(time_t seconds) {
    const struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    write_file("clock/clock-epoch", "");
    ASSERT_NUMBER(utimensat(world.top_fd, "clock/clock-epoch", times, 0), 0);
}

static void unsynchronise(void) {
    ASSERT_NUMBER(unlinkat(world.top_fd, "clock/synchronized", 0), 0);
}

static void test_read(void) {
    set_up(NULL);
    struct clock_reading reading = clock_read(world.clock_path, 7 * S);
    ASSERT_NUMBER(reading.synchronised, true);
    ASSERT_NUMBER(reading.epoch_usec, 0);
    ASSERT_NUMBER(reading.certificate_usec, 7 * S);
    CU_ASSERT(reading.build_usec > 1600000000 * S && reading.build_usec <= reading.now_usec);
    CU_ASSERT(reading.now_usec / S <= (uint64_t)time(NULL));
    unsynchronise();
    set_epoch(12345);
    reading = clock_read(world.clock_path, 0);
    ASSERT_NUMBER(reading.synchronised, false);
    ASSERT_NUMBER(reading.epoch_usec, 12345 * S);
    (void)synchronisation_is_there(NULL); /* whatever this machine says */
    start("");                            /* for tear_down() */
    tear_down();
}

/* Nobody here may set the clock, so it can only be seen that nothing comes without that. */
static void test_open(void) {
    AUTO_CLOSE int fd = clock_open();
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    CU_ASSERT(fd >= 0);
    ASSERT_NUMBER(poll(&pollfd, 1, 0), 0);
}

/* --- the state machine --- */

static const char patient[] = "[Agent]\nMethods=fleet-claim\nClockWait=1h\n[Cloud]\nEndpoint=example.com\n"
                              "RootCA=/ca.pem\n[Retry]\nClock=1h 2h\nNetwork=1h 2h\n";
static const char impatient[] = "[Agent]\nMethods=fleet-claim\nClockWait=300ms\n[Cloud]\nEndpoint=example.com\n"
                                "RootCA=/ca.pem\n[Retry]\nClock=1h 2h\nNetwork=1h 2h\n";
static int kernel = -1; /* its end of the pipe that stands for the timer */

static bool is_waiting_for_clock(const struct status *status) {
    return status->state == STATE_WAITING_CLOCK;
}

/* A device whose clock nobody has set. */
static void begin(const char *configuration, const char *workers) {
    int ends[2];
    set_up(configuration);
    unsynchronise();
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        exit(99);
    world.clock = ends[0];
    kernel = ends[1];
    start(workers);
}

static void end(void) {
    tear_down();
    close(kernel);
    ahead_s = 0;
}

static void set_clock(void) {
    ASSERT_NUMBER(write(kernel, "12345678", 8), 8);
}

static void synchronise(void) {
    write_file("clock/synchronized", "");
}

static void run_for(int milliseconds) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t until = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + milliseconds, left = milliseconds;
    for (; left > 0; left = until - ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000)) {
        sd_event_run(world.event, (uint64_t)left * 1000);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
}

static int64_t next_in_s(void) {
    uint64_t next_usec = agent_status(world.agent)->next_attempt_usec;
    return (int64_t)(next_usec / S) - (int64_t)time(NULL) - ahead_s;
}

static void test_plausible(void) {
    begin(impatient, "enroll=done check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_WAITING_CLOCK);
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 0);
    CU_ASSERT(agent_status(world.agent)->next_attempt_usec > 0);
    expect_error("clock", "nobody has confirmed that yet");
    ASSERT_TEXT(read_file("record"), "(No such file or directory)");
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_TEXT(agent_status(world.agent)->error.class, "");
    end();
}

static void test_implausible(void) {
    begin(impatient, "enroll=done check=done");
    stop();
    set_epoch(FAR);
    start("enroll=done check=done");
    expect_error("clock", "but on 2100-01-01T00:00:00Z this system was made");
    run_for(600);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_WAITING_CLOCK);
    ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, 0);
    ASSERT_NUMBER(is_there("record"), 0);
    end();
}

/* The clock is set, then said to be right: the first is seen at once, the second by looking again. */
static void test_set(void) {
    ahead_s = -(int64_t)time(NULL) + 5; /* 1970 */
    begin(patient, "enroll=done check=done");
    ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, 0);
    expect_error("clock", "it says 1970-01-01T00:00:0");
    ahead_s = 0;
    set_clock();
    run_for(50);
    expect_state(is_waiting_for_clock, STATE_WAITING_CLOCK);
    expect_error("clock", "nobody has confirmed that yet");
    CU_ASSERT(next_in_s() > 3000);
    synchronise();
    expect_state(is_provisioned, STATE_PROVISIONED);
    end();
}

static void test_synchronised(void) {
    begin(patient, "enroll=done check=done");
    synchronise();
    set_clock();
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_TEXT(read_file("record"), "enroll\ncheck\n");
    end();
}

/* An identity that is there is used at any date. */
static void test_provisioned(void) {
    begin(patient, "");
    synchronise();
    set_clock();
    setenv(FAKE_WORKER_VARIABLE, "enroll=done check=done", 1);
    expect_state(is_provisioned, STATE_PROVISIONED);
    stop();
    unsynchronise();
    set_epoch(FAR);
    start("check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_CHECKING);
    expect_state(is_provisioned, STATE_PROVISIONED);
    stop();
    start("check=lost enroll=done"); /* but the next one waits */
    expect_state(is_waiting_for_clock, STATE_WAITING_CLOCK);
    ASSERT_NUMBER(is_there("run/lost"), 1);
    end();
}

/* A device that starts years ago, with the certificate of last year. */
static void test_newest_certificate(void) {
    struct stat status;
    begin(impatient, "enroll=done check=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(fstatat(world.top_fd, "state/clock", &status, 0), 0);
    ASSERT_NUMBER(status.st_mtim.tv_sec, agent_status(world.agent)->identity.not_before_usec / S);
    ASSERT_NUMBER(store_newest_certificate(world.store), agent_status(world.agent)->identity.not_before_usec);
    store_note_certificate(world.store, 5 * S); /* an older one */
    ASSERT_NUMBER(store_newest_certificate(world.store), agent_status(world.agent)->identity.not_before_usec);
    store_note_certificate(world.store, FAR * S);
    ASSERT_NUMBER(store_newest_certificate(world.store), FAR * S);
    stop();
    start("check=lost enroll=done");
    expect_state(is_waiting_for_clock, STATE_WAITING_CLOCK);
    expect_error("clock", "but on 2100-01-01T00:00:00Z this device got its last certificate");
    end();
}

static void test_enroll(void) {
    uint32_t id = 0;
    struct failure failure;
    begin(patient, "enroll=done check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_WAITING_CLOCK);
    set_epoch(FAR);
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_CLOCK_NOT_SET);
    assert_words(&failure, "the clock is not set");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_WAITING_CLOCK);
    ASSERT_NUMBER(agent_cancel(world.agent, 0), ANSWER_NO_SUCH_JOB);
    set_epoch(1);
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_YES);
    expect_state(is_provisioned, STATE_PROVISIONED);
    end();
}

/* Who asks for an enrolment gets none by a wrong clock, also where an identity is only found to be lost then. */
static void test_enroll_of_lost(void) {
    uint32_t id = 0;
    struct failure failure;
    begin(impatient, "enroll=done check=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
    stop();
    setenv(FAKE_CLASS_VARIABLE, "network", 1);
    start("check=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    set_epoch(FAR);
    setenv(FAKE_WORKER_VARIABLE, "check=lost enroll=done", 1);
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_YES);
    expect_state(is_waiting_for_clock, STATE_WAITING_CLOCK);
    ASSERT_TEXT(read_file("record"), "enroll\ncheck\ncheck\ncheck\n");
    unsetenv(FAKE_CLASS_VARIABLE);
    end();
}

static void test_reload(void) {
    struct failure failure;
    begin(patient, "enroll=done check=done");
    write_file("enrolld.conf", "[Agent]\nMethods=fleet-claim\nClockWait=30min\n[Cloud]\nEndpoint=example.com\n"
                               "RootCA=/ca.pem\n");
    CU_ASSERT(next_in_s() > 3000);
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_WAITING_CLOCK);
    CU_ASSERT(next_in_s() > 1500 && next_in_s() <= 1800);
    write_file("enrolld.conf", impatient);
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    expect_state(is_provisioned, STATE_PROVISIONED);
    end();
}

/* A request does not wait for the clock, and leads back to the wait. */
static void test_task(void) {
    uint32_t id = 0;
    struct failure failure;
    begin(patient, "request=done enroll=done check=done");
    ASSERT_NUMBER(agent_request(world.agent, "", &id, &failure), ANSWER_YES);
    time_t deadline = time(NULL) + PATIENCE_S;
    while (agent_request_pem(world.agent) == NULL && time(NULL) < deadline)
        sd_event_run(world.event, 100000);
    CU_ASSERT_PTR_NOT_NULL(agent_request_pem(world.agent));
    run_for(50);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_WAITING_CLOCK);
    ASSERT_TEXT(read_file("record"), "request\n");
    end();
}

/* What failed for the clock's sake is tried again when that was set, and nothing else. */
static void test_backoff(void) {
    setenv(FAKE_CLASS_VARIABLE, "clock", 1);
    begin(impatient, "enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    expect_error("clock", "told to fail");
    CU_ASSERT(next_in_s() > 0);
    setenv(FAKE_WORKER_VARIABLE, "enroll=done check=done", 1);
    set_clock();
    expect_state(is_provisioned, STATE_PROVISIONED);
    end();
    setenv(FAKE_CLASS_VARIABLE, "network", 1);
    begin(impatient, "enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    set_clock();
    run_for(50);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_BACKOFF);
    ASSERT_TEXT(read_file("record"), "enroll\n");
    unsetenv(FAKE_CLASS_VARIABLE);
    end();
}

/* Years ahead and years back: an attempt comes after as long a time as it would have, also after a restart. */
static void test_next_attempt(void) {
    static const int64_t steps_s[] = {400000000, -400000000};
    for (size_t i = 0; i < sizeof steps_s / sizeof *steps_s; i++) {
        char record[64];
        begin(impatient, "enroll=failed");
        expect_state(is_waiting, STATE_BACKOFF);
        int64_t before = next_in_s();
        ahead_s = steps_s[i];
        set_clock();
        run_for(50);
        int64_t after = next_in_s();
        ASSERT_NUMBER(agent_status(world.agent)->state, STATE_BACKOFF);
        if (after > before + 1 || after < before - PATIENCE_S)
            ASSERT_NUMBER(after, before);
        snprintf(record, sizeof record, "next=%llu\n",
                 (unsigned long long)agent_status(world.agent)->next_attempt_usec);
        if (strstr(read_file("state/retry"), record) == NULL)
            ASSERT_TEXT(read_file("state/retry"), record);
        stop();
        start("enroll=done check=done");
        ASSERT_NUMBER(agent_status(world.agent)->state, STATE_BACKOFF);
        end();
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"the judgement", test_judge},
        {"the wait", test_wait},
        {"what is told", test_explain},
        {"what the clock is judged by", test_read},
        {"nothing comes of a clock that is not set", test_open},
        {"a plausible clock is waited for a while", test_plausible},
        {"an implausible one without end", test_implausible},
        {"a clock that is set", test_set},
        {"a clock that is synchronised", test_synchronised},
        {"an identity needs no clock", test_provisioned},
        {"no clock is earlier than the newest certificate", test_newest_certificate},
        {"Enroll does not wait, or is refused", test_enroll},
        {"Enroll that finds the identity lost", test_enroll_of_lost},
        {"Reload", test_reload},
        {"a request does not wait", test_task},
        {"a clock that is set brings an attempt forward that failed for its sake", test_backoff},
        {"a clock that is set moves the next attempt along", test_next_attempt},
        {NULL, NULL},
    };
    return fake_worker_unit_run("clock", tests, argc, argv);
}
