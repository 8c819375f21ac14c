/* One attempt: the check of an identity that is there, or an enrolment by one method or several in turn. */
#include "daemon/agent-private.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "daemon/handover.h"
#include "daemon/log.h"
#include "daemon/runtime.h"

#include <stdio.h>
#include <string.h>

typedef void ended_handler(const struct job_outcome *outcome, void *data);

/* A refusal that may be propagation in the cloud is told at once: the worker asks for minutes before it gives up. */
static void on_progress(const char *step, const struct failure *refusal, const char *note, void *data) {
    struct agent *agent = data;
    if (note != NULL)
        log_message(LOG_NOTICE, "%s", note);
    if (refusal != NULL) {
        log_message(LOG_NOTICE, "still at step %s: %s", step, refusal->message);
        agent_set_error(agent, refusal);
    }
    agent_set_step(agent, step);
}

static void checkpoint_name(const struct agent *agent, char name[STORE_KEPT_NAME_MAX]) {
    if (agent->verb == VERB_RENEW)
        renew_checkpoint_name(agent, name);
    else
        snprintf(name, STORE_KEPT_NAME_MAX, STORE_CHECKPOINT_PREFIX "%s", methods_name(&agent->methods));
}

static int on_checkpoint(int file, void *data, struct failure *failure) {
    struct agent *agent = data;
    char name[STORE_KEPT_NAME_MAX];
    checkpoint_name(agent, name);
    return store_keep(agent->environment.store, agent->task.running ? STORE_STAGED : name, file, failure);
}

int agent_start_worker(struct agent *agent, struct job_request *request, int files[FILE_ROLE_COUNT],
                       ended_handler *ended, struct failure *failure) {
    struct job_handler handler = {
        .progress = on_progress, .told = retire_told, .checkpoint = on_checkpoint, .ended = ended, .data = agent};
    request->grace_usec = JOB_GRACE_USEC;
    request->synchronised = agent_clock_is_synchronised(agent);
    if (handover_configuration(agent->configuration, &files[FILE_CONFIGURATION], failure) < 0) {
        for (int role = 0; role < FILE_ROLE_COUNT; role++)
            cleanup_close(&files[role]);
        return -1;
    }
    return job_start(agent->environment.event, &agent->environment.launch, request, files, &handler, &agent->job,
                     failure);
}

bool agent_take_worker(struct agent *agent) {
    agent->job = job_free(agent->job);
    if (agent->stopping)
        sd_event_exit(agent->environment.event, EXIT_SUCCESS);
    return !agent->stopping;
}

/* --- enrolment --- */

static int start_check(struct agent *agent, uint32_t generation, int files[FILE_ROLE_COUNT], ended_handler *ended,
                       struct failure *failure) {
    struct job_request request = {
        .verb = VERB_CHECK, .generation = generation, .deadline_usec = JOB_CHECK_DEADLINE_USEC};
    return agent_start_worker(agent, &request, files, ended, failure);
}

/* Which certificate it is that the new one replaces: on record before that is in force, or a power cut in between would
 * leave it active in the cloud for good. */
static int note_replaced(struct agent *agent, struct failure *failure) {
    const char *present = agent->status.identity.certificate_id;
    const char *id = present[0] != '\0' ? present : agent->lost_certificate_id;
    if (agent->settings.retire_topic[0] == '\0' || id[0] == '\0')
        return 0;
    return store_retire(agent->environment.store, id, failure);
}

static void on_verify_ended(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    char name[STORE_KEPT_NAME_MAX];
    struct failure failure;
    if (!agent_take_worker(agent))
        return;
    if (!outcome->done) {
        checkpoint_name(agent, name);
        if (outcome->lost) /* what the checkpoint leads to can never work */
            store_drop_kept(agent->environment.store, name);
        agent_attempt_failed(agent, &outcome->failure, outcome->failure.class, outcome->canceled);
        return;
    }
    agent_set_step(agent, STEP_COMMIT);
    if (note_replaced(agent, &failure) < 0 || store_commit(agent->environment.store, &failure) < 0) {
        agent_attempt_failed(agent, &failure, failure.class, false);
        return;
    }
    agent->lost_certificate_id[0] = '\0';
    agent_succeed(agent, &outcome->identity);
}

