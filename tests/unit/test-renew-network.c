/* The state machine while an identity is in use: a network that changes, and servers that say when to come again. */
#include "renewal-world.h"

#include "fake-worker.h"
#include "harness.h"

#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Waits that no test sees the end of, but by what brings an attempt forward. */
#define LONG_WAITS "[Retry]\nNetwork=20d 20d\nCloudBusy=10s 10s\nDenied=20d 20d\nInvalid=20d 20d\nInternal=20d 20d\n"
#define HEAD "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n"

static const char waiting[] = HEAD LONG_WAITS;
static const char retiring[] = HEAD "[Renewal]\nRetireTopic=retire/%t\n" LONG_WAITS;
static const char proving[] = HEAD "[Renewal]\nProveInterval=10d\n" LONG_WAITS;
static const char healing[] = HEAD "[Retry]\nNetwork=20d 20d\nDenied=1d 1d\n";

static uint64_t waiting_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t next_s = agent_status(world.agent)->next_attempt_usec / 1000000;
    return next_s > (uint64_t)now.tv_sec ? next_s - (uint64_t)now.tv_sec : 0;
}

/* It is due, and the first attempt has failed so; after a restart, as the record on the disk has it. */
static void begin_due(const char *configuration, const char *class) {
    char workers[64];
    begin(configuration);
    snprintf(workers, sizeof workers, "check=done prove=done renew=failed-%s", class);
    ahead_s = 300 * DAY;
    connect_kernel();
    restart(workers);
    CU_ASSERT(wait_for(has_failed));
    settle();
    ASSERT_NUMBER(count_runs("renew"), 1);
    ASSERT_TEXT(agent_status(world.agent)->error.class, class);
}

/* --- brought forward --- */

/* And so is the time that the system has slept: CLOCK_MONOTONIC stands still meanwhile (timer_create(2)). */
static void test_sleep(void) {
    begin_due(waiting, "network");
    pass(19 * DAY);
    settle();
    ASSERT_NUMBER(count_runs("renew"), 1);
    pass(2 * DAY);
    settle();
    ASSERT_NUMBER(count_runs("renew"), 2);
    end();
}

static void test_brought_forward(void) {
    begin_due(waiting, "network");
    CU_ASSERT(waiting_s() > DAY);
    tell(RTM_DELROUTE);
    tell(RTM_NEWLINK);
    settle();
    CU_ASSERT(waiting_s() > DAY);
    tell(RTM_NEWROUTE);
    settle();
    CU_ASSERT(waiting_s() <= 8);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_PROVISIONED);
    ASSERT_NUMBER(count_runs("renew"), 1); /* not at once */
    set_dates(299, 600);
    set_workers("check=done renew=done");
    pass(9);
    CU_ASSERT(wait_for(is_second));
    ASSERT_NUMBER(is_there("state/retry-renewal.1"), 0);
    settle();
    tell(RTM_NEWADDR); /* nobody is woken */
    ASSERT_NUMBER(sd_event_run(world.event, 0), 0);
    end();
}

/* What has changed in the middle of the attempt counts for the next one. */
static void test_changed_meanwhile(void) {
    begin(waiting);
    ahead_s = 300 * DAY;
    connect_kernel();
    restart("check=done renew=fail-at-go");
    CU_ASSERT(wait_for(is_holding));
    tell(RTM_NEWADDR);
    run_for_a_moment();
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_RENEWING);
    write_file("go", "");
    CU_ASSERT(wait_for(has_failed));
    settle();
    CU_ASSERT(waiting_s() <= 8);
    end();
}

/* The time on the disk is the earlier one. */
static void test_brought_forward_and_restarted(void) {
    begin_due(waiting, "network");
    tell(RTM_NEWROUTE);
    settle();
    CU_ASSERT(waiting_s() <= 8);
    restart("check=done renew=hold");
    expect_state(is_provisioned, STATE_PROVISIONED);
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 1);
    CU_ASSERT(waiting_s() <= 8);
    pass(9);
    CU_ASSERT(wait_for(is_holding));
    ASSERT_NUMBER(agent_status(world.agent)->attempt, 2);
    end();
}

