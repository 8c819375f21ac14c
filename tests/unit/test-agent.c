#include "agent-world.h"

#include "common/cleanup.h"
#include "daemon/directory.h"
#include "daemon/runtime.h"
#include "fake-worker.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

static bool is_waiting_second_time(const struct status *status) {
    return is_waiting(status) && status->attempt == 2;
}

static bool is_holding(const struct status *status) {
    return strcmp(status->step, "claim") == 0;
}

static void provision(void) {
    start("enroll=done check=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
}

/* --- the good ways --- */

static void test_first_enrolment(void) {
    set_up(good_configuration);
    provision();
    const struct status *status = agent_status(world.agent);
    ASSERT_NUMBER(status->generation, 1);
    ASSERT_TEXT(status->identity.thing_name, "gateway-1");
    ASSERT_TEXT(status->method, "fleet-claim");
    ASSERT_TEXT(status->credential_directory, world.current);
    ASSERT_TEXT(status->error.class, "");
    ASSERT_NUMBER(status->next_attempt_usec, 0);
    ASSERT_NUMBER(status->attempt, 0);
    ASSERT_TEXT(read_file("record"), "enroll\ncheck\n");
    ASSERT_TEXT(read_file("state/current/private.pem"), "private-key");
    ASSERT_TEXT(read_file("run/generation"), "1\n");
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    ASSERT_NUMBER(is_there("state/retry"), 0);
    tear_down();
}

static void test_boot_of_provisioned(void) {
    set_up(good_configuration);
    provision();
    stop();
    unlinkat(world.top_fd, "record", 0);
    start("check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_CHECKING);
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_TEXT(read_file("record"), "check\n");
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    tear_down();
}

/* --- failures --- */

static void test_transient_failure(void) {
    set_up(good_configuration);
    start("enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    expect_error("network", "told to fail");
    CU_ASSERT(agent_status(world.agent)->next_attempt_usec > 0);
    expect_state(is_waiting_second_time, STATE_BACKOFF);
    setenv(FAKE_WORKER_VARIABLE, "enroll=done check=done", 1);
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(is_there("state/retry"), 0);
    tear_down();
}

static void test_denied(void) {
    set_up(good_configuration);
    setenv(FAKE_CLASS_VARIABLE, "denied", 1);
    start("enroll=failed");
    expect_state(is_waiting, STATE_FAILED);
    setenv(FAKE_WORKER_VARIABLE, "enroll=done check=done", 1);
    expect_state(is_provisioned, STATE_PROVISIONED); /* tried again all the same */
    unsetenv(FAKE_CLASS_VARIABLE);
    tear_down();
}

static void test_files_not_verified(void) {
    set_up(slow_configuration);
    start("enroll=done check=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    ASSERT_NUMBER(is_there("state/incoming"), 0);
    ASSERT_NUMBER(is_there("state/current"), 0);
    ASSERT_NUMBER(is_there("run/provisioned"), 0);
    tear_down();
}

/* The TPM may be late, or busy: that is no reason to give up an identity. */
static void test_check_fails(void) {
    set_up(slow_configuration);
    provision();
    stop();
    setenv(FAKE_CLASS_VARIABLE, "tpm", 1);
    start("check=failed enroll=done");
    expect_state(is_waiting, STATE_BACKOFF);
    expect_error("tpm", "told to fail");
    ASSERT_NUMBER(is_there("state/current"), 1);
    ASSERT_NUMBER(is_there("run/provisioned"), 1);
    ASSERT_TEXT(agent_status(world.agent)->credential_directory, "");
    uint32_t id = 0;
    struct failure failure;
    setenv(FAKE_WORKER_VARIABLE, "check=done enroll=done", 1);
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_YES);
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1); /* checked, not enrolled anew */
    unsetenv(FAKE_CLASS_VARIABLE);
    tear_down();
}

static void test_lost(void) {
    set_up(slow_configuration);
    provision();
    stop();
    write_file("state/retry", "attempts=1\nbegun=no\nclass=network\nnext=99999999999999999\n");
    start("check=lost enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF); /* the record of attempts counts for it, too */
    ASSERT_NUMBER(is_there("run/provisioned"), 0);
    ASSERT_NUMBER(is_there("run/lost"), 1);
    uint32_t id = 0, same = 0;
    struct failure failure;
    setenv(FAKE_WORKER_VARIABLE, "check=done enroll=done", 1);
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_YES);
    ASSERT_NUMBER(agent_enroll(world.agent, &same, &failure), ANSWER_YES);
    ASSERT_NUMBER(same, id);
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 2);
    ASSERT_TEXT(read_file("run/generation"), "2\n");
    ASSERT_NUMBER(is_there("run/lost"), 0);
    tear_down();
}

/* By default a disk that was moved or cloned is an operator's affair; put back it works again. */
static void test_wrong_tpm(void) {
    set_up(good_configuration);
    provision();
    stop();
    start("check=elsewhere enroll=done");
    expect_state(is_waiting, STATE_FAILED);
    ASSERT_TEXT(agent_status(world.agent)->error.class, "tpm");
    ASSERT_NUMBER(is_there("run/provisioned"), 0);
    ASSERT_NUMBER(is_there("run/lost"), 1);
    ASSERT_NUMBER(is_there("state/current"), 1);
    setenv(FAKE_WORKER_VARIABLE, "check=done enroll=done", 1);
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->generation, 1);
    stop();
    write_file("enrolld.conf", "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n"
                               "[Key]\nOnWrongTPM=enroll\n");
    start("check=elsewhere enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    ASSERT_TEXT(agent_status(world.agent)->error.class, "network"); /* of the enrolment */
    tear_down();
}

/* --- the schedule outlives a restart --- */

static void test_schedule_survives(void) {
    set_up(slow_configuration);
    start("enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    uint64_t next_usec = agent_status(world.agent)->next_attempt_usec;
    stop();
    start("enroll=done check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_BACKOFF);
    ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, next_usec);
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 1);
    expect_error("network", "before this start");
    ASSERT_TEXT(read_file("record"), "enroll\n");
    tear_down();
}

/* The clock may have been set back since. */
static void test_far_next_attempt(void) {
    set_up(good_configuration);
    start("enroll=failed");
    stop();
    write_file("state/retry", "attempts=5\nbegun=no\nclass=network\nnext=99999999999999999\n");
    start("enroll=done check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_BACKOFF);
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 5);
    expect_state(is_provisioned, STATE_PROVISIONED);
    tear_down();
}

/* Without a clock of its own a board starts in the past each time: it must not pay with the longest wait. */
static void test_clock_behind(void) {
    set_up(slow_configuration);
    start("enroll=failed");
    stop();
    write_file("state/retry", "attempts=1\nbegun=no\nclass=network\nnext=99999999999999999\n");
    uint64_t latest_usec = ((uint64_t)time(NULL) + 3600 + PATIENCE_S) * 1000000;
    start("enroll=done check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_BACKOFF);
    CU_ASSERT(agent_status(world.agent)->next_attempt_usec < latest_usec);
    tear_down();
}

static void test_cut_off_attempt(void) {
    set_up(slow_configuration);
    start("enroll=hold");
    expect_state(is_holding, STATE_ENROLLING);
    CU_ASSERT_PTR_NOT_NULL(strstr(read_file("state/retry"), "attempts=1\nbegun=yes\n"));
    stop();
    start("enroll=done check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_BACKOFF);
    expect_error("internal", "cut off");
    CU_ASSERT_PTR_NOT_NULL(strstr(read_file("state/retry"), "attempts=1\nbegun=no\nclass=internal\n"));
    ASSERT_TEXT(read_file("record"), "enroll\n");
    tear_down();
}

/* --- requests --- */

static void test_enroll_request(void) {
    uint32_t id = 0, same = 0;
    struct failure failure;
    set_up(slow_configuration);
    start("enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    setenv(FAKE_WORKER_VARIABLE, "enroll=hold", 1);
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_YES);
    ASSERT_NUMBER(id, 2);
    expect_state(is_holding, STATE_ENROLLING);
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 1); /* counted anew */
    ASSERT_NUMBER(agent_enroll(world.agent, &same, &failure), ANSWER_YES);
    ASSERT_NUMBER(same, id);
    tear_down();
}

/* The cloud takes one CONNECT per second and client id. */
static void test_distance(void) {
    uint32_t id = 0;
    struct failure failure;
    struct timespec before, after;
    set_up(slow_configuration);
    start("enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    clock_gettime(CLOCK_MONOTONIC, &before);
    setenv(FAKE_WORKER_VARIABLE, "enroll=hold", 1);
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_YES);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_ENROLLING);
    expect_state(is_holding, STATE_ENROLLING);
    clock_gettime(CLOCK_MONOTONIC, &after);
    CU_ASSERT((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 > 900);
    tear_down();
}

static void test_enroll_refused(void) {
    uint32_t id = 0;
    struct failure failure;
    set_up(good_configuration);
    provision();
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_ALREADY_PROVISIONED);
    stop();
    start("check=hold");
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_BUSY);
    tear_down();
}

