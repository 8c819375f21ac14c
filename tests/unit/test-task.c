#include "agent-world.h"

#include "common/memfd.h"
#include "fake-worker.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char two_methods[] = "[Agent]\nMethods=jitp fleet-claim\nOnDenied=next\n[Cloud]\nEndpoint=example.com\n"
                                  "RootCA=/ca.pem\n[Retry]\nNotYet=1h 2h\nDenied=1h 2h\nInvalid=1h 2h\n";

static enum agent_answer request(uint32_t *ret_id) {
    struct failure failure = {0};
    return agent_request(world.agent, "", ret_id, &failure);
}

static enum agent_answer import(uint32_t *ret_id) {
    struct failure failure = {0};
    return agent_import(world.agent, memfd_create_sealed("chain", "c", 1), -1, ret_id, &failure);
}

static bool has_request(const struct status *status) {
    (void)status;
    return agent_request_pem(world.agent) != NULL;
}

static bool is_staged(const struct status *status) {
    (void)status;
    return is_there("state/staged");
}

static bool is_running(const struct status *status) {
    return strcmp(status->step, "claim") == 0;
}

static bool has_checkpoint(const struct status *status) {
    (void)status;
    return is_there("state/checkpoint-jitp") || is_there("state/checkpoint-fleet-claim");
}

static uint64_t now_usec(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* --- methods --- */

static void test_next_method(void) {
    set_up(two_methods);
    start("jitp=unusable fleet-claim=done check=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
    const struct status *status = agent_status(world.agent);
    ASSERT_TEXT(status->methods[0].message, "there is no claim");
    ASSERT_TEXT(method_outcome_name(&status->methods[0]), "unusable");
    ASSERT_TEXT(method_outcome_name(&status->methods[1]), "done");
    ASSERT_TEXT(read_file("record"), "enroll\nenroll\ncheck\n");
    tear_down();
}

static void test_denied_method(void) {
    set_up(two_methods);
    start("jitp=failed-denied fleet-claim=failed-not-yet");
    expect_state(is_waiting, STATE_BACKOFF);
    expect_error("not-yet", "told to fail so");
    ASSERT_TEXT(agent_status(world.agent)->method, "fleet-claim");
    ASSERT_TEXT(method_outcome_name(&agent_status(world.agent)->methods[0]), "denied");
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 1);
    tear_down();
}

static void test_not_yet_stays(void) {
    set_up(two_methods);
    start("jitp=failed-not-yet fleet-claim=done");
    expect_state(is_waiting, STATE_BACKOFF);
    ASSERT_TEXT(read_file("record"), "enroll\n");
    ASSERT_TEXT(agent_status(world.agent)->method, "jitp");
    tear_down();
}

/* --- requests and imports --- */

static void test_request(void) {
    uint32_t id = 0;
    set_up(two_methods);
    start("jitp=unusable fleet-claim=unusable request=staged");
    expect_state(is_waiting, STATE_FAILED);
    ASSERT_NUMBER(request(&id), ANSWER_YES);
    CU_ASSERT(id > 0);
    ASSERT_NUMBER(wait_for(has_request), true);
    ASSERT_TEXT(agent_request_pem(world.agent), "the request");
    ASSERT_TEXT(read_file("state/staged"), "what waits");
    /* The next attempt comes when it was to come. */
    expect_state(is_waiting, STATE_FAILED);
    ASSERT_TEXT(read_file("record"), "enroll\nenroll\nrequest\n");
    tear_down();
}

/* What was waited for is here: the next attempt comes at once. */
static void test_import(void) {
    uint32_t id = 0;
    set_up(two_methods);
    start("jitp=unusable fleet-claim=unusable import=staged check=done");
    expect_state(is_waiting, STATE_FAILED);
    setenv(FAKE_WORKER_VARIABLE, "jitp=done import=staged check=done", 1);
    ASSERT_NUMBER(import(&id), ANSWER_YES);
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_TEXT(read_file("record"), "enroll\nenroll\nimport\nenroll\ncheck\n");
    ASSERT_NUMBER(is_there("state/staged"), 0);
    /* The receipt once more, if it was lost; the worker sees whether it is that certificate. */
    ASSERT_NUMBER(import(&id), ANSWER_YES);
    while (import(&id) == ANSWER_BUSY)
        sd_event_run(world.event, 100000);
    expect_state(is_provisioned, STATE_PROVISIONED);
    tear_down();
}

static void test_failed_import(void) {
    uint32_t id = 0;
    set_up(two_methods);
    start("jitp=unusable fleet-claim=unusable import=failed-invalid");
    expect_state(is_waiting, STATE_FAILED);
    ASSERT_NUMBER(import(&id), ANSWER_YES);
    ASSERT_NUMBER(request(&id), ANSWER_BUSY);
    while (request(&id) == ANSWER_BUSY)
        sd_event_run(world.event, 100000);
    expect_state(is_waiting, STATE_FAILED);
    expect_error("invalid", "none of the methods can be used"); /* of the attempts, still */
    tear_down();
}

/* It comes when the present worker has ended, and the attempt goes on by itself. */
static void test_request_while_enrolling(void) {
    uint32_t id = 0;
    set_up(two_methods);
    start("jitp=hold request=staged");
    ASSERT_NUMBER(wait_for(is_running), true);
    ASSERT_NUMBER(request(&id), ANSWER_YES);
    ASSERT_NUMBER(request(&id), ANSWER_BUSY);
    sd_event_run(world.event, 100000);
    ASSERT_NUMBER(is_there("state/staged"), 0);
    ASSERT_NUMBER(agent_cancel(world.agent, id - 1), ANSWER_YES);
    ASSERT_NUMBER(wait_for(is_staged), true);
    ASSERT_NUMBER(wait_for(has_request), true);
    tear_down();
}

static void test_cancel_of_request(void) {
    uint32_t id = 0;
    set_up(two_methods);
    start("jitp=hold request=hold");
    ASSERT_NUMBER(wait_for(is_running), true);
    ASSERT_NUMBER(request(&id), ANSWER_YES);
    ASSERT_NUMBER(agent_cancel(world.agent, id), ANSWER_YES); /* that waits */
    ASSERT_NUMBER(agent_cancel(world.agent, id), ANSWER_NO_SUCH_JOB);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_ENROLLING);
    ASSERT_NUMBER(request(&id), ANSWER_YES);
    ASSERT_NUMBER(agent_cancel(world.agent, 0), ANSWER_YES); /* what runs, not what waits */
    ASSERT_NUMBER(agent_cancel(world.agent, id), ANSWER_YES);
    tear_down();
}