/* What the cloud has answered is no matter of the network. */
static void expect_left_alone(const char *class) {
    begin_due(waiting, class);
    uint64_t next_usec = agent_status(world.agent)->next_attempt_usec;
    CU_ASSERT(next_usec != 0);
    for (int i = 0; i < 300; i++) {
        tell(i % 2 == 0 ? RTM_NEWADDR : RTM_NEWROUTE);
        pass(1);
        settle();
    }
    ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, next_usec);
    ASSERT_NUMBER(count_runs("renew"), 1);
    end();
}

static void test_left_alone(void) {
    expect_left_alone("denied");
    expect_left_alone("invalid");
    expect_left_alone("internal");
}

/* --- flapping --- */

#define QUIET_S 30

/* Changes all the time, a fifth of a second apart by the clock of the kernel: how often it is tried in so many seconds.
 */
static unsigned flap(const char *verb, unsigned seconds) {
    forget_runs();
    for (unsigned i = 0; i < seconds; i++) {
        for (int j = 0; j < 5; j++) {
            tell(j % 2 == 0 ? RTM_NEWADDR : RTM_NEWROUTE);
            settle();
        }
        pass(1);
        settle();
    }
    return count_runs(verb);
}

static void expect_no_storm(const char *verb) {
    unsigned in_a_minute = flap(verb, 60), in_an_hour = flap(verb, 3600);
    if (in_a_minute < 2 || in_a_minute > 60 / QUIET_S + 1)
        ASSERT_NUMBER(in_a_minute, 60 / QUIET_S);
    if (in_an_hour < 3600 / QUIET_S - 2 || in_an_hour > 3600 / QUIET_S + 1)
        ASSERT_NUMBER(in_an_hour, 3600 / QUIET_S);
}

static void test_no_storm(void) {
    begin_due(waiting, "network");
    expect_no_storm("renew");
    end();
}

/* The same bound holds for enrolments. */
static void test_no_storm_of_enrolments(void) {
    set_up(waiting);
    connect_kernel();
    start("enroll=failed-network");
    CU_ASSERT(wait_for(is_waiting));
    expect_no_storm("enroll");
    end();
}

/* --- retirements --- */

/* The successor is in use, and the cloud cannot be told of the one before. */
static void begin_retiring(const char *workers) {
    struct failure failure = {0};
    uint32_t id = 0;
    begin(retiring);
    connect_kernel();
    restart(workers);
    CU_ASSERT(wait_for(is_quiet));
    settle();
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_second));
    pass(2);
    CU_ASSERT(wait_for(has_failed));
    settle();
    ASSERT_NUMBER(count_runs("retire"), 1);
}

static void test_retirement(void) {
    begin_retiring("check=done renew=done retire=failed-network");
    CU_ASSERT(waiting_s() > DAY);
    pass(60);
    settle();
    ASSERT_NUMBER(count_runs("retire"), 1);
    tell(RTM_NEWROUTE);
    settle();
    CU_ASSERT(waiting_s() <= 8);
    ASSERT_NUMBER(count_runs("retire"), 1); /* not at once */
    set_workers("check=done retire=done");
    pass(9);
    settle();
    ASSERT_NUMBER(count_runs("retire"), 2);
    ASSERT_NUMBER(agent_status(world.agent)->retired.count, 0);
    ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, 0);
    tell(RTM_NEWADDR); /* nobody is woken */
    ASSERT_NUMBER(sd_event_run(world.event, 0), 0);
    end();
}

static bool lacked_network(const struct status *status) {
    return status->state == STATE_PROVISIONED && strcmp(status->error.class, "network") == 0;
}