static void test_cancel(void) {
    set_up(slow_configuration);
    start("enroll=hold");
    ASSERT_NUMBER(agent_cancel(world.agent, 2), ANSWER_NO_SUCH_JOB);
    expect_state(is_holding, STATE_ENROLLING);
    ASSERT_NUMBER(agent_cancel(world.agent, 1), ANSWER_YES);
    expect_state(is_waiting, STATE_BACKOFF);
    expect_error("internal", "canceled on request");
    ASSERT_NUMBER(agent_cancel(world.agent, 1), ANSWER_NO_SUCH_JOB);
    ASSERT_NUMBER(agent_cancel(world.agent, 0), ANSWER_NO_SUCH_JOB);
    tear_down();
}

/* 0: whatever runs. */
static void test_cancel_what_runs(void) {
    set_up(slow_configuration);
    start("enroll=hold");
    expect_state(is_holding, STATE_ENROLLING);
    ASSERT_NUMBER(agent_cancel(world.agent, 0), ANSWER_YES);
    expect_state(is_waiting, STATE_BACKOFF);
    expect_error("internal", "canceled on request");
    tear_down();
}

static void test_bad_configuration(void) {
    uint32_t id = 0;
    struct failure failure;
    set_up("[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=https://example.com\n");
    start("enroll=done check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_FAILED);
    expect_error("invalid", "enrolld.conf:4: Endpoint=");
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_INVALID_CONFIGURATION);
    write_file("enrolld.conf", "[Agent\n");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_INVALID_CONFIGURATION);
    expect_error("invalid", "enrolld.conf:1:");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_FAILED);
    write_file("enrolld.conf", good_configuration);
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    expect_state(is_provisioned, STATE_PROVISIONED);
    write_file("enrolld.conf", "[Agent\n");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_INVALID_CONFIGURATION);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    ASSERT_TEXT(agent_status(world.agent)->error.class, "");
    tear_down();
}

