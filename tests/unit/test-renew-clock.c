/* The state machine while an identity is in use: its end, and a clock that is wrong. */
#include "renewal-world.h"

#include "common/cleanup.h"
#include "fake-worker.h"
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char unsynchronised_configuration[] =
    "[Agent]\nMethods=fleet-claim\nClockWait=0s\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n";

/* Also where nothing ever says that the clock was set: then it is believed after ClockWait=. */
static void test_warning(void) {
    begin(unsynchronised_configuration);
    set_fact("HINDRANCE", "RenewTemplate= is not set");
    ASSERT_NUMBER(unlinkat(world.top_fd, "clock/synchronized", 0), 0);
    restart("check=done");
    expect_state(is_quiet, STATE_PROVISIONED);
    ASSERT_NUMBER(journal_count(ID_EXPIRES), 0);
    set_clock(360);
    time_t deadline = time(NULL) + PATIENCE_S;
    while (journal_count(ID_EXPIRES) == 0 && time(NULL) < deadline)
        sd_event_run(world.event, 10000);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(journal_last(ID_EXPIRES), "expires in less than 7 days, and nothing will renew it: RenewTemplate="));
    journal_forget(); /* once */
    set_clock(361);
    run_for_a_moment();
    ASSERT_NUMBER(journal_count(ID_EXPIRES), 0);
    set_clock(363);
    run_for_a_moment();
    CU_ASSERT_PTR_NOT_NULL(strstr(journal_last(ID_EXPIRES), "expires in less than 1 day,"));
    end();
}

static void test_expired(void) {
    begin(good_configuration);
    set_workers("check=lost enroll=hold");
    set_clock(400);
    CU_ASSERT(wait_for(is_holding));
    const struct status *status = agent_status(world.agent);
    ASSERT_NUMBER(status->state, STATE_ENROLLING);
    ASSERT_NUMBER(status->generation, 0);
    ASSERT_NUMBER(status->renew_after_usec, 0);
    ASSERT_TEXT(status->credential_directory, "");
    ASSERT_NUMBER(is_there("run/provisioned"), 0);
    ASSERT_NUMBER(is_there("run/lost"), 1);
    end();
}

/* By a clock that nobody has set it only seems so. */
static void test_expired_by_a_doubtful_clock(void) {
    begin(unsynchronised_configuration);
    ASSERT_NUMBER(unlinkat(world.top_fd, "clock/synchronized", 0), 0);
    set_clock(400);
    run_for_a_moment();
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    CU_ASSERT_PTR_NULL(strstr(read_file("record"), "renew"));
    end();
}

/* A clock that was years ahead for a while: the identity is as good as before. */
static void test_clock_comes_back(void) {
    begin(slow_configuration);
    set_workers("check=lost enroll=failed");
    set_clock(4000);
    CU_ASSERT(wait_for(is_waiting));
    set_workers("check=done enroll=failed");
    set_clock(0);
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    end();
}

/* The same in the middle of the enrolment. */
static void test_clock_comes_back_meanwhile(void) {
    begin(slow_configuration);
    set_workers("check=lost enroll=hold");
    set_clock(4000);
    CU_ASSERT(wait_for(is_holding));
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_ENROLLING);
    set_workers("check=done enroll=failed");
    set_clock(0);
    run_for_a_moment();
    ASSERT_NUMBER(agent_cancel(world.agent, 0), ANSWER_YES);
    CU_ASSERT(wait_for(is_provisioned));
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    end();
}

/* What was wrong with a look is over when the next one is good. */
static bool is_without_error(const struct status *status) {
    return status->state == STATE_PROVISIONED && status->error.class[0] == '\0';
}

static void test_look_is_made_good(void) {
    struct failure failure = {0};
    begin(good_configuration);
    set_workers("check=failed-tpm");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(has_failed));
    set_workers("check=done");
    CU_ASSERT(wait_for(is_without_error));
    end();
}

/* As long as it waits, who looks at the status sees until when. */
static void test_look_that_waits(void) {
    struct failure failure = {0};
    begin(slow_configuration);
    set_workers("check=failed-tpm");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(has_failed));
    settle();
    const struct status *status = agent_status(world.agent);
    uint64_t next_usec = status->next_attempt_usec;
    CU_ASSERT(next_usec > (uint64_t)time(NULL) * 1000000);
    ASSERT_TEXT(status->step, "");
    set_clock(10);
    set_workers("check=failed-tpm");
    settle();
    CU_ASSERT(status->next_attempt_usec > next_usec + 9ULL * DAY * 1000000);
    set_workers("check=done");
    pass(7200);
    settle();
    ASSERT_TEXT(status->error.class, "");
    ASSERT_NUMBER(status->next_attempt_usec, 0);
    end();
}

/* Back by years and forth again: what is due by the date of now is done, once, and nothing else. */
static void test_clock_jumps(void) {
    begin(good_configuration);
    set_workers("check=done renew=done");
    set_clock(-8000);
    run_for_a_moment();
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    ASSERT_TEXT(read_file("record"), "enroll\ncheck\n");
    set_dates(-1, 600);
    set_clock(300); /* by the dates that are known, it is due */
    CU_ASSERT(wait_for(is_second));
    set_clock(-8000);
    run_for_a_moment();
    set_clock(300);
    run_for_a_moment();
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    ASSERT_TEXT(read_file("record"), "enroll\ncheck\nrenew\ncheck\n");
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    end();
}

/* Due by a clock that nobody has set yet: nothing is sent until somebody has. */
static void test_clock_set_late(void) {
    begin(good_configuration);
    ASSERT_NUMBER(unlinkat(world.top_fd, "clock/synchronized", 0), 0);
    ahead_s = 300 * DAY;
    restart("check=done renew=done");
    expect_state(is_quiet, STATE_PROVISIONED);
    run_for_a_moment();
    ASSERT_TEXT(read_file("record"), "check\n");
    AUTO_CLOSE int told = openat(world.top_fd, "clock/synchronized", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT(told >= 0);
    set_clock(301);
    CU_ASSERT(wait_for(is_second));
    end();
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"a warning by a clock that nobody sets", test_warning},
        {"an identity that has expired", test_expired},
        {"a doubtful clock lets none expire", test_expired_by_a_doubtful_clock},
        {"a clock that was ahead for a while", test_clock_comes_back},
        {"a clock that comes back in the middle of an enrolment", test_clock_comes_back_meanwhile},
        {"a look that fails and is made good", test_look_is_made_good},
        {"a look that waits", test_look_that_waits},
        {"a clock that jumps by years", test_clock_jumps},
        {"a clock that is set late", test_clock_set_late},
        {NULL, NULL},
    };
    return fake_worker_unit_run("renew-clock", tests, argc, argv);
}