static bool is_retiring(const struct status *status) {
    return status->state == STATE_PROVISIONED && strcmp(status->step, "claim") == 0;
}

/* What has changed while it ran counts for the next one. */
static void test_retirement_meanwhile(void) {
    begin_retiring("check=done renew=done retire=failed-network");
    for (unsigned i = 0; i < 3; i++) {
        forget_runs();
        unlinkat(world.top_fd, "go", 0);
        set_workers("check=done retire=fail-at-go");
        if (i == 0)
            tell(RTM_NEWADDR);
        settle();
        pass(i == 0 ? 40 : 20 * DAY); /* brought forward, or in its time */
        CU_ASSERT(wait_for(is_retiring));
        for (int j = 0; j < 50; j++) { /* also where it lasts for long */
            tell(RTM_NEWADDR);
            sd_event_run(world.event, 0);
            pass(1);
        }
        write_file("go", "");
        settle();
        ASSERT_NUMBER(count_runs("retire"), 1);
        pass(31);
        settle();
        ASSERT_NUMBER(count_runs("retire"), 2);
        pass(40);
    }
    end();
}

/* As where a device boots before its network is there: a retirement is on its way, and a renewal waits. */
static void test_network_after_the_start(void) {
    struct failure failure = {0};
    uint32_t id = 0;
    begin_retiring("check=done renew=done retire=failed-denied");
    set_workers("check=done prove=done renew=failed-network");
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(lacked_network));
    settle();
    connect_kernel();
    restart("check=done renew=hold retire=fail-at-go");
    CU_ASSERT(wait_for(is_retiring));
    CU_ASSERT(waiting_s() > DAY); /* which others see all the time */
    tell(RTM_NEWADDR);
    run_for_a_moment();
    write_file("go", "");
    settle();
    CU_ASSERT(waiting_s() <= 8);
    pass(9);
    CU_ASSERT(wait_for(is_holding));
    end();
}

static void test_retirement_left_alone(void) {
    begin_retiring("check=done renew=done retire=failed-denied");
    ASSERT_NUMBER(flap("retire", 100), 0);
    end();
    set_fact("RETRY_AFTER", "80000");
    begin_retiring("check=done renew=done retire=failed-network");
    ASSERT_NUMBER(flap("retire", 100), 0);
    end();
}

static void test_no_storm_of_retirements(void) {
    begin_retiring("check=done renew=done retire=failed-network");
    expect_no_storm("retire");
    end();
}

/* --- proofs --- */

static void ask_for_proof(void) {
    struct failure failure = {0};
    uint32_t id = 0;
    ASSERT_NUMBER(agent_check(world.agent, &id, &failure), ANSWER_YES);
    settle();
    pass(2); /* the distance between two connections */
    settle();
}

/* The cloud has refused it, and cannot be asked whether it still does. */
static void begin_refused(void) {
    begin(healing);
    connect_kernel();
    restart("check=done prove=refused");
    CU_ASSERT(wait_for(is_quiet));
    ask_for_proof();
    CU_ASSERT(agent_status(world.agent)->refused_since_usec != 0);
    CU_ASSERT(waiting_s() > DAY / 4 && waiting_s() <= DAY);
    set_workers("check=done prove=failed-network");
    pass(DAY);
    settle();
    ASSERT_NUMBER(count_runs("prove"), 2);
    ASSERT_TEXT(agent_status(world.agent)->error.class, "network");
}

static void test_proof(void) {
    begin_refused();
    pass(DAY);
    settle();
    ASSERT_NUMBER(count_runs("prove"), 2);
    tell(RTM_NEWADDR);
    settle();
    set_workers("check=done prove=done");
    pass(9);
    settle();
    ASSERT_NUMBER(count_runs("prove"), 3);
    ASSERT_NUMBER(agent_status(world.agent)->refused_since_usec, 0);
    end();
}

