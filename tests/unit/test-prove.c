/* The state machine while an identity is in use: whether the cloud accepts it, and what it has replaced. */
#include "agent-world.h"

#include "common/cleanup.h"
#include "fake-worker.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEAD "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n"
#define QUICK "[Retry]\nNetwork=20ms 40ms\nDenied=20ms 40ms\nInternal=20ms 40ms\nTPM=20ms 40ms\n"

static const char retiring[] = HEAD "[Renewal]\nRetireTopic=retire/%t\n" QUICK;
static const char enrolling[] = HEAD "[Renewal]\nOnRefused=enroll\nRefusedGrace=60s\nRetireTopic=x\n" QUICK;
static const char proving[] = HEAD "[Renewal]\nProveInterval=2s\n" QUICK;

/* CLOCK_BOOTTIME of the code under test is so far ahead (ld(1), --wrap): nobody waits half a minute. */
static int64_t ahead_s;
int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret) {
    int r = __real_clock_gettime(clock, ret);
    if (r == 0 && clock == CLOCK_BOOTTIME)
        ret->tv_sec += (time_t)ahead_s;
    return r;
}

/* The kernel's clock is not ahead. */
int __real_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy,
                             sd_event_time_handler_t callback, void *userdata);
int __wrap_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy,
                             sd_event_time_handler_t callback, void *userdata);

int __wrap_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy,
                             sd_event_time_handler_t callback, void *userdata) {
    if (clock == CLOCK_BOOTTIME)
        usec -= (uint64_t)ahead_s * 1000000;
    return __real_sd_event_add_time(event, ret, clock, usec, accuracy, callback, userdata);
}

static void workers(const char *list) {
    setenv(FAKE_WORKER_VARIABLE, list, 1);
}

static void forget_record(void) {
    unlinkat(world.top_fd, "record", 0);
}

static void begin(const char *configuration, const char *list) {
    set_up(configuration);
    start("enroll=done check=done renew=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
    workers(list);
    forget_record();
}

static void end(void) {
    tear_down();
    ahead_s = 0;
}

static void restart(const char *list) {
    stop();
    forget_record();
    start(list);
}

static uint32_t check(void) {
    struct failure failure = {0};
    uint32_t id = 0;
    ASSERT_NUMBER(agent_check(world.agent, &id, &failure), ANSWER_YES);
    return id;
}

/* A timer that was armed before comes when it was to come by the kernel's clock: whoever asks has it armed anew. */
static void pass(int64_t seconds) {
    struct failure failure;
    ahead_s += seconds;
    (void)agent_reload(world.agent, &failure);
}

static void run_for_a_moment(void) {
    for (int i = 0; i < 20; i++)
        sd_event_run(world.event, 10000);
}

static unsigned count(const char *verb) {
    unsigned found = 0;
    for (const char *at = read_file("record"); (at = strstr(at, verb)) != NULL; at++)
        found++;
    return found;
}

static bool has_proven(const struct status *status) {
    return count("prove\n") > 0 && status->step[0] == '\0' && agent_cancel(world.agent, 0) == ANSWER_NO_SUCH_JOB;
}

static bool is_refused(const struct status *status) {
    return status->refused_since_usec != 0;
}

static bool is_accepted(const struct status *status) {
    return status->refused_since_usec == 0 && status->error.class[0] == '\0';
}

static bool is_holding(const struct status *status) {
    return strcmp(status->step, "claim") == 0;
}

static bool is_retiring(const struct status *status) {
    return is_holding(status) && status->state == STATE_PROVISIONED;
}

static bool is_proving(const struct status *status) {
    return is_holding(status) && count("prove\n") > 0;
}

static bool is_enrolling(const struct status *status) {
    return is_holding(status) && status->state == STATE_ENROLLING;
}

static bool is_second(const struct status *status) {
    return status->state == STATE_PROVISIONED && status->generation == 2;
}

static bool has_retired(const struct status *status) {
    return status->generation == 2 && status->retired.count == 0;
}

static bool has_failed(const struct status *status) {
    return status->error.class[0] != '\0';
}

/* --- Check() --- */

static void test_accepted(void) {
    begin(good_configuration, "check=done prove=done");
    CU_ASSERT(check() != 0);
    CU_ASSERT(wait_for(has_proven));
    ASSERT_TEXT(read_file("record"), "check\nprove\n");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    ASSERT_NUMBER(is_accepted(agent_status(world.agent)), 1);
    end();
}

/* Whoever calls in a loop gets the number of the one that runs, or waits. */
static void test_no_storm(void) {
    begin(good_configuration, "check=done prove=hold");
    uint32_t first = check();
    CU_ASSERT(wait_for(is_proving));
    ASSERT_NUMBER(check(), first);
    ASSERT_NUMBER(agent_cancel(world.agent, first), ANSWER_YES);
    workers("check=done prove=done");
    run_for_a_moment();
    uint32_t second = check();
    CU_ASSERT(second != first);
    for (int i = 0; i < 100; i++)
        ASSERT_NUMBER(check(), second);
    pass(5); /* more than there is between any two connections */
    run_for_a_moment();
    ASSERT_NUMBER(count("prove\n"), 1);
    ASSERT_NUMBER(agent_cancel(world.agent, second), ANSWER_YES);
    ASSERT_NUMBER(agent_cancel(world.agent, second), ANSWER_NO_SUCH_JOB);
    uint32_t third = check();
    CU_ASSERT(third != second);
    pass(31);
    forget_record();
    CU_ASSERT(wait_for(has_proven));
    end();
}

/* Nothing is said of the identity by a network that is down. */
static void test_not_proven(void) {
    begin(slow_configuration, "check=done prove=failed");
    check();
    CU_ASSERT(wait_for(has_failed));
    expect_error("network", "told to fail");
    ASSERT_NUMBER(is_refused(agent_status(world.agent)), 0);
    ASSERT_NUMBER(is_there("state/refused"), 0);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    end();
}

static void test_nothing_to_check(void) {
    uint32_t id;
    struct failure failure;
    set_up(slow_configuration);
    start("enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    ASSERT_NUMBER(agent_check(world.agent, &id, &failure), ANSWER_NO_IDENTITY);
    end();
    begin(good_configuration, "");
    restart("check=hold");
    ASSERT_NUMBER(agent_check(world.agent, &id, &failure), ANSWER_BUSY);
    end();
}

/* What is wrong here needs no cloud to say so. */
static void test_lost_here(void) {
    begin(slow_configuration, "check=lost enroll=hold prove=done");
    check();
    CU_ASSERT(wait_for(is_enrolling));
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_ENROLLING);
    ASSERT_NUMBER(count("prove"), 0);
    end();
}

/* --- refused --- */

static void test_refused_and_healed(void) {
    begin(good_configuration, "check=done prove=refused");
    check();
    CU_ASSERT(wait_for(is_refused));
    expect_error("denied", "refuses this identity");
    uint64_t since = agent_status(world.agent)->refused_since_usec;
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    restart("check=done prove=refused"); /* and it is known all the same */
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->refused_since_usec, since);
    CU_ASSERT(wait_for(has_proven)); /* by itself */
    ASSERT_NUMBER(agent_status(world.agent)->refused_since_usec, since);
    workers("check=done prove=done");
    pass(31);
    CU_ASSERT(wait_for(is_accepted));
    ASSERT_NUMBER(is_there("state/refused"), 0);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    end();
}

