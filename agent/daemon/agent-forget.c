/* Forget(): the device is as it came from the factory, and enrolls as such. */
#include "daemon/agent-private.h"

#include "common/step.h"
#include "daemon/log.h"
#include "daemon/runtime.h"

#include <stdlib.h>
#include <string.h>

/* A worker holds copies of what is to be forgotten, and would hand over more of it. It may be connected, for whatever,
 * and the next one come with the same client id: the distance counts. */
static void end_what_runs(struct agent *agent) {
    struct failure failure;
    char detail[DETAIL_MAX];
    if (agent->job != NULL || agent->attempts.retry.begun)
        agent->enroll_ended_usec = agent_boottime_usec();
    agent->job = job_free(agent->job);
    agent->resumed = agent->resuming = agent->retiring.running = false;
    agent->timer = sd_event_source_disable_unref(agent->timer);
    failure_record(&failure, FAILURE_INTERNAL, STEP_WORKER, "canceled by Forget()");
    task_drop(agent, &failure);
    agent_describe(&failure, detail);
    agent_end_operation(agent, "canceled", detail);
}

/* All that is known of the time before. */
static void clear_memory(struct agent *agent) {
    struct status *status = &agent->status;
    attempts_forget(&agent->attempts);
    attempts_forget(&agent->renewals);
    agent->methods = (struct methods){0};
    if (agent->configuration != NULL)
        methods_set(&agent->methods, &agent->settings);
    agent_hide_identity(agent);
    agent->proving.refusal = (struct refusal){0};
    memset(&status->retired, 0, sizeof status->retired);
    memset(&status->error, 0, sizeof status->error);
    agent->lost_generation = 0;
    agent->lost_certificate_id[0] = '\0';
    agent->look = false;
    free(agent->request_pem);
    agent->request_pem = NULL;
}

/* The identity stays in use, and what was foreseen for it; but records of it may be gone. */
static void stay_provisioned(struct agent *agent) {
    store_load_retry(agent->environment.store, STORE_RETRY_RENEWAL, &agent->renewals.retry);
    prove_reset(agent);
    retire_reset(agent);
    agent_set_step(agent, "");
    agent_arm_timer(agent, 0);
}

/* Back to what the state directory says: after a failure that may be an identity that is in use as before. */
static void go_on(struct agent *agent) {
    bool told = agent->known_generation != 0 && store_current(agent->environment.store) == 0;
    if (agent->configuration == NULL) /* the timer reads it */
        agent_arm_timer(agent, 0);
    else
        agent_resume(agent);
    if (!told)
        return;
    agent->known_generation = 0;
    bus_identity_changed(agent->bus, 0);
}

enum agent_answer agent_forget(struct agent *agent, struct failure *failure) {
    const struct status *status = &agent->status;
    uint32_t generation = store_current(agent->environment.store);
    if (agent->stopping)
        return ANSWER_BUSY;
    end_what_runs(agent);
    int r = store_forget(agent->environment.store, failure);
    bool is_gone = store_current(agent->environment.store) == 0;
    if (generation != 0 && is_gone)
        log_event(LOG_EVENT_FORGOTTEN, NULL, LOG_NOTICE,
                  "identity %u is forgotten on request: thing \"%s\", certificate %s", generation,
                  status->identity.thing_name, status->identity.certificate_id);
    else if (is_gone)
        log_message(LOG_NOTICE, "all that was kept of attempts, requests and imports is forgotten on request");
    if (r < 0)
        log_message(LOG_ERR, "not all could be forgotten: %s", failure->message);
    if (is_gone) {
        runtime_set_lost(agent->environment.runtime); /* here: without a configuration nothing is resumed */
        clear_memory(agent);
    }
    if (is_gone || status->state != STATE_PROVISIONED)
        go_on(agent);
    else
        stay_provisioned(agent);
    return r < 0 ? ANSWER_FAILED : ANSWER_YES;
}
