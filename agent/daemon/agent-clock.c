/* The wait for a clock that can be believed, before an enrolment begins: a check needs none, so an identity that is
 * there is used at any date. */
#include "daemon/agent-private.h"

#include "common/synchronisation.h"
#include "daemon/log.h"

#include <string.h>

/* A clock that is moved slowly, or is just said to be right, wakes nobody. */
#define LOOK_AGAIN_USEC 5000000ULL

static struct clock_reading read_clock(const struct agent *agent) {
    return clock_read(agent->environment.clock_directory, store_newest_certificate(agent->environment.store));
}

static uint64_t wait_usec(const struct agent *agent, const struct clock_reading *reading) {
    return clock_wait_usec(reading, agent_boottime_usec() - agent->started_usec, agent->settings.clock_wait_ms * 1000);
}

uint64_t agent_clock_wait_usec(const struct agent *agent) {
    const struct clock_reading reading = read_clock(agent);
    return wait_usec(agent, &reading);
}

/* Told once for each reason, and again when the clock was set, for then it says something else. */
static void tell(struct agent *agent, const struct clock_reading *reading) {
    struct failure why;
    enum clock_trust trust = clock_judge(reading);
    if (agent->status.state == STATE_WAITING_CLOCK && agent->clock_trust == trust && !agent->clock_was_set)
        return;
    agent->clock_trust = trust;
    clock_explain(reading, &why);
    if (trust == CLOCK_IMPLAUSIBLE)
        log_event(LOG_EVENT_CLOCK_NOT_SET, &why, LOG_WARNING, "%s", why.message);
    else
        log_message(LOG_NOTICE, "%s", why.message);
    agent_set_error(agent, &why);
}

/* The same time comes out a little different each time. */
static bool is_about(uint64_t a, uint64_t b) {
    return (a > b ? a - b : b - a) < 1000000;
}

bool agent_clock_holds(struct agent *agent) {
    struct status *status = &agent->status;
    if (agent_has_identity(agent))
        return false;
    const struct clock_reading reading = read_clock(agent);
    uint64_t wait = wait_usec(agent, &reading);
    if (wait == 0)
        return false;
    uint64_t next_usec = wait == CLOCK_WITHOUT_END ? 0 : reading.now_usec + wait;
    tell(agent, &reading);
    if (status->state != STATE_WAITING_CLOCK || agent->clock_was_set ||
        !is_about(next_usec, status->next_attempt_usec)) {
        status->next_attempt_usec = next_usec;
        agent_set_state(agent, STATE_WAITING_CLOCK);
    }
    agent->clock_was_set = false;
    agent_arm_timer(agent, wait < LOOK_AGAIN_USEC ? wait : LOOK_AGAIN_USEC);
    return true;
}

bool agent_clock_refuses(const struct agent *agent, struct failure *failure) {
    const struct clock_reading reading = read_clock(agent);
    if (clock_judge(&reading) != CLOCK_IMPLAUSIBLE)
        return false;
    clock_explain(&reading, failure);
    return true;
}

bool agent_clock_is_synchronised(const struct agent *agent) {
    return synchronisation_is_there(agent->environment.clock_directory);
}

/* The next attempt comes after the time that was told, not at the hour: its hour is another one now. */
static void move_next_attempt(struct agent *agent) {
    uint64_t now = agent_boottime_usec();
    uint64_t left = agent->next_boottime_usec > now ? agent->next_boottime_usec - now : 0;
    struct status *status = &agent->status;
    status->next_attempt_usec = agent_now_usec() + left;
    agent_move_record(agent, status->next_attempt_usec);
    bus_publish(agent->bus, status);
}

bool agent_clock_look_at_lost(struct agent *agent) {
    if (agent->lost_generation == 0 || agent->lost_generation != store_current(agent->environment.store) ||
        prove_gave_up(agent) || task_waits(agent) || agent->job != NULL)
        return false;
    agent->lost_generation = 0;
    agent_resume(agent);
    return true;
}

static void on_clock_set(void *data) {
    struct agent *agent = data;
    log_message(LOG_INFO, "the clock was set");
    switch (agent->status.state) {
    case STATE_WAITING_CLOCK:
        agent->clock_was_set = true;
        if (!agent_clock_look_at_lost(agent))
            agent_arm_timer(agent, 0);
        break;
    case STATE_BACKOFF:
    case STATE_FAILED:
        if (agent_clock_look_at_lost(agent))
            break;
        move_next_attempt(agent);
        if (strcmp(agent->status.error.class, failure_class_name(FAILURE_CLOCK)) == 0)
            agent_bring_forward(agent, true, 0, "the clock was set");
        break;
    case STATE_PROVISIONED:
        if (agent->renewals.retry.attempts > 0)
            move_next_attempt(agent);
        else
            agent->next_boottime_usec = 0; /* the distance was by dates of before */
        agent->look_after_usec = 0;
        agent_arm_timer(agent, 0);
        break;
    case STATE_CHECKING:
    case STATE_ENROLLING: /* looked at when it has failed */
        agent->clock_was_set = true;
        break;
    case STATE_RENEWING:
        break;
    }
}

void agent_clock_watch(struct agent *agent) {
    const struct agent_environment *environment = &agent->environment;
    int r = environment->clock;
    agent->started_usec = agent_boottime_usec();
    if (r >= 0)
        r = clock_watch_new(environment->event, environment->clock, on_clock_set, agent, &agent->clock_watch);
    if (r < 0)
        log_message(LOG_WARNING, "it is not seen when the clock is set: %s", strerror(-r));
}