/* The next one has its turn in the same attempt; not at once, if this one has connected: perhaps with the same client
 * id. */
static void method_failed(struct agent *agent, const struct failure *failure, bool canceled) {
    struct failure told = *failure;
    const char *name = methods_name(&agent->methods);
    if (agent->verb == VERB_RENEW || canceled ||
        !methods_fail(&agent->methods, agent->settings.on_denied, &told, agent_boottime_usec())) {
        agent_attempt_failed(agent, &told, told.class, canceled);
        return;
    }
    log_message(LOG_NOTICE, "method %s: %s: %s: %s; next comes %s", name, failure_class_name(failure->class),
                failure->step, failure->message, methods_name(&agent->methods));
    agent->resumed = false;
    agent->resuming = true;
    agent_set_state(agent, STATE_ENROLLING);
    agent_arm_timer(agent, failure->unusable ? 0 : QUIET_USEC);
}

/* What arrived is written, and judged by another worker from what was written, before it may become `current`. */
void attempt_take_identity(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    struct store *store = agent->environment.store;
    int files[FILE_ROLE_COUNT] = NO_FILES;
    struct failure failure;
    if (!outcome->failure.unusable) /* else it has connected to nobody */
        agent->enroll_ended_usec = agent_boottime_usec();
    if (!agent_take_worker(agent))
        return;
    if (outcome->resume && !agent->resumed) { /* with the same client id: the distance counts here, too */
        agent->resumed = agent->resuming = true;
        agent_arm_timer(agent, QUIET_USEC);
        return;
    }
    if (outcome->resume) {
        failure_set(&failure, FAILURE_INTERNAL, STEP_WORKER, "the worker asked to resume a second time");
        agent_attempt_failed(agent, &failure, failure.class, false);
        return;
    }
    if (!outcome->done) {
        method_failed(agent, &outcome->failure, outcome->canceled);
        return;
    }
    agent_set_step(agent, STEP_VERIFY);
    if (store_stage(store, outcome->files, &failure) < 0 || store_open_staged(store, files, &failure) < 0 ||
        start_check(agent, store_next(store), files, on_verify_ended, &failure) < 0)
        agent_attempt_failed(agent, &failure, failure.class, false);
}

bool attempt_needs_credentials(const struct agent *agent, const char *method) {
    static const char scheme[] = "credential:";
    const struct configuration *configuration = agent->configuration;
    for (size_t i = 0; i < configuration->count; i++) {
        const struct configuration_entry *entry = &configuration->entries[i];
        if (strcmp(entry->section, method) == 0 && strncmp(entry->value, scheme, sizeof scheme - 1) == 0 &&
            configuration_find(configuration, method, entry->key) == entry)
            return true;
    }
    return false;
}

static int start_enroll(struct agent *agent, struct failure *failure) {
    struct store *store = agent->environment.store;
    struct job_request request = {
        .verb = VERB_ENROLL,
        .generation = store_next(store),
        .method = methods_name(&agent->methods),
        .credentials = attempt_needs_credentials(agent, methods_name(&agent->methods)),
        .waited_s = methods_waited_s(&agent->methods, agent_boottime_usec()),
        .deadline_usec = JOB_ENROLL_DEADLINE_USEC + 2 * agent->settings.propagation_ms * 1000,
    };
    int files[FILE_ROLE_COUNT] = NO_FILES;
    char name[STORE_KEPT_NAME_MAX];
    checkpoint_name(agent, name);
    if (store_open_kept(store, name, &files[FILE_CHECKPOINT], failure) < 0)
        return -1;
    if (store_open_kept(store, STORE_STAGED, &files[FILE_STAGED], failure) < 0) {
        cleanup_close(&files[FILE_CHECKPOINT]);
        return -1;
    }
    return agent_start_worker(agent, &request, files, attempt_take_identity, failure);
}

void attempt_continue(struct agent *agent) {
    struct failure failure;
    agent->resuming = false;
    int r = agent->verb == VERB_RENEW ? renew_start_worker(agent, &failure) : start_enroll(agent, &failure);
    if (r < 0)
        agent_attempt_failed(agent, &failure, failure.class, false);
}

