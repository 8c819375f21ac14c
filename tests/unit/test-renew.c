/* The state machine while an identity is in use: its successor in time, and what happens when there is none. */
#include "renewal-world.h"

#include "common/cleanup.h"
#include "daemon/job.h"
#include "fake-worker.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *read_link(const char *name) {
    static char text[64];
    ssize_t n = readlinkat(world.top_fd, name, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

/* The disk does not confirm what was done. */
static bool disk_fails;
int __real_fsync(int fd);
int __wrap_fsync(int fd);

int __wrap_fsync(int fd) {
    errno = EIO;
    return disk_fails && strcmp(read_file("run/generation"), "1\n") == 0 && is_there("state/generations/2") &&
                   strcmp(read_link("state/current"), "generations/2") == 0
               ? -1
               : __real_fsync(fd);
}

/* In place of the renewal's own deadline, which is too long to be waited for. */
static uint64_t deadline_usec, asked_deadline_usec;
int __real_job_start(sd_event *event, const struct launch *launch, const struct job_request *request,
                     int files[FILE_ROLE_COUNT], const struct job_handler *handler, struct job **ret,
                     struct failure *failure);
int __wrap_job_start(sd_event *event, const struct launch *launch, const struct job_request *request,
                     int files[FILE_ROLE_COUNT], const struct job_handler *handler, struct job **ret,
                     struct failure *failure);

int __wrap_job_start(sd_event *event, const struct launch *launch, const struct job_request *request,
                     int files[FILE_ROLE_COUNT], const struct job_handler *handler, struct job **ret,
                     struct failure *failure) {
    struct job_request shorter = *request;
    if (request->verb == VERB_RENEW) {
        asked_deadline_usec = request->deadline_usec;
        if (deadline_usec != 0)
            shorter.deadline_usec = deadline_usec;
    }
    return __real_job_start(event, launch, &shorter, files, handler, ret, failure);
}

static const char retiring_configuration[] =
    "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n"
    "[Renewal]\nRetireTopic=retire/%t\n[Retry]\nNetwork=20ms 40ms\nInternal=20ms 40ms\n";
static bool is_third(const struct status *status) {
    return status->state == STATE_PROVISIONED && status->generation == 3;
}

static bool is_hindered(const struct status *status) {
    return status->state == STATE_PROVISIONED && status->renew_hindrance[0] != '\0';
}

/* --- when --- */

static void test_not_yet(void) {
    begin(good_configuration);
    expect_state(is_quiet, STATE_PROVISIONED);
    const struct status *status = agent_status(world.agent);
    uint64_t latest = status->identity.not_before_usec + 365ULL * DAY * 1000000 / 100 * 66;
    ASSERT_TEXT(status->renew_rule, "lifetime");
    CU_ASSERT(status->renew_after_usec <= latest);
    CU_ASSERT(status->renew_after_usec >= latest - 365ULL * DAY * 1000000 / 10);
    run_for_a_moment();
    ASSERT_TEXT(read_file("record"), "enroll\ncheck\n");
    end();
}

static void test_due(void) {
    begin(good_configuration);
    set_workers("check=done renew=done");
    set_clock(300);
    CU_ASSERT(wait_for(is_second));
    const struct status *status = agent_status(world.agent);
    ASSERT_TEXT(read_file("record"), "enroll\ncheck\nrenew\ncheck\n");
    ASSERT_TEXT(status->identity.certificate_id, fake_certificate_id(2));
    ASSERT_TEXT(status->error.class, "");
    ASSERT_NUMBER(status->attempt, 0);
    ASSERT_NUMBER(status->next_attempt_usec, 0);
    ASSERT_TEXT(read_file("run/generation"), "2\n");
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    ASSERT_NUMBER(is_there("state/retry-renewal.1"), 0);
    ASSERT_NUMBER(is_there("state/generations/1"), 1);
    run_for_a_moment(); /* by its dates the successor is due, too: no loop */
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 2);
    end();
}

/* Switched off when its time came, and on again before the end. */
static void test_missed(void) {
    begin(good_configuration);
    ahead_s = 300 * DAY;
    restart("check=done renew=hold");
    expect_state(is_renewing, STATE_RENEWING);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1); /* which is in use */
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    end();
}

