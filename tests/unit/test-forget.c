#include "agent-world.h"

#include "common/memfd.h"
#include "fake-worker.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool is_working(const struct status *status) {
    return strcmp(status->step, "claim") == 0;
}

static bool is_renewing(const struct status *status) {
    return is_working(status) && status->state == STATE_RENEWING;
}

static bool is_enrolling(const struct status *status) {
    return is_working(status) && status->state == STATE_ENROLLING;
}

static bool has_failed(const struct status *status) {
    return is_waiting(status) && status->error.class[0] != '\0';
}

static void provision(void) {
    start("enroll=done check=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
}

static void forget(void) {
    struct failure failure = {0};
    if (agent_forget(world.agent, &failure) != ANSWER_YES)
        ASSERT_TEXT(failure.message, "forgotten");
}

/* Nothing in the state directory but the marker of that number; 0: not even this. */
static void expect_empty(unsigned marker) {
    static const char *const gone[] = {"state/current", "state/current.broken", "state/staged",
                                       "state/retry",   "state/incoming",       "state/checkpoint-fleet-claim",
                                       "state/x.new",   "state/generations/1",  "state/generations/2"};
    char name[64];
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        if (is_there(gone[i]))
            ASSERT_TEXT(gone[i], "gone");
    for (unsigned number = 1; number < 5; number++) {
        snprintf(name, sizeof name, "state/generations/%u.forgotten", number);
        ASSERT_NUMBER(is_there(name), number == marker);
        snprintf(name, sizeof name, "state/generations/%u.broken", number);
        ASSERT_NUMBER(is_there(name), 0);
    }
}

static void expect_unprovisioned(void) {
    const struct status *status = agent_status(world.agent);
    ASSERT_NUMBER(status->generation, 0);
    ASSERT_TEXT(status->identity.thing_name, "");
    ASSERT_TEXT(status->identity.certificate_id, "");
    ASSERT_TEXT(status->credential_directory, "");
    ASSERT_TEXT(status->error.class, "");
    ASSERT_TEXT(method_outcome_name(&status->methods[0]), "");
    ASSERT_NUMBER(is_there("run/provisioned"), 0);
}

static void test_provisioned(void) {
    set_up(good_configuration);
    provision();
    setenv(FAKE_WORKER_VARIABLE, "enroll=hold check=done", 1);
    forget();
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_ENROLLING);
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 1);
    ASSERT_TEXT(agent_status(world.agent)->identity.endpoint, "example.com");
    ASSERT_TEXT(agent_status(world.agent)->method, "fleet-claim");
    expect_unprovisioned();
    expect_empty(1);
    ASSERT_NUMBER(is_there("run/lost"), 1);
    ASSERT_NUMBER(is_there("state/clock"), 1); /* what the clock is worth is no matter of the identity */
    tear_down();
}

/* The numbers go on, also after a restart, and the marker goes with the next identity. */
/* Who follows the target is stopped, whatever becomes of the other flag: by a kill in between, both would stay up. */
static void test_flag_that_stays(void) {
    set_up(good_configuration);
    provision();
    ASSERT_NUMBER(unlinkat(world.top_fd, "run/provisioned", 0), 0);
    ASSERT_NUMBER(mkdirat(world.top_fd, "run/provisioned", 0700), 0);
    setenv(FAKE_WORKER_VARIABLE, "enroll=hold check=done", 1);
    forget();
    ASSERT_NUMBER(is_there("run/lost"), 1);
    tear_down();
}

static void test_enrolls_anew(void) {
    set_up(good_configuration);
    provision();
    forget();
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 2);
    ASSERT_TEXT(read_file("run/generation"), "2\n");
    ASSERT_NUMBER(is_there("state/generations/1.forgotten"), 0);
    setenv(FAKE_WORKER_VARIABLE, "enroll=hold", 1);
    forget();
    expect_empty(2);
    stop();
    provision();
    ASSERT_NUMBER(agent_status(world.agent)->generation, 3);
    ASSERT_NUMBER(is_there("run/lost"), 0);
    ASSERT_NUMBER(is_there("state/generations/2.forgotten"), 0);
    tear_down();
}

static void test_twice(void) {
    set_up(good_configuration);
    provision();
    setenv(FAKE_WORKER_VARIABLE, "enroll=hold", 1);
    forget();
    forget();
    expect_empty(1);
    stop();
    start("enroll=hold");
    forget();
    expect_empty(1);
    tear_down();
}

/* The worker that would hand over the identity is no more, and what it has left is no basis of the next attempt. */
static void test_while_enrolling(void) {
    set_up(good_configuration);
    start("enroll=hold");
    expect_state(is_working, STATE_ENROLLING);
    write_file("state/checkpoint-fleet-claim", "as far as that");
    write_file("state/staged", "a key");
    write_file("state/x.new", "half");
    ASSERT_NUMBER(is_there("state/retry"), 1);
    setenv(FAKE_WORKER_VARIABLE, "enroll=done check=done", 1);
    forget();
    expect_empty(0);
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    ASSERT_TEXT(read_file("record"), "enroll\nenroll\ncheck\n");
    tear_down();
}