/* A refusal is no matter of the network. */
static void test_refused_proof(void) {
    begin_refused();
    set_workers("check=done prove=refused");
    tell(RTM_NEWADDR);
    settle();
    pass(31);
    settle();
    ASSERT_NUMBER(count_runs("prove"), 3);
    ASSERT_NUMBER(flap("prove", 100), 0);
    end();
}

static void test_no_storm_of_proofs(void) {
    begin_refused();
    expect_no_storm("prove");
    end();
}

/* The network is there: one that changes is a reason for nothing, until the next proof fails. */
static void expect_no_longer_waited_for(void) {
    ASSERT_NUMBER(flap("prove", 100), 0);
    tell(RTM_NEWADDR); /* nobody is woken */
    ASSERT_NUMBER(sd_event_run(world.event, 0), 0);
}

/* Those that come from time to time as well; but where nobody wants any, none comes. */
static void test_routine_proof(void) {
    begin(proving);
    connect_kernel();
    restart("check=done prove=failed-network");
    CU_ASSERT(wait_for(is_quiet));
    pass(10 * DAY);
    settle();
    ASSERT_NUMBER(count_runs("prove"), 1);
    set_workers("check=done prove=done");
    tell(RTM_NEWADDR);
    settle();
    pass(31);
    settle();
    ASSERT_NUMBER(count_runs("prove"), 2);
    expect_no_longer_waited_for();
    end();
    begin(waiting);
    connect_kernel();
    restart("check=done prove=failed-network");
    CU_ASSERT(wait_for(is_quiet));
    ask_for_proof();
    ASSERT_TEXT(agent_status(world.agent)->error.class, "network");
    ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, 0);
    ASSERT_NUMBER(flap("prove", 100), 0);
    tell(RTM_NEWADDR); /* nobody is woken */
    ASSERT_NUMBER(sd_event_run(world.event, 0), 0);
    end();
    begin_due(waiting, "network"); /* nor for the sake of a renewal */
    set_workers("check=done prove=failed-network renew=failed-network");
    ask_for_proof();
    ASSERT_NUMBER(count_runs("prove"), 1);
    ASSERT_NUMBER(flap("prove", 100), 0);
    CU_ASSERT(count_runs("renew") > 0);
    end();
}

/* Whatever the one before lacked: the one in use now was proven when it was made. */
static void test_proof_of_another(void) {
    struct failure failure = {0};
    uint32_t id = 0;
    begin(proving);
    connect_kernel();
    restart("check=done prove=failed-network renew=done");
    CU_ASSERT(wait_for(is_quiet));
    pass(10 * DAY);
    settle();
    ASSERT_NUMBER(count_runs("prove"), 1);
    ASSERT_NUMBER(agent_renew(world.agent, &id, &failure), ANSWER_YES);
    CU_ASSERT(wait_for(is_second));
    settle();
    expect_no_longer_waited_for();
    end();
}

/* A device that is on for a tenth of the interval each time: on average it is looked at once in the interval, and never
 * at each start. */
static void test_routine_over_restarts(void) {
    const unsigned starts = 40;
    unsigned proofs = 0;
    begin(proving);
    for (unsigned i = 0; i < starts; i++) {
        random_number = (2 * i + 1) * (10 * DAY * 1000 / (2 * starts));
        restart("check=done prove=done");
        CU_ASSERT(wait_for(is_quiet));
        settle();
        ASSERT_NUMBER(count_runs("prove"), 0);
        ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, 0); /* nothing has failed */
        pass(DAY);
        settle();
        proofs += count_runs("prove");
    }
    ASSERT_NUMBER(proofs, starts / 10);
    end();
}

/* --- servers that say when to come again --- */

/* "in 600 s", as an HTTPS service says with 429. */
static void begin_asked(const char *class) {
    set_fact("RETRY_AFTER", "600");
    begin_due(waiting, class);
    CU_ASSERT(waiting_s() >= 599);
}