/* A slow machine once found it due a moment later at each look, and looked without end. */
static void test_slow_machine(void) {
    begin(good_configuration);
    ahead_s = 300 * DAY;
    reading_takes_ns = 20000;
    restart("check=done renew=hold");
    CU_ASSERT(wait_for(is_renewing));
    end();
}

/* AWS IoT's own certificates have no end: only MaxAge= renews them. */
static void test_never(void) {
    begin(good_configuration);
    set_fact("NOT_AFTER", "2524607999");
    restart("check=done renew=done");
    expect_state(is_quiet, STATE_PROVISIONED);
    ASSERT_TEXT(agent_status(world.agent)->renew_rule, "never");
    ASSERT_NUMBER(agent_status(world.agent)->renew_after_usec, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(agent_status(world.agent)->renew_hindrance, "MaxAge="));
    set_clock(3000);
    run_for_a_moment();
    ASSERT_TEXT(read_file("record"), "check\n");
    end();
}

/* What keeps it from being renewed is told to who asks; it may be gone when the configuration is read again. */
static void test_hindered(void) {
    uint32_t id = 0;
    struct failure failure = {0};
    begin(good_configuration);
    set_fact("HINDRANCE", "RenewTemplate= is not set");
    ahead_s = 300 * DAY;
    restart("check=done renew=done");
    expect_state(is_quiet, STATE_PROVISIONED);
    ASSERT_TEXT(agent_status(world.agent)->renew_hindrance, "RenewTemplate= is not set");
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_NOT_RENEWABLE);
    ASSERT_TEXT(failure.message, "RenewTemplate= is not set");
    set_fact("HINDRANCE", "");
    set_dates(299, 600);
    set_date("NOT_BEFORE", -1);
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_quiet));
    time_t deadline = time(NULL) + PATIENCE_S;
    while (agent_status(world.agent)->renew_hindrance[0] != '\0' && time(NULL) < deadline)
        sd_event_run(world.event, 10000);
    ASSERT_TEXT(agent_status(world.agent)->renew_hindrance, "");
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_second));
    end();
}

/* --- failures --- */

static void test_failure_keeps_the_old(void) {
    begin(slow_configuration);
    ahead_s = 360 * DAY;
    restart("check=done renew=failed");
    CU_ASSERT(wait_for(has_failed));
    const struct status *status = agent_status(world.agent);
    ASSERT_NUMBER(status->generation, 1);
    ASSERT_TEXT(status->error.class, "network");
    ASSERT_NUMBER(status->attempt, 1);
    CU_ASSERT(status->next_attempt_usec > (uint64_t)(time(NULL) + ahead_s) * 1000000);
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    ASSERT_NUMBER(is_there("run/lost"), 0);
    ASSERT_NUMBER(is_there("state/incoming"), 0);
    run_for_a_moment();
    ASSERT_TEXT(read_file("record"), "check\nrenew\n");
    ASSERT_NUMBER(journal_count(ID_EXPIRES), 0); /* it will be renewed */
    end();
}

/* A method that hangs: beyond the two proofs that it may wait for, as an enrolment. */
static void test_hangs(void) {
    begin(slow_configuration);
    ahead_s = 300 * DAY;
    deadline_usec = 300000;
    restart("check=done renew=hold");
    CU_ASSERT(wait_for(has_failed));
    const struct status *status = agent_status(world.agent);
    CU_ASSERT(asked_deadline_usec > JOB_ENROLL_DEADLINE_USEC);
    CU_ASSERT(asked_deadline_usec < 2 * JOB_ENROLL_DEADLINE_USEC);
    ASSERT_NUMBER(status->generation, 1);
    ASSERT_TEXT(status->error.class, "internal");
    ASSERT_TEXT(status->error.step, "worker");
    ASSERT_TEXT(status->error.message, "the worker did not end within 0.3 s");
    ASSERT_NUMBER(status->attempt, 1);
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    ASSERT_TEXT(read_link("state/current"), "generations/1");
    deadline_usec = 0;
    end();
}