/* OnRefused=wait, whatever the grace. */
static void test_refused_for_long(void) {
    begin(good_configuration, "check=done prove=refused");
    check();
    CU_ASSERT(wait_for(is_refused));
    for (int i = 0; i < 3; i++) {
        forget_record();
        pass(86400);
        CU_ASSERT(wait_for(has_proven));
    }
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    end();
}

static void test_refused_enrolls(void) {
    begin(enrolling, "check=done prove=refused enroll=hold");
    check();
    CU_ASSERT(wait_for(is_refused));
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    pass(61);
    CU_ASSERT(wait_for(is_enrolling));
    const struct status *status = agent_status(world.agent);
    ASSERT_NUMBER(status->state, STATE_ENROLLING);
    ASSERT_NUMBER(status->generation, 0);
    ASSERT_NUMBER(is_there("run/lost"), 1);
    ASSERT_NUMBER(is_there("run/provisioned"), 0);
    /* A restart does not bring it back, nor take away how far the enrolment has come. */
    write_file("state/checkpoint-fleet-claim", "as far as this");
    restart("check=done enroll=hold");
    CU_ASSERT(wait_for(is_enrolling));
    ASSERT_TEXT(read_file("record"), "enroll\n");
    ASSERT_TEXT(read_file("state/checkpoint-fleet-claim"), "as far as this");
    restart("check=done enroll=done retire=hold");
    CU_ASSERT(wait_for(is_second));
    ASSERT_NUMBER(agent_status(world.agent)->refused_since_usec, 0);
    ASSERT_NUMBER(is_there("state/refused"), 0);
    ASSERT_TEXT(agent_status(world.agent)->retired.ids[0], fake_certificate_id(1));
    end();
}

/* The time in which nobody has asked is no time in which it was refused. */
static void test_grace_is_seen(void) {
    begin(enrolling, "check=done prove=refused enroll=hold");
    check();
    CU_ASSERT(wait_for(is_refused));
    stop();
    ahead_s += 86400;
    forget_record();
    start("check=done prove=refused enroll=hold");
    CU_ASSERT(wait_for(has_proven));
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    forget_record();
    workers("check=done prove=failed enroll=hold");
    pass(86400);
    CU_ASSERT(wait_for(has_proven));
    forget_record();
    workers("check=done prove=refused enroll=hold");
    pass(86400);
    CU_ASSERT(wait_for(has_proven));
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    end();
}

/* --- ProveInterval= --- */