static void run_for(uint64_t usec) {
    uint64_t end = now_usec() + usec;
    while (now_usec() < end)
        sd_event_run(world.event, 50000);
}

/* Neither is the next attempt's time. */
static void test_cancel_between_attempts(void) {
    uint32_t id = 0;
    set_up(two_methods);
    start("jitp=unusable fleet-claim=unusable request=staged");
    expect_state(is_waiting, STATE_FAILED);
    ASSERT_NUMBER(request(&id), ANSWER_YES);
    ASSERT_NUMBER(agent_cancel(world.agent, id), ANSWER_YES);
    run_for(300000);
    ASSERT_TEXT(read_file("record"), "enroll\nenroll\n");
    expect_state(is_waiting, STATE_FAILED);
    tear_down();
}

/* --- another configuration in the middle --- */

/* What has begun ends as it has begun: under its own name, with its own checkpoint. */
static void test_reload_while_enrolling(void) {
    struct failure failure = {0};
    set_up(two_methods);
    start("jitp=unusable fleet-claim=checkpoint-hold");
    ASSERT_NUMBER(wait_for(is_running), true);
    ASSERT_TEXT(agent_status(world.agent)->method, "fleet-claim");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    write_file("go", "");
    ASSERT_NUMBER(wait_for(has_checkpoint), true);
    ASSERT_TEXT(read_file("state/checkpoint-fleet-claim"), "as far as this");
    ASSERT_NUMBER(is_there("state/checkpoint-jitp"), 0);
    ASSERT_TEXT(agent_status(world.agent)->method, "fleet-claim");
    tear_down();
}

/* --- the distance between two attempts --- */