static void test_failure_is_tried_again(void) {
    begin(good_configuration);
    ahead_s = 300 * DAY;
    restart("check=done renew=failed");
    CU_ASSERT(wait_for(has_failed_twice));
    set_dates(299, 600);
    set_workers("check=done renew=done");
    CU_ASSERT(wait_for(is_second));
    ASSERT_TEXT(agent_status(world.agent)->error.class, "");
    ASSERT_NUMBER(is_there("state/retry-renewal.1"), 0);
    end();
}

/* The schedule survives a restart, and an attempt that was cut off counts. */
static void test_schedule_survives(void) {
    begin(slow_configuration);
    ahead_s = 300 * DAY;
    restart("check=done renew=hold");
    CU_ASSERT(wait_for(is_holding));
    restart("check=done renew=done");
    CU_ASSERT(wait_for(has_failed));
    const struct status *status = agent_status(world.agent);
    ASSERT_TEXT(status->error.class, "internal");
    run_for_a_moment();
    CU_ASSERT(status->next_attempt_usec > (uint64_t)(time(NULL) + ahead_s) * 1000000);
    run_for_a_moment();
    ASSERT_TEXT(read_file("record"), "check\n");
    end();
}

static void test_files_not_verified(void) {
    begin(slow_configuration);
    ahead_s = 300 * DAY;
    restart("check=done renew=hold");
    CU_ASSERT(wait_for(is_holding));
    unlinkat(world.top_fd, "state/retry-renewal.1", 0);
    restart("check=done renew=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
    set_workers("check=lost renew=done");
    CU_ASSERT(wait_for(has_failed));
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    ASSERT_TEXT(read_file("state/current/certificate.pem"), "certificate");
    ASSERT_NUMBER(is_there("state/incoming"), 0);
    end();
}

/* A checkpoint of a renewal outlives restarts and checks, and goes with success. */
static void test_checkpoint(void) {
    begin(slow_configuration);
    ahead_s = 300 * DAY;
    restart("check=done renew=checkpoint-hold");
    CU_ASSERT(wait_for(is_holding));
    write_file("go", "");
    time_t deadline = time(NULL) + PATIENCE_S;
    while (!is_there("state/renewal-fleet-claim.1") && time(NULL) < deadline)
        sd_event_run(world.event, 10000);
    ASSERT_NUMBER(is_there("state/renewal-fleet-claim.1"), 1);
    ASSERT_NUMBER(is_there("state/checkpoint-fleet-claim"), 0);
    unlinkat(world.top_fd, "state/retry-renewal.1", 0);
    restart("check=done renew=done");
    CU_ASSERT(wait_for(is_second));
    ASSERT_NUMBER(is_there("state/renewal-fleet-claim.1"), 0);
    end();
}

/* The last fsync of the commit fails when the successor is in use already. */
static void test_commit_is_not_durable(void) {
    uint32_t id = 0;
    struct failure failure;
    begin(retiring_configuration);
    set_workers("check=done renew=done retire=hold");
    disk_fails = true;
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(has_failed));
    expect_error("internal", "durable");
    /* Nothing is done with it before it is known, however long that takes. */
    set_workers("check=failed renew=done retire=hold");
    write_file("record", "");
    disk_fails = false;
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_BUSY);
    run_for_a_moment();
    CU_ASSERT_PTR_NULL(strstr(read_file("record"), "renew"));
    CU_ASSERT_PTR_NULL(strstr(read_file("record"), "retire"));
    set_workers("check=done renew=done retire=hold");
    CU_ASSERT(wait_for(is_second));
    CU_ASSERT_PTR_NOT_NULL(strstr(read_file("state/retire"), fake_certificate_id(1)));
    ASSERT_TEXT(read_file("run/generation"), "2\n");
    end();
}

/* A renewal may wait for the cloud for long: what is configured meanwhile holds when it has ended. */
static void test_reloaded_meanwhile(void) {
    struct failure failure = {0};
    begin(slow_configuration);
    ahead_s = 300 * DAY;
    restart("check=done renew=hold");
    CU_ASSERT(wait_for(is_holding));
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    set_fact("HINDRANCE", "RenewTemplate= is not set");
    ASSERT_NUMBER(agent_cancel(world.agent, 0), ANSWER_YES);
    CU_ASSERT(wait_for(is_hindered));
    end();
}

/* --- who asks --- */