static void test_retry_after(void) {
    begin_asked("cloud-busy"); /* CloudBusy=10s 10s */
    CU_ASSERT(waiting_s() <= 600);
    pass(590);
    settle();
    ASSERT_NUMBER(count_runs("renew"), 1);
    set_dates(299, 600);
    set_workers("check=done renew=done");
    pass(12);
    CU_ASSERT(wait_for(is_second));
    end();
}

/* Without a word of the cloud a quota costs the wait of its class. */
static void test_quota(void) {
    begin_due(waiting, "cloud-busy");
    CU_ASSERT(waiting_s() <= 10);
    pass(11);
    CU_ASSERT(wait_for(has_failed_twice));
    end();
}

static void expect_not_undercut(const char *class) {
    begin_asked(class);
    uint64_t next_usec = agent_status(world.agent)->next_attempt_usec;
    ASSERT_NUMBER(flap("renew", 500), 0);
    ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, next_usec);
    end();
}

static void test_retry_after_is_not_undercut(void) {
    expect_not_undercut("cloud-busy");
    expect_not_undercut("network"); /* said by a gateway on the way, perhaps */
}

/* Attempts go on counting, too. */
static void test_retry_after_survives(void) {
    begin_asked("cloud-busy");
    uint64_t next_usec = agent_status(world.agent)->next_attempt_usec;
    for (int i = 0; i < 3; i++) {
        pass(100);
        restart("check=done renew=failed-cloud-busy");
        CU_ASSERT(wait_for(is_quiet));
        settle();
        ASSERT_NUMBER(agent_status(world.agent)->next_attempt_usec, next_usec);
        ASSERT_NUMBER(agent_status(world.agent)->attempt, 1);
        ASSERT_NUMBER(count_runs("renew"), 0);
    }
    pass(301);
    CU_ASSERT(wait_for(has_failed_twice));
    ASSERT_NUMBER(count_runs("renew"), 1);
    end();
}

/* The clock was set back since: no longer than was asked for. */
static void test_retry_after_and_the_clock(void) {
    begin_asked("cloud-busy");
    ahead_s -= 10 * DAY;
    restart("check=done renew=failed-cloud-busy");
    CU_ASSERT(wait_for(is_quiet));
    settle();
    CU_ASSERT(waiting_s() > 500 && waiting_s() <= 600);
    end();
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"a wait goes on while the system sleeps", test_sleep},
        {"a new network brings a renewal forward", test_brought_forward},
        {"a network that changes in the middle of an attempt", test_changed_meanwhile},
        {"what was brought forward stays so over a restart", test_brought_forward_and_restarted},
        {"a new network is no answer to a refusal", test_left_alone},
        {"a network that flaps makes no storm of renewals", test_no_storm},
        {"nor of enrolments", test_no_storm_of_enrolments},
        {"a retirement is brought forward, too", test_retirement},
        {"a network that changes in the middle of a retirement", test_retirement_meanwhile},
        {"a network that comes after the start", test_network_after_the_start},
        {"a retirement that was refused waits", test_retirement_left_alone},
        {"no storm of retirements", test_no_storm_of_retirements},
        {"a proof is brought forward, too", test_proof},
        {"a proof that was refused waits", test_refused_proof},
        {"no storm of proofs", test_no_storm_of_proofs},
        {"a proof from time to time is brought forward", test_routine_proof},
        {"a proof that the identity before has missed", test_proof_of_another},
        {"proofs of a device that is started often", test_routine_over_restarts},
        {"what a server asks for is obeyed", test_retry_after},
        {"a quota", test_quota},
        {"a new network does not undercut what a server asks for", test_retry_after_is_not_undercut},
        {"what a server asks for is obeyed after a restart", test_retry_after_survives},
        {"what a server asks for, and a clock that was set back", test_retry_after_and_the_clock},
        {NULL, NULL},
    };
    return fake_worker_unit_run("renew-network", tests, argc, argv);
}