/* On a device that is provisioned no change of state would ever tell of it. */
static void test_reload_while_provisioned(void) {
    struct failure failure = {0};
    set_up(two_methods);
    start("jitp=done check=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->method_count, 2);
    write_file("enrolld.conf", "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    ASSERT_NUMBER(agent_status(world.agent)->method_count, 1);
    ASSERT_TEXT(agent_status(world.agent)->methods[0].name, "fleet-claim");
    tear_down();
}

static uint64_t count_enrolments(void) {
    uint64_t count = 0;
    for (const char *at = read_file("record"); (at = strstr(at, "enroll\n")) != NULL; at++)
        count++;
    return count;
}

static bool has_second_enrolment(const struct status *status) {
    (void)status;
    return count_enrolments() >= 2;
}

/* Whatever the waits of [Retry], and over a restart. */
static void test_distance(void) {
    static const char quick[] = "[Agent]\nMethods=jitp\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n"
                                "[Retry]\nNotYet=1ms 1ms\n";
    struct failure failure = {0};
    uint32_t id = 0;
    set_up(quick);
    start("jitp=failed-not-yet");
    expect_state(is_waiting, STATE_BACKOFF);
    uint64_t ended = now_usec();
    ASSERT_NUMBER(wait_for(has_second_enrolment), true);
    CU_ASSERT(now_usec() - ended > 900000);
    expect_state(is_waiting, STATE_BACKOFF);
    stop();
    ended = now_usec();
    write_file("record", "enroll\n");
    start("jitp=failed-not-yet");
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_YES);
    ASSERT_NUMBER(wait_for(has_second_enrolment), true);
    CU_ASSERT(now_usec() - ended > 900000);
    tear_down();
}

static bool is_proving(const struct status *status) {
    return strcmp(status->step, "prove") == 0;
}

/* One that waits while an identity comes into use is done all the same: the worker judges whether it is of use. */
static void test_request_when_provisioned_meanwhile(void) {
    uint32_t id = 0;
    set_up(two_methods);
    start("jitp=busy check=done request=failed");
    ASSERT_NUMBER(wait_for(is_proving), true);
    ASSERT_NUMBER(request(&id), ANSWER_YES);
    expect_state(is_provisioned, STATE_PROVISIONED);
    time_t deadline = time(NULL) + PATIENCE_S;
    while (strstr(read_file("record"), "request") == NULL && time(NULL) < deadline)
        sd_event_run(world.event, 10000);
    ASSERT_TEXT(read_file("record"), "enroll\ncheck\nrequest\n");
    tear_down();
}

/* A daemon that is killed has what is durable. */
static void test_staged_survives(void) {
    uint32_t id = 0;
    set_up(two_methods);
    start("jitp=unusable fleet-claim=unusable request=staged");
    expect_state(is_waiting, STATE_FAILED);
    ASSERT_NUMBER(request(&id), ANSWER_YES);
    ASSERT_NUMBER(wait_for(is_staged), true);
    stop();
    start("jitp=unusable fleet-claim=unusable");
    ASSERT_TEXT(read_file("state/staged"), "what waits");
    tear_down();
}

/* --- the list of methods --- */

static char listed[FAILURE_MESSAGE_MAX + 64];

static void on_listed(const char *text, size_t size, const struct failure *failure, void *data) {
    (void)data;
    if (text == NULL)
        snprintf(listed, sizeof listed, "%s", failure->message);
    else
        snprintf(listed, sizeof listed, "%s: %s, %zu", text, text + strlen(text) + 1, size);
}

static bool is_listed(const struct status *status) {
    (void)status;
    return listed[0] != '\0';
}

/* Beside whatever else is going on. */
static void test_list(void) {
    struct failure failure;
    set_up(two_methods);
    start("jitp=hold plugins=done");
    ASSERT_NUMBER(wait_for(is_running), true);
    ASSERT_NUMBER(agent_list_plugins(world.agent, on_listed, NULL, &failure), ANSWER_YES);
    ASSERT_NUMBER(agent_list_plugins(world.agent, on_listed, NULL, &failure), ANSWER_BUSY);
    ASSERT_NUMBER(wait_for(is_listed), true);
    ASSERT_TEXT(listed, "fleet-claim: by a claim, 23");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_ENROLLING);
    tear_down();
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"the next method", test_next_method},
        {"the next method after a refusal", test_denied_method},
        {"what may pass does not lead to the next method", test_not_yet_stays},
        {"a request", test_request},
        {"an import leads to an attempt at once", test_import},
        {"an import that fails changes nothing", test_failed_import},
        {"a request waits for the present worker", test_request_while_enrolling},
        {"a request that waits is canceled", test_cancel_of_request},
        {"a request that is canceled brings no attempt", test_cancel_between_attempts},
        {"another configuration while an attempt runs", test_reload_while_enrolling},
        {"another configuration while provisioned", test_reload_while_provisioned},
        {"the distance between two attempts", test_distance},
        {"a request while provisioning succeeds", test_request_when_provisioned_meanwhile},
        {"what is staged survives", test_staged_survives},
        {"the list of methods", test_list},
        {NULL, NULL},
    };
    return fake_worker_unit_run("task", tests, argc, argv);
}