static void test_while_waiting(void) {
    set_up(slow_configuration);
    start("enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    setenv(FAKE_WORKER_VARIABLE, "enroll=done check=done", 1);
    forget();
    expect_unprovisioned();
    expect_state(is_provisioned, STATE_PROVISIONED);
    tear_down();
}

static void test_task_ends(void) {
    set_up(slow_configuration);
    start("enroll=hold request=hold");
    uint32_t id = 0;
    struct failure failure = {0};
    ASSERT_NUMBER(agent_request(world.agent, "", &id, &failure), ANSWER_YES);
    forget();
    ASSERT_NUMBER(agent_cancel(world.agent, id), ANSWER_NO_SUCH_JOB);
    ASSERT_NUMBER(agent_request(world.agent, "", &id, &failure), ANSWER_YES);
    tear_down();
}

static void test_identities_of_before(void) {
    set_up(good_configuration);
    provision();
    mkdirat(world.top_fd, "state/generations/2.broken", 0750);
    write_file("state/generations/2.broken/private.pem", "key");
    write_file("state/generations/ours-not", "stays");
    ASSERT_NUMBER(symlinkat("anywhere", world.top_fd, "state/current.broken"), 0);
    setenv(FAKE_WORKER_VARIABLE, "enroll=hold", 1);
    stop();
    start("check=done enroll=hold");
    expect_state(is_provisioned, STATE_PROVISIONED);
    forget();
    expect_empty(2);
    ASSERT_NUMBER(is_there("state/generations/ours-not"), 1);
    tear_down();
}

static void test_without_configuration(void) {
    set_up(good_configuration);
    provision();
    stop();
    write_file("enrolld.conf", "[Agent]\n");
    start("enroll=hold");
    expect_state(is_waiting, STATE_FAILED);
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    forget();
    expect_empty(1);
    ASSERT_NUMBER(is_there("run/provisioned"), 0);
    ASSERT_NUMBER(is_there("run/lost"), 1);
    expect_state(has_failed, STATE_FAILED);
    expect_error("invalid", "");
    tear_down();
}

/* Deeper than anything that is removed. */
static const char *const depths[] = {"state/checkpoint-x",
                                     "state/checkpoint-x/1",
                                     "state/checkpoint-x/1/2",
                                     "state/checkpoint-x/1/2/3",
                                     "state/checkpoint-x/1/2/3/4",
                                     "state/checkpoint-x/1/2/3/4/5",
                                     "state/checkpoint-x/1/2/3/4/5/6"};

static void put_in_the_way(void) {
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++)
        ASSERT_NUMBER(mkdirat(world.top_fd, depths[i], 0700), 0);
}

static void clear_the_way(void) {
    for (size_t i = sizeof depths / sizeof *depths; i > 0; i--)
        ASSERT_NUMBER(unlinkat(world.top_fd, depths[i - 1], AT_REMOVEDIR), 0);
}

/* What cannot be removed is in the way before the identity is touched: it is in use as before. */
static void test_fails_whole(void) {
    struct failure failure = {0};
    set_up(good_configuration);
    provision();
    put_in_the_way();
    ASSERT_NUMBER(agent_forget(world.agent, &failure), ANSWER_FAILED);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    ASSERT_TEXT(read_file("state/current/private.pem"), "private-key");
    clear_the_way();
    tear_down();
}

static bool is_checked(const struct status *status) {
    return status->state == STATE_PROVISIONED && strcmp(read_file("record"), "check\n") == 0;
}

/* What was foreseen comes all the same, and no record is believed to be there that is not. */
static void test_fails_and_goes_on(void) {
    struct failure failure = {0};
    char text[RETIRED_TEXT_MAX];
    set_up(good_configuration);
    provision();
    stop();
    snprintf(text, sizeof text, "%s\n", fake_certificate_id(7));
    write_file("state/retire", text);
    provision();
    ASSERT_NUMBER(agent_status(world.agent)->retired.count, 1);
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    write_file("record", "");
    put_in_the_way();
    ASSERT_NUMBER(agent_forget(world.agent, &failure), ANSWER_FAILED);
    ASSERT_NUMBER(agent_status(world.agent)->retired.count, is_there("state/retire"));
    CU_ASSERT(wait_for(is_checked));
    clear_the_way();
    tear_down();
}

/* The same client id may connect anew a second later at the earliest, whatever it has connected for. */
static void test_distance(void) {
    uint32_t id = 0;
    struct failure failure = {0};
    set_up(good_configuration);
    provision();
    setenv(FAKE_WORKER_VARIABLE, "check=done renew=hold enroll=hold", 1);
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_renewing));
    struct timespec before, after;
    clock_gettime(CLOCK_BOOTTIME, &before);
    forget();
    CU_ASSERT(wait_for(is_enrolling));
    clock_gettime(CLOCK_BOOTTIME, &after);
    CU_ASSERT((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 1000);
    tear_down();
}

static void test_stopping(void) {
    struct failure failure = {0};
    set_up(good_configuration);
    start("enroll=hold");
    expect_state(is_working, STATE_ENROLLING);
    agent_stop(world.agent);
    ASSERT_NUMBER(agent_forget(world.agent, &failure), ANSWER_BUSY);
    tear_down();
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"a provisioned device", test_provisioned},
        {"lost is told first", test_flag_that_stays},
        {"it enrolls anew, with another number", test_enrolls_anew},
        {"twice", test_twice},
        {"in the middle of an attempt", test_while_enrolling},
        {"between two attempts", test_while_waiting},
        {"what was asked for ends, too", test_task_ends},
        {"identities of before", test_identities_of_before},
        {"without a valid configuration", test_without_configuration},
        {"it fails before the identity is touched", test_fails_whole},
        {"it fails, and what was foreseen comes", test_fails_and_goes_on},
        {"in the middle of a renewal", test_distance},
        {"not while the daemon goes away", test_stopping},
        {NULL, NULL},
    };
    return fake_worker_unit_run("forget", tests, argc, argv);
}
