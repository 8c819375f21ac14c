/* Proofs: a connection with the identity in use, beside that of the application, when somebody asks (Check()), from
 * time to time (ProveInterval=), and again while the cloud refuses it. */
#include "daemon/agent-private.h"

#include "daemon/log.h"

#include <stdio.h>
#include <string.h>

/* Between the begins of two: whoever may ask may ask in a loop. */
#define DISTANCE_USEC 30000000ULL

static uint64_t later(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t grace_usec(const struct agent *agent) {
    return agent->settings.refused_grace_ms * 1000;
}

bool prove_gave_up(const struct agent *agent) {
    const struct refusal *refusal = &agent->proving.refusal;
    return agent->settings.on_refused == SETTING_REFUSED_ENROLL && refusal->generation != 0 &&
           refusal->generation == store_current(agent->environment.store) && refusal->lasted_usec >= grace_usec(agent);
}

/* --- when --- */

/* Sooner if that is the end of the grace. */
static void plan_next(struct agent *agent, enum failure_class row, uint32_t retry_after_s) {
    struct proving *proving = &agent->proving;
    uint64_t delay_usec = attempts_delay_ms(&agent->settings, row, ++proving->refusals, retry_after_s) * 1000;
    if (agent->settings.on_refused == SETTING_REFUSED_ENROLL && !prove_gave_up(agent) && row == FAILURE_DENIED)
        delay_usec = earlier(delay_usec, grace_usec(agent) - proving->refusal.lasted_usec);
    proving->again_usec = agent_boottime_usec() + delay_usec;
}

void prove_reset(struct agent *agent) {
    struct proving *proving = &agent->proving;
    proving->wanted = proving->no_network = false;
    proving->refusals = 0;
    proving->refused_usec = 0;
    proving->interval_usec = 0;
    store_load_refusal(agent->environment.store, &proving->refusal);
    agent->status.refused_since_usec = proving->refusal.since_usec;
    if (proving->refusal.generation != 0)
        plan_next(agent, FAILURE_DENIED, 0);
    else
        store_clear_record(agent->environment.store, STORE_REFUSAL);
}

/* The first one after a random part of the interval: a fleet that came back together must not prove together. */
static uint64_t routine_usec(struct agent *agent) {
    struct proving *proving = &agent->proving;
    uint64_t interval_usec = agent->settings.prove_interval_ms * 1000;
    if (interval_usec != 0 && proving->interval_usec != interval_usec)
        proving->routine_usec = agent_boottime_usec() + attempts_random_ms(agent->settings.prove_interval_ms) * 1000;
    proving->interval_usec = interval_usec;
    return interval_usec != 0 ? proving->routine_usec : UINT64_MAX;
}

uint64_t prove_due_usec(struct agent *agent) {
    struct proving *proving = &agent->proving;
    uint64_t due = routine_usec(agent);
    if (proving->id != 0 || proving->wanted)
        due = 0;
    if (proving->refusal.generation != 0)
        due = earlier(due, proving->again_usec);
    if (proving->no_network && due != UINT64_MAX)
        due = agent_brought_forward(agent, due, proving->begun_usec);
    if (proving->begun_usec != 0)
        due = later(due, proving->begun_usec + DISTANCE_USEC);
    return agent->enroll_ended_usec != 0 ? later(due, agent->enroll_ended_usec + QUIET_USEC) : due;
}

void prove_soon(struct agent *agent) {
    agent->proving.wanted = true;
}

/* --- one proof --- */

/* A look without network comes first: what is wrong here is no matter of the cloud. */
void prove_begin(struct agent *agent) {
    struct proving *proving = &agent->proving;
    agent->operation = proving->id != 0 ? proving->id : agent_next_id(agent);
    agent->verb = VERB_CHECK;
    proving->id = 0;
    proving->wanted = false;
    proving->running = true;
    proving->begun_usec = agent_boottime_usec();
    proving->routine_usec = proving->begun_usec + proving->interval_usec;
    attempt_check(agent);
}

static void accepted(struct agent *agent) {
    struct proving *proving = &agent->proving;
    struct status *status = &agent->status;
    if (proving->refusal.generation != 0) {
        log_message(LOG_NOTICE, "the cloud accepts certificate %s again", status->identity.certificate_id);
        store_clear_record(agent->environment.store, STORE_REFUSAL);
    }
    proving->refusal = (struct refusal){0};
    proving->no_network = false;
    proving->refusals = 0;
    proving->refused_usec = status->refused_since_usec = 0;
    status_make_good(status, proving->told_usec);
}

/* Only what lies between two refusals counts, not what lies beside one. */
static void note_refusal(struct agent *agent) {
    struct proving *proving = &agent->proving;
    struct refusal *refusal = &proving->refusal;
    uint64_t now = agent_boottime_usec();
    struct failure failure;
    if (refusal->generation == 0)
        *refusal = (struct refusal){.generation = agent->status.generation, .since_usec = agent_now_usec()};
    else if (proving->refused_usec != 0)
        refusal->lasted_usec += now - proving->refused_usec;
    proving->refused_usec = now;
    agent->status.refused_since_usec = refusal->since_usec;
    if (store_save_refusal(agent->environment.store, refusal, &failure) < 0)
        log_message(LOG_WARNING, "%s", failure.message);
}

static void refused(struct agent *agent, const struct failure *failure, const char *detail) {
    const char *id = agent->status.identity.certificate_id;
    struct failure why;
    note_refusal(agent);
    log_event(LOG_EVENT_REFUSED, failure, LOG_ERR, "the cloud refuses certificate %s: %s", id, detail);
    if (!prove_gave_up(agent)) {
        plan_next(agent, FAILURE_DENIED, failure->retry_after_s);
        return;
    }
    if (agent->settings.retire_topic[0] != '\0' && store_retire(agent->environment.store, id, &why) < 0)
        log_message(LOG_WARNING, "%s", why.message);
    char gone[sizeof agent->lost_certificate_id];
    snprintf(gone, sizeof gone, "%s", id);
    agent_lose_identity(agent, failure, gone);
}

static void end_proof(struct agent *agent, const char *result, const char *detail) {
    agent_end_operation(agent, result, detail);
    if (agent_has_identity(agent))
        agent_arm_timer(agent, 0);
    else
        agent_resume(agent);
}

static void not_proven(struct agent *agent, const struct failure *failure, bool is_refused, bool canceled) {
    char detail[DETAIL_MAX];
    agent_describe(failure, detail);
    agent_set_error(agent, failure);
    agent->proving.told_usec = agent->status.error.time_usec;
    agent->proving.no_network = agent_lacks_network(failure->class, failure->retry_after_s);
    if (is_refused)
        refused(agent, failure, detail);
    else {
        agent->proving.refused_usec = 0;
        log_message(LOG_WARNING, "certificate %s is not proven: %s", agent->status.identity.certificate_id, detail);
        if (agent->proving.refusal.generation != 0)
            plan_next(agent, failure->class, failure->retry_after_s);
    }
    end_proof(agent, canceled ? "canceled" : "failed", detail);
}

static void on_ended(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    agent->enroll_ended_usec = agent_boottime_usec();
    if (!agent_take_worker(agent))
        return;
    if (!outcome->done) {
        not_proven(agent, &outcome->failure, outcome->refused, outcome->canceled);
        return;
    }
    accepted(agent);
    end_proof(agent, "done", "");
}

bool prove_goes_on(struct agent *agent) {
    struct job_request request = {
        .verb = VERB_PROVE, .generation = agent->status.generation, .deadline_usec = JOB_PROVE_DEADLINE_USEC};
    int files[FILE_ROLE_COUNT] = NO_FILES;
    struct failure failure;
    if (!agent->proving.running)
        return false;
    if (store_open_current(agent->environment.store, files, &failure) < 0 ||
        agent_start_worker(agent, &request, files, on_ended, &failure) < 0)
        not_proven(agent, &failure, false, false);
    return true;
}

/* --- who asks --- */

static void end_waiting(struct agent *agent, const char *result, const char *detail) {
    uint32_t id = agent->proving.id;
    agent->proving.id = 0;
    if (id != 0)
        bus_job_removed(agent->bus, id, job_verb_name(VERB_CHECK), result, detail);
}

void prove_drop(struct agent *agent) {
    end_waiting(agent, "failed", "the identity is not in use any more");
}

bool prove_cancel(struct agent *agent, uint32_t id) {
    if (id == 0 || id != agent->proving.id)
        return false;
    end_waiting(agent, "canceled", "canceled on request");
    return true;
}

enum agent_answer agent_check(struct agent *agent, uint32_t *ret_id, struct failure *failure) {
    struct proving *proving = &agent->proving;
    enum agent_state state = agent->status.state;
    enum agent_answer answer = provisioned_may_be_asked(agent, failure);
    if (answer != ANSWER_YES)
        return answer;
    if (state != STATE_PROVISIONED && state != STATE_RENEWING)
        return ANSWER_BUSY;
    if (proving->running) {
        *ret_id = agent->operation;
        return ANSWER_YES;
    }
    bool waits = proving->id != 0;
    if (!waits)
        proving->id = agent_next_id(agent);
    *ret_id = proving->id;
    if (!waits && prove_due_usec(agent) <= agent_boottime_usec())
        retire_make_way_once(agent);
    if (agent->job == NULL && agent->operation == 0)
        agent_arm_timer(agent, 0);
    return ANSWER_YES;
}