/* Many short settings are several times as large when each goes with the path of its file. */
static void test_large_configuration(void) {
    uint32_t id = 0;
    struct failure failure;
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    fprintf(stream, "%s[fleet-claim]\n", good_configuration);
    for (int i = 0; i < 320; i++)
        fprintf(stream, "Parameter.P%d=%0170d\n", i, i);
    fclose(stream);
    CU_ASSERT(size < 64 * 1024);
    set_up(text);
    start("enroll=done check=done");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_FAILED);
    expect_error("invalid", "at most 64 KiB");
    ASSERT_TEXT(agent_status(world.agent)->error.step, "configuration");
    ASSERT_NUMBER(agent_enroll(world.agent, &id, &failure), ANSWER_INVALID_CONFIGURATION);
    write_file("enrolld.conf", good_configuration);
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    expect_state(is_provisioned, STATE_PROVISIONED);
    write_file("enrolld.conf", text);
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_INVALID_CONFIGURATION);
    tear_down();
}

static void test_reload_brings_forward(void) {
    struct failure failure;
    set_up(slow_configuration);
    start("enroll=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    setenv(FAKE_WORKER_VARIABLE, "enroll=done check=done", 1);
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    expect_state(is_provisioned, STATE_PROVISIONED);
    tear_down();
}

static bool is_idle(const struct status *status) {
    return status->state == STATE_PROVISIONED && status->step[0] == '\0';
}

/* At once, whatever is going on; and the look at the identity that follows comes to its end. */
static void test_reload_of_methods(void) {
    struct failure failure;
    set_up(good_configuration);
    provision();
    ASSERT_NUMBER(agent_status(world.agent)->method_count, 1);
    write_file("enrolld.conf", "[Agent]\nMethods=jitp jitr\n[Cloud]\nEndpoint=localhost\nRootCA=/ca.pem\n");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    ASSERT_NUMBER(agent_status(world.agent)->method_count, 2);
    ASSERT_TEXT(agent_status(world.agent)->methods[1].name, "jitr");
    expect_state(is_idle, STATE_PROVISIONED);
    write_file("enrolld.conf", "[Agent]\nMethods=jitp\n[Cloud]\nEndpoint=localhost\nRootCA=/ca.pem\n");
    ASSERT_NUMBER(agent_reload(world.agent, &failure), ANSWER_YES);
    ASSERT_NUMBER(agent_status(world.agent)->method_count, 1);
    ASSERT_TEXT(agent_status(world.agent)->methods[1].name, ""); /* the bus sees by that byte that there is one less */
    tear_down();
}

static void test_stop(void) {
    set_up(slow_configuration);
    start("enroll=stubborn");
    time_t deadline = time(NULL) + PATIENCE_S;
    while (agent_status(world.agent)->step[0] == '\0' && time(NULL) < deadline)
        sd_event_run(world.event, 100000);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    agent_stop(world.agent);
    ASSERT_NUMBER(sd_event_loop(world.event), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    CU_ASSERT(after.tv_sec - before.tv_sec < 5);
    tear_down();
}

/* --- checkpoints --- */

static void test_checkpoint_goes_with_success(void) {
    set_up(good_configuration);
    start("enroll=checkpoint check=done");
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(is_there("state/checkpoint-fleet-claim"), 0);
    tear_down();
}

static void test_checkpoint_stays_with_failure(void) {
    set_up(slow_configuration);
    start("enroll=checkpoint check=failed");
    expect_state(is_waiting, STATE_BACKOFF);
    ASSERT_TEXT(read_file("state/checkpoint-fleet-claim"), "as far as this");
    tear_down();
}

/* What it leads to has been judged, and can never work. */
static void test_checkpoint_goes_when_lost(void) {
    set_up(slow_configuration);
    start("enroll=checkpoint check=lost");
    expect_state(is_waiting, STATE_BACKOFF);
    ASSERT_NUMBER(is_there("state/checkpoint-fleet-claim"), 0);
    tear_down();
}

/* One worker more, in the same attempt; a third one would be one too many. */
static void test_resume(void) {
    set_up(slow_configuration);
    start("enroll=resume");
    expect_state(is_waiting, STATE_BACKOFF);
    expect_error("internal", "a second time");
    ASSERT_TEXT(read_file("record"), "enroll\nenroll\n");
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 1);
    tear_down();
}

/* The unit of the worker: credentials are for the methods whose settings name one. */
static void expect_unit(const char *method_settings, const char *unit) {
    char text[1024];
    snprintf(text, sizeof text, "%s[fleet-claim]\n%s", slow_configuration, method_settings);
    set_up(text);
    world.by_sockets = true;
    start("");
    world.by_sockets = false;
    expect_state(is_waiting, STATE_BACKOFF);
    expect_error("internal", unit);
    tear_down();
}

static void test_units(void) {
    expect_unit("PrivateKey=/claim.key\n", "is enrolld-worker.socket active?");
    expect_unit("PrivateKey=credential:claim-key\n", "is enrolld-claim.socket active?");
    expect_unit("Parameter.Token=credential:token\n", "is enrolld-claim.socket active?");
    expect_unit("PrivateKey=credential:claim-key\nPrivateKey=/claim.key\n", "is enrolld-worker.socket active?");
    expect_unit("[other]\nPrivateKey=credential:claim-key\n", "is enrolld-worker.socket active?");
}

/* --- the network --- */

static int kernel = -1; /* the kernel's end of its socket */

static void tell(unsigned short type) {
    const struct nlmsghdr message = {.nlmsg_len = sizeof message, .nlmsg_type = type};
    ASSERT_NUMBER(send(kernel, &message, sizeof message, 0), sizeof message);
}

static void connect_kernel(void) {
    int pair[2];
    ASSERT_NUMBER(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    kernel = pair[0];
    world.route = pair[1];
}

static void run_for_a_moment(void) {
    while (sd_event_run(world.event, 0) > 0)
        ;
}

static uint64_t waiting_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return agent_status(world.agent)->next_attempt_usec / 1000000 - (uint64_t)now.tv_sec;
}

static const char network_configuration[] =
    "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n"
    "[Retry]\nNetwork=1s 20d\nDenied=20d 20d\n";

/* One that has failed so often that the next attempt is days away. */
static void start_late(const char *class) {
    char text[128];
    set_up(network_configuration);
    snprintf(text, sizeof text, "attempts=40\nbegun=no\nclass=%s\nnext=99999999999999999\n", class);
    mkdir(world.state_path, 0711);
    write_file("state/retry", text);
    connect_kernel();
    start("enroll=done check=done");
    CU_ASSERT(waiting_s() > 3600);
}

static void end_late(void) {
    tear_down();
    close(kernel);
}

static void test_network(void) {
    start_late("network");
    tell(RTM_DELROUTE);
    tell(RTM_NEWLINK);
    run_for_a_moment();
    CU_ASSERT(waiting_s() > 3600);
    tell(RTM_NEWROUTE);
    run_for_a_moment();
    CU_ASSERT(waiting_s() <= 5);
    expect_state(is_provisioned, STATE_PROVISIONED);
    run_for_a_moment();
    tell(RTM_NEWADDR); /* nobody is woken */
    ASSERT_NUMBER(sd_event_run(world.event, 0), 0);
    end_late();
}

/* A request in between, after which the agent looks anew at what is due, does not throw the earlier time away. */
static void test_network_before_request(void) {
    struct failure failure = {0};
    uint32_t id = 0;
    start_late("network");
    setenv(FAKE_WORKER_VARIABLE, "enroll=done check=done request=staged", 1);
    tell(RTM_NEWROUTE);
    run_for_a_moment();
    ASSERT_NUMBER(agent_request(world.agent, "", &id, &failure), ANSWER_YES);
    expect_state(is_provisioned, STATE_PROVISIONED);
    end_late();
}

/* The network of the attempt that was brought forward was no good either: the next one comes, but later. */
static void test_network_changes_often(void) {
    start_late("network");
    setenv(FAKE_WORKER_VARIABLE, "enroll=failed", 1);
    tell(RTM_NEWADDR);
    run_for_a_moment();
    CU_ASSERT(waiting_s() <= 5);
    time_t deadline = time(NULL) + PATIENCE_S;
    while ((agent_status(world.agent)->attempt != 41 || !is_waiting(agent_status(world.agent))) &&
           time(NULL) < deadline)
        sd_event_run(world.event, 100000);
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 41);
    CU_ASSERT(waiting_s() > 60);
    tell(RTM_NEWADDR);
    run_for_a_moment();
    CU_ASSERT(waiting_s() > 20 && waiting_s() <= 31);
    end_late();
}