/* With each boot there would be another certificate in the cloud. */
static int refuse_volatile_state(const struct agent *agent, struct failure *failure) {
    if (agent->environment.volatile_state != VOLATILE_YES || agent->settings.volatile_state)
        return 0;
    return failure_set(
        failure, FAILURE_INVALID, STEP_CONFIGURATION,
        "the state directory is on a file system in memory (tmpfs) and empty after each boot: each would "
        "cost another certificate. Mount one of a disk at /var/lib/enrolld, or set VolatileState=yes in "
        "[Agent]");
}

void attempt_enroll(struct agent *agent) {
    struct failure failure;
    if (refuse_volatile_state(agent, &failure) < 0) {
        agent_attempt_failed(agent, &failure, failure.class, false);
        return;
    }
    int r = attempts_begin(&agent->attempts, &failure);
    agent->status.attempt = agent->attempts.retry.attempts;
    methods_set(&agent->methods, &agent->settings);
    methods_begin(&agent->methods);
    agent->resumed = agent->resuming = false;
    agent_set_state(agent, STATE_ENROLLING); /* again, where another method was the last one, or a check came first */
    if (r == 0)
        r = start_enroll(agent, &failure);
    if (r < 0)
        agent_attempt_failed(agent, &failure, failure.class, false);
}

/* --- check --- */

/* With another authority of the cloud comes no other certificate. True if root-ca.pem is another one now. */
static bool follow_root_ca(struct agent *agent, int file) {
    struct failure failure;
    if (file < 0)
        return false;
    if (store_replace_root_ca(agent->environment.store, file, &failure) < 0) {
        log_message(LOG_WARNING, "root-ca.pem does not follow RootCA=: %s", failure.message);
        return false;
    }
    log_message(LOG_NOTICE, "root-ca.pem of the identity in use has followed RootCA=");
    return true;
}

static void on_check_ended(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    char detail[DETAIL_MAX];
    struct failure failure;
    if (!agent_take_worker(agent))
        return;
    if (outcome->done) {
        bool followed = follow_root_ca(agent, outcome->files[FILE_ROOT_CA]);
        agent_succeed(agent, &outcome->identity);
        if (followed)
            agent_tell_files_changed(agent);
        return;
    }
    if (!outcome->lost) {
        agent_attempt_failed(agent, &outcome->failure, outcome->failure.class, outcome->canceled);
        return;
    }
    /* A disk that was moved may be put back, and a cloned one must not take the place of the first in the cloud. */
    if (outcome->elsewhere && agent->settings.on_wrong_tpm == SETTING_WRONG_TPM_FAIL) {
        runtime_set_lost(agent->environment.runtime);
        agent_hide_identity(agent);
        agent_set_state(agent, STATE_CHECKING);
        agent_attempt_failed(agent, &outcome->failure, FAILURE_DENIED, false);
        return;
    }
    /* One of another TPM may be in use there: it is not this device's to retire. */
    agent_lose_identity(agent, &outcome->failure, outcome->elsewhere ? "" : outcome->identity.certificate_id);
    if (agent->verb == VERB_ENROLL && !agent_clock_refuses(agent, &failure)) {
        runtime_set_lost(agent->environment.runtime);
        attempt_enroll(agent);
        return;
    }
    agent_describe(&outcome->failure, detail);
    agent_end_operation(agent, "failed", detail);
    agent_resume(agent);
}

/* With what may renew it. */
static int start_check_of_current(struct agent *agent, struct failure *failure) {
    struct store *store = agent->environment.store;
    int files[FILE_ROLE_COUNT] = NO_FILES;
    if (store_open_current(store, files, failure) < 0)
        return -1;
    if (store_open_kept(store, STORE_STAGED, &files[FILE_STAGED], failure) == 0)
        return start_check(agent, store_current(store), files, on_check_ended, failure);
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        cleanup_close(&files[role]);
    return -1;
}

void attempt_check(struct agent *agent) {
    struct failure failure;
    if (start_check_of_current(agent, &failure) < 0)
        agent_attempt_failed(agent, &failure, failure.class, false);
}