static void test_asked(void) {
    uint32_t id = 0, same = 0;
    struct failure failure;
    begin(good_configuration);
    set_workers("check=done renew=hold");
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(id != 0);
    ASSERT_NUMBER(agent_renew(world.agent, &same, &failure), ANSWER_YES);
    ASSERT_NUMBER(same, id);
    CU_ASSERT(wait_for(is_holding));
    ASSERT_NUMBER(agent_enroll(world.agent, &same, &failure), ANSWER_ALREADY_PROVISIONED);
    ASSERT_NUMBER(agent_cancel(world.agent, id), ANSWER_YES);
    CU_ASSERT(wait_for(has_failed));
    expect_error("internal", "canceled on request");
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    write_file("record", "");
    run_for_a_moment();
    ASSERT_TEXT(read_file("record"), "");
    ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, 0);
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 0);
    end();
}

/* No date says that it is due: it is for the sake of who has asked, also after a restart. */
static void test_asked_and_failed(void) {
    uint32_t id = 0;
    struct failure failure;
    begin(good_configuration);
    set_workers("check=done renew=failed");
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(has_failed_twice));
    restart("check=done renew=failed");
    CU_ASSERT(wait_for(has_failed));
    set_workers("check=done renew=done");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_second));
    CU_ASSERT(wait_for(is_quiet));
    ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, 0);
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 0);
    end();
}

static void test_asked_in_vain(void) {
    uint32_t id = 0;
    struct failure failure;
    set_up(slow_configuration);
    start("enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_NO_IDENTITY);
    end();
    begin(good_configuration);
    restart("check=hold");
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_BUSY);
    end();
}

/* One after the other: numbers grow, one predecessor stays. */
static void test_again_and_again(void) {
    uint32_t id = 0;
    struct failure failure;
    begin(good_configuration);
    set_workers("check=done renew=done");
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_second));
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_third));
    ASSERT_NUMBER(is_there("state/generations/1"), 0);
    ASSERT_NUMBER(is_there("state/generations/2"), 1);
    end();
}

/* Only what an importing method waits for: a request from before another method renews is no reason. */
static void test_staged(void) {
    struct failure failure;
    begin(good_configuration);
    set_workers("check=done renew=done");
    write_file("state/staged.1", "a key that waits");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    run_for_a_moment();
    CU_ASSERT_PTR_NULL(strstr(read_file("record"), "renew"));
    set_fact("IMPORTED", "yes");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_second));
    end();
}

/* --- retirement --- */

/* The replaced certificate is on record before its successor is in force. */
static void test_replaced_is_on_record(void) {
    uint32_t id = 0;
    struct failure failure;
    begin(retiring_configuration);
    set_workers("check=done renew=done retire=failed");
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT_FATAL(mkdirat(world.top_fd, "state/generations/2", 0700) == 0);
    write_file("state/generations/2/in-the-way", "");
    CU_ASSERT(wait_for(has_failed));
    expect_error("internal", "commit");
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(read_file("state/retire"), fake_certificate_id(1)));
    end();
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"a certificate that is young", test_not_yet},
        {"its time has come", test_due},
        {"its time came while the device was switched off", test_missed},
        {"its time has come on a slow machine", test_slow_machine},
        {"a certificate without an end", test_never},
        {"what keeps it from being renewed", test_hindered},
        {"a failure leaves the old identity in use", test_failure_keeps_the_old},
        {"one that hangs is ended", test_hangs},
        {"a failure is tried again", test_failure_is_tried_again},
        {"the schedule survives a restart", test_schedule_survives},
        {"files that are not verified are not committed", test_files_not_verified},
        {"the checkpoint of a renewal", test_checkpoint},
        {"a commit that is not durable", test_commit_is_not_durable},
        {"a configuration that comes meanwhile", test_reloaded_meanwhile},
        {"somebody asks for it", test_asked},
        {"somebody asks, and it fails", test_asked_and_failed},
        {"somebody asks where it cannot be", test_asked_in_vain},
        {"one after the other", test_again_and_again},
        {"what is staged", test_staged},
        {"what is replaced is on record", test_replaced_is_on_record},
        {NULL, NULL},
    };
    return fake_worker_unit_run("renew", tests, argc, argv);
}