static void test_network_is_no_matter(void) {
    start_late("denied");
    tell(RTM_NEWADDR);
    run_for_a_moment();
    CU_ASSERT(waiting_s() > 3600);
    end_late();
    start_late("network"); /* a socket that is closed is given up, and does not wake for ever */
    close(kernel);
    kernel = -1;
    shutdown(world.route, SHUT_RDWR);
    run_for_a_moment();
    CU_ASSERT(waiting_s() > 3600);
    end_late();
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"the first enrolment", test_first_enrolment},
        {"a provisioned device needs one worker run", test_boot_of_provisioned},
        {"a transient failure is tried again", test_transient_failure},
        {"denied: failed, and tried again all the same", test_denied},
        {"files that are not verified are not committed", test_files_not_verified},
        {"a check that fails keeps the identity", test_check_fails},
        {"a lost identity is replaced", test_lost},
        {"an identity of another TPM follows OnWrongTPM=", test_wrong_tpm},
        {"the schedule outlives a restart", test_schedule_survives},
        {"a next attempt in the far future is brought near", test_far_next_attempt},
        {"a clock that is behind costs one wait of that attempt", test_clock_behind},
        {"an attempt that was cut off has failed", test_cut_off_attempt},
        {"Enroll starts at once and counts anew", test_enroll_request},
        {"enrolments on request keep a distance", test_distance},
        {"Enroll is refused", test_enroll_refused},
        {"Cancel", test_cancel},
        {"Cancel what runs", test_cancel_what_runs},
        {"a bad configuration, and its repair", test_bad_configuration},
        {"a configuration that is too large", test_large_configuration},
        {"Reload brings the next attempt forward", test_reload_brings_forward},
        {"Reload with other methods", test_reload_of_methods},
        {"stop cuts the worker off", test_stop},
        {"the checkpoint goes when an identity is in use", test_checkpoint_goes_with_success},
        {"the checkpoint stays after a failure", test_checkpoint_stays_with_failure},
        {"the checkpoint goes when it leads nowhere", test_checkpoint_goes_when_lost},
        {"an attempt goes on with another worker, once", test_resume},
        {"a change of the network brings the next attempt forward", test_network},
        {"a request after the network has changed", test_network_before_request},
        {"changes of the network bring attempts seldom", test_network_changes_often},
        {"a change of the network mends no refusal", test_network_is_no_matter},
        {"credentials are for methods that name one", test_units},
        {NULL, NULL},
    };
    return fake_worker_unit_run("agent", tests, argc, argv);
}
