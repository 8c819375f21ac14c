/* One attempt to renew: the identity in use asks for its own successor. Until that is in force nothing is taken from
 * it: whatever fails, it stays. */
#include "daemon/agent-private.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "daemon/log.h"

#include <stdio.h>
#include <string.h>

void renew_checkpoint_name(const struct agent *agent, char name[STORE_KEPT_NAME_MAX]) {
    snprintf(name, STORE_KEPT_NAME_MAX, STORE_RENEWAL_PREFIX "%s", agent->status.identity.renew_method);
}

/* Its worker starts when the timer ends, which is after who asked for it was answered. */
void renew_begin(struct agent *agent) {
    agent->operation = agent_next_id(agent);
    agent->verb = VERB_RENEW;
    agent->status.attempt = agent->renewals.retry.attempts + 1;
    agent->status.next_attempt_usec = 0;
    agent->resumed = agent->resuming = false;
    agent_set_state(agent, STATE_RENEWING);
    agent_start_soon(agent);
}

static int open_files(struct agent *agent, int files[FILE_ROLE_COUNT], struct failure *failure) {
    struct store *store = agent->environment.store;
    char name[STORE_KEPT_NAME_MAX];
    renew_checkpoint_name(agent, name);
    if (store_open_current(store, files, failure) < 0 ||
        store_open_kept(store, name, &files[FILE_CHECKPOINT], failure) < 0)
        return -1;
    return store_open_kept(store, STORE_STAGED, &files[FILE_STAGED], failure);
}

int renew_start_worker(struct agent *agent, struct failure *failure) {
    struct job_request request = {
        .verb = VERB_RENEW,
        .generation = store_next(agent->environment.store),
        .method = agent->status.identity.renew_method,
        .deadline_usec = JOB_ENROLL_DEADLINE_USEC + 2 * agent->settings.propagation_ms * 1000,
    };
    int files[FILE_ROLE_COUNT] = NO_FILES;
    if (open_files(agent, files, failure) < 0) {
        for (int role = 0; role < FILE_ROLE_COUNT; role++)
            cleanup_close(&files[role]);
        return -1;
    }
    return agent_start_worker(agent, &request, files, attempt_take_identity, failure);
}

void renew_run(struct agent *agent) {
    struct failure failure;
    if (attempts_begin(&agent->renewals, &failure) < 0 || renew_start_worker(agent, &failure) < 0)
        agent_attempt_failed(agent, &failure, failure.class, false);
}

void renew_failed(struct agent *agent, const struct failure *failure, enum failure_class row, bool canceled) {
    char detail[DETAIL_MAX];
    struct status *status = &agent->status;
    struct attempt_end end = attempts_fail(&agent->renewals, &agent->settings, row, failure->retry_after_s);
    agent->resuming = false;
    if (canceled) /* who has asked for it wants it no more; a date that has come is another matter */
        attempts_forget(&agent->renewals);
    agent_describe(failure, detail);
    log_event(LOG_EVENT_RENEWAL_FAILED, failure, LOG_ERR,
              "attempt %u to renew failed, certificate %s stays in use: %s (next in %.1f s)", end.number,
              status->identity.certificate_id, detail, (double)end.delay_ms / 1000);
    store_discard(agent->environment.store);
    status->attempt = canceled ? 0 : end.number;
    status->next_attempt_usec = end.next_usec;
    agent->next_boottime_usec = agent_boottime_usec() + end.delay_ms * 1000;
    agent_set_state(agent, STATE_PROVISIONED);
    agent_end_operation(agent, canceled ? "canceled" : "failed", detail);
    /* It may be the key that is lost; or the successor is in use, and only that it is durable is not known. */
    if (failure->class == FAILURE_TPM || !provisioned_knows_identity(agent))
        provisioned_look(agent, 0);
    if (failure->class == FAILURE_DENIED) /* it may be the certificate that is refused */
        prove_soon(agent);
    agent_arm_timer(agent, 0);
}

/* Should the dates of a successor say that it is due already, this is no loop: each costs the cloud a certificate. */
void renew_keep_distance(struct agent *agent) {
    const struct identity *identity = &agent->status.identity;
    uint64_t now = agent_now_usec(), max_age = agent->settings.max_age_ms * 1000;
    uint64_t left = identity->not_after_usec > now ? identity->not_after_usec - now : 0;
    if (max_age != 0 && max_age < left)
        left = max_age;
    agent->status.next_attempt_usec = 0;
    agent->next_boottime_usec = agent_boottime_usec() + left / 10;
}

enum agent_answer agent_renew(struct agent *agent, uint32_t *ret_id, struct failure *failure) {
    const struct status *status = &agent->status;
    enum agent_answer answer = provisioned_may_be_asked(agent, failure);
    if (answer != ANSWER_YES)
        return answer;
    if (status->state != STATE_RENEWING) {
        if (status->state != STATE_PROVISIONED || agent->operation != 0 || !provisioned_knows_identity(agent))
            return ANSWER_BUSY;
        if (status->identity.hindrance[0] != '\0') {
            failure_record(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s", status->identity.hindrance);
            return ANSWER_NOT_RENEWABLE;
        }
        if (agent_clock_refuses(agent, failure))
            return ANSWER_CLOCK_NOT_SET;
        attempts_forget(&agent->renewals);
        retire_make_way(agent);
        renew_begin(agent);
    }
    *ret_id = agent->operation;
    return ANSWER_YES;
}