static void test_interval(void) {
    begin(good_configuration, "check=done prove=done");
    run_for_a_moment();
    ASSERT_NUMBER(count("prove"), 0);
    write_file("enrolld.conf", proving);
    pass(0);
    CU_ASSERT(wait_for(has_proven));
    forget_record();
    pass(31);
    CU_ASSERT(wait_for(has_proven));
    end();
}

/* --- retirement --- */

static void renew(void) {
    uint32_t id = 0;
    struct failure failure = {0};
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_second));
}

static void test_retired(void) {
    char line[128];
    begin(retiring, "check=done renew=done retire=done");
    renew();
    CU_ASSERT(wait_for(has_retired));
    snprintf(line, sizeof line, "retire %s\n", fake_certificate_id(1));
    CU_ASSERT_PTR_NOT_NULL(strstr(read_file("record"), line));
    ASSERT_NUMBER(is_there("state/retire"), 0);
    end();
}

static bool is_told_of_failure(const struct status *status) {
    return status->generation == 2 && strcmp(status->error.class, "denied") == 0;
}

/* At least once, over restarts, and nothing waits for it. */
static void test_not_retired(void) {
    begin(retiring, "check=done renew=done retire=failed-denied");
    renew();
    CU_ASSERT(wait_for(is_told_of_failure));
    ASSERT_TEXT(agent_status(world.agent)->retired.ids[0], fake_certificate_id(1));
    restart("check=done retire=hold prove=done renew=done");
    CU_ASSERT(wait_for(is_retiring));
    ASSERT_NUMBER(agent_status(world.agent)->retired.count, 1);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    check();
    CU_ASSERT(wait_for(has_proven));
    workers("check=done retire=done");
    CU_ASSERT(wait_for(has_retired));
    ASSERT_NUMBER(is_there("state/retire"), 0);
    end();
}

/* A crash between the record and the commit: the one in use stays what it is. */
static void test_own_certificate(void) {
    char text[RETIRED_TEXT_MAX];
    begin(retiring, "");
    stop();
    snprintf(text, sizeof text, "%s\n", fake_certificate_id(1));
    write_file("state/retire", text);
    forget_record();
    start("check=done retire=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
    run_for_a_moment();
    ASSERT_TEXT(read_file("record"), "check\n");
    ASSERT_NUMBER(agent_status(world.agent)->retired.count, 0);
    ASSERT_NUMBER(is_there("state/retire"), 0);
    end();
}

/* It may be in use there. */
static void test_not_of_another_tpm(void) {
    static const char elsewhere[] = "[Key]\nOnWrongTPM=enroll\n" HEAD "[Renewal]\nRetireTopic=x\n" QUICK;
    begin(elsewhere, "");
    restart("check=elsewhere enroll=hold");
    CU_ASSERT(wait_for(is_enrolling));
    ASSERT_NUMBER(is_there("state/retire"), 0);
    end();
}

/* --- what goes with it --- */

static uint64_t changed_usec(const char *name) {
    struct stat status = {0};
    fstatat(world.top_fd, name, &status, 0);
    return (uint64_t)status.st_mtim.tv_sec * 1000000 + (uint64_t)status.st_mtim.tv_nsec / 1000;
}

static bool has_followed(const struct status *status) {
    (void)status;
    return strcmp(read_file("state/current/root-ca.pem"), "other authorities") == 0;
}

static void test_root_ca(void) {
    begin(good_configuration, "check=root-ca");
    ASSERT_TEXT(read_file("state/current/root-ca.pem"), "root-ca");
    uint64_t before = changed_usec("run/generation");
    pass(0);
    CU_ASSERT(wait_for(has_followed));
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    ASSERT_TEXT(read_file("run/generation"), "1\n");
    CU_ASSERT(changed_usec("run/generation") > before);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    end();
}

static void test_discard_claim(void) {
    begin(good_configuration, "check=done");
    ASSERT_NUMBER(is_there("run/discard-claim"), 0);
    stop();
    write_file("enrolld.conf", HEAD "[Renewal]\nKeepClaim=no\n");
    start("check=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(is_there("run/discard-claim"), 1);
    end();
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"the cloud accepts it", test_accepted},
        {"no storm of proofs", test_no_storm},
        {"a proof that says nothing", test_not_proven},
        {"there is nothing to prove", test_nothing_to_check},
        {"an identity that is lost here", test_lost_here},
        {"refused, and accepted again", test_refused_and_healed},
        {"refused for long, and waited for", test_refused_for_long},
        {"refused for long, and enrolled anew", test_refused_enrolls},
        {"only refusals that were seen count", test_grace_is_seen},
        {"a proof from time to time", test_interval},
        {"a replaced certificate is retired", test_retired},
        {"a retirement that fails", test_not_retired},
        {"the certificate in use is never retired", test_own_certificate},
        {"nor one whose key is in another TPM", test_not_of_another_tpm},
        {"the authorities follow RootCA=", test_root_ca},
        {"the claim is to be discarded", test_discard_claim},
        {NULL, NULL},
    };
    return fake_worker_unit_run("prove", tests, argc, argv);
}
