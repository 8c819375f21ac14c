#include "daemon/agent.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "daemon/attempts.h"
#include "daemon/handover.h"
#include "daemon/job.h"
#include "daemon/log.h"
#include "daemon/runtime.h"
#include "daemon/schedule.h"

#include <systemd/sd-daemon.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#define STOP_USEC 1000000ULL
/* AWS IoT Core accepts one CONNECT per second and client id (quotas, "Connect requests per second per client ID"). */
#define QUIET_USEC 1000000ULL
#define NO_FILES                                                                                                       \
    { -1, -1, -1, -1, -1, -1 }
#define DETAIL_MAX (FAILURE_STEP_MAX + FAILURE_MESSAGE_MAX + 32)

struct agent {
    struct agent_environment environment;
    struct bus *bus;
    struct status status;
    struct configuration *configuration; /* in force; NULL while there is no valid one */
    struct settings settings;            /* of that */
    struct attempts attempts;
    uint32_t lost_generation;  /* a check said that it can never work again */
    uint32_t known_generation; /* that others know of: in use at the start, or told by IdentityChanged */
    uint32_t last_id;
    uint32_t operation; /* number of the job as D-Bus sees it: one or more workers in turn; 0: none */
    enum job_verb verb; /* of the operation */
    struct job *job;    /* its present worker */
    sd_event_source *timer;
    sd_event_source *stop_timer;
    uint64_t enroll_ended_usec; /* CLOCK_BOOTTIME, 0: none has since the start */
    bool resumed;               /* this attempt has gone on with another worker */
    bool resuming;              /* that one is to be started when the timer ends */
    bool stopping;
};

static uint64_t clock_usec(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t now_usec(void) {
    return clock_usec(CLOCK_REALTIME);
}

/* NULL while there is no valid configuration. */
static const struct settings *settings_of(const struct agent *agent) {
    return agent->configuration != NULL ? &agent->settings : NULL;
}

static bool has_identity(const struct agent *agent) {
    uint32_t current = store_current(agent->environment.store);
    return current != 0 && current != agent->lost_generation;
}

const struct status *agent_status(const struct agent *agent) {
    return &agent->status;
}

void agent_set_bus(struct agent *agent, struct bus *bus) {
    agent->bus = bus;
}

/* --- states --- */

static int on_timer(sd_event_source *source, uint64_t usec, void *data);

/* CLOCK_BOOTTIME: a wait goes on while the system sleeps, and does not follow a clock that is set. */
static void arm_timer(struct agent *agent, uint64_t delay_usec) {
    agent->timer = sd_event_source_disable_unref(agent->timer);
    /* From now: sd_event_add_time_relative() counts from the begin of its round, before what was written to disk. */
    int r = sd_event_add_time(agent->environment.event, &agent->timer, CLOCK_BOOTTIME,
                              clock_usec(CLOCK_BOOTTIME) + delay_usec, delay_usec / 16 + 1, on_timer, agent);
    if (r < 0) {
        log_message(LOG_ERR, "cannot set a timer: %s", strerror(-r));
        sd_event_exit(agent->environment.event, EXIT_FAILURE);
    }
}

static void notify_state(const struct agent *agent) {
    const struct status *status = &agent->status;
    switch (status->state) {
    case STATE_CHECKING:
        sd_notify(0, "STATUS=Checking the identity");
        return;
    case STATE_ENROLLING:
        sd_notifyf(0, "STATUS=Enrolling, attempt %u", status->attempt);
        return;
    case STATE_BACKOFF:
    case STATE_FAILED:
        sd_notifyf(0, "STATUS=Attempt %u failed: %s: %s: %s", status->attempt, status->error.class, status->error.step,
                   status->error.message);
        return;
    case STATE_PROVISIONED:
        sd_notifyf(0, "STATUS=Provisioned: thing %s, generation %u", status->identity.thing_name, status->generation);
        return;
    }
}

/* The only writer of the state. */
static void agent_set_state(struct agent *agent, enum agent_state state) {
    struct status *status = &agent->status;
    if (status->state != state)
        log_message(LOG_INFO, "state: %s -> %s", status_state_name(status->state), status_state_name(state));
    status->state = state;
    status_set_text(status->step, sizeof status->step, "");
    switch (state) {
    case STATE_CHECKING:
    case STATE_ENROLLING:
        status->next_attempt_usec = 0;
        break;
    case STATE_BACKOFF:
    case STATE_FAILED: {
        uint64_t now = now_usec();
        arm_timer(agent, status->next_attempt_usec > now ? status->next_attempt_usec - now : 0);
        break;
    }
    case STATE_PROVISIONED:
        status->next_attempt_usec = 0;
        runtime_set_provisioned(agent->environment.runtime, status->generation);
        break;
    }
    notify_state(agent);
    bus_publish(agent->bus, status);
}

static void set_step(struct agent *agent, const char *step) {
    status_set_text(agent->status.step, sizeof agent->status.step, step);
    bus_publish(agent->bus, &agent->status);
}

/* --- operations --- */

/* What runs now, or next, is one operation with one number: a check, an enrolment, or for Enroll() both in turn. */
static void begin(struct agent *agent, enum job_verb verb) {
    agent->last_id = agent->last_id == UINT32_MAX ? 1 : agent->last_id + 1;
    agent->operation = agent->last_id;
    agent->verb = verb;
    agent->status.attempt = (has_identity(agent) ? agent->attempts.local : agent->attempts.retry.attempts) + 1;
    agent_set_state(agent, has_identity(agent) ? STATE_CHECKING : STATE_ENROLLING);
}

/* Starts the worker of the operation that has begun: at once, but enrolments keep a distance even when asked for. */
static void start_soon(struct agent *agent) {
    uint64_t quiet_until = agent->enroll_ended_usec + QUIET_USEC, now = clock_usec(CLOCK_BOOTTIME);
    bool must_wait = agent->enroll_ended_usec != 0 && !has_identity(agent) && quiet_until > now;
    arm_timer(agent, must_wait ? quiet_until - now : 0);
}

static void end_operation(struct agent *agent, const char *result, const char *detail) {
    uint32_t id = agent->operation;
    agent->operation = 0;
    if (id != 0)
        bus_job_removed(agent->bus, id, job_verb_name(agent->verb), result, detail);
}

static void describe(const struct failure *failure, char detail[DETAIL_MAX]) {
    snprintf(detail, DETAIL_MAX, "%s: %s: %s", failure_class_name(failure->class), failure->step, failure->message);
}

static void set_error(struct agent *agent, const struct failure *failure) {
    struct status_error *error = &agent->status.error;
    status_set_text(error->class, sizeof error->class, failure_class_name(failure->class));
    status_set_text(error->step, sizeof error->step, failure->step);
    status_set_text(error->message, sizeof error->message, failure->message);
    error->time_usec = now_usec();
}

/* A refusal that may be propagation in the cloud is told at once: the worker asks for minutes before it gives up. */
static void on_progress(const char *step, const struct failure *refusal, const char *note, void *data) {
    struct agent *agent = data;
    if (note != NULL)
        log_message(LOG_NOTICE, "%s", note);
    if (refusal != NULL) {
        log_message(LOG_NOTICE, "still at step %s: %s", step, refusal->message);
        set_error(agent, refusal);
    }
    set_step(agent, step);
}

static int on_checkpoint(int file, void *data, struct failure *failure) {
    struct agent *agent = data;
    return store_save_checkpoint(agent->environment.store, file, failure);
}

static void wait_until(struct agent *agent, enum failure_class class, uint64_t next_usec) {
    agent->status.next_attempt_usec = next_usec;
    agent_set_state(agent, schedule_needs_operator(class) ? STATE_FAILED : STATE_BACKOFF);
}

static const char *what_failed(const struct agent *agent) {
    if (agent->operation == 0)
        return "read the configuration";
    return agent->status.state == STATE_ENROLLING ? "enroll" : "check the identity";
}

/* An attempt has ended badly, and is logged here and only here. `row`: of the retry table, and what it says about the
 * state; but for a wrong TPM the class of the failure. */
static void attempt_failed_as(struct agent *agent, const struct failure *failure, enum failure_class row,
                              bool canceled) {
    char detail[DETAIL_MAX];
    bool enrolling = agent->attempts.retry.begun;
    struct attempt_end end = attempts_fail(&agent->attempts, settings_of(agent), row, failure->retry_after_s);
    agent->resuming = false;
    describe(failure, detail);
    log_message(LOG_ERR, "attempt %u to %s failed: %s (next in %.1f s)", end.number, what_failed(agent), detail,
                (double)end.delay_ms / 1000);
    set_error(agent, failure);
    if (enrolling)
        store_discard(agent->environment.store);
    agent->status.attempt = end.number;
    wait_until(agent, row, end.next_usec);
    end_operation(agent, canceled ? "canceled" : "failed", detail);
}

static void attempt_failed(struct agent *agent, const struct failure *failure, bool canceled) {
    attempt_failed_as(agent, failure, failure->class, canceled);
}

/* A commit whose last fsync failed has changed the identity all the same, and is told by the check that comes next. */
static void announce_identity(struct agent *agent) {
    if (agent->status.generation == agent->known_generation)
        return;
    agent->known_generation = agent->status.generation;
    bus_identity_changed(agent->bus, agent->known_generation);
}

static void succeed(struct agent *agent, const struct identity *identity) {
    struct status *status = &agent->status;
    attempts_forget(&agent->attempts);
    store_clear_checkpoint(agent->environment.store);
    memset(&status->error, 0, sizeof status->error);
    status->identity = *identity;
    memcpy(status->method, identity->method, sizeof status->method);
    status->generation = store_current(agent->environment.store);
    status->credential_directory = agent->environment.credential_directory;
    status->attempt = 0;
    log_message(LOG_NOTICE, "provisioned: thing \"%s\", certificate %s, generation %u", identity->thing_name,
                identity->certificate_id, status->generation);
    agent_set_state(agent, STATE_PROVISIONED);
    announce_identity(agent);
    end_operation(agent, "done", "");
}

/* --- workers --- */

typedef void ended_handler(const struct job_outcome *outcome, void *data);

/* Takes the files, also on failure. */
static int start_worker(struct agent *agent, enum job_verb verb, uint32_t generation, int files[FILE_ROLE_COUNT],
                        ended_handler *ended, struct failure *failure) {
    struct job_request request = {
        .verb = verb,
        .generation = generation,
        .deadline_usec = verb == VERB_CHECK ? JOB_CHECK_DEADLINE_USEC
                                            : JOB_ENROLL_DEADLINE_USEC + 2 * agent->settings.propagation_ms * 1000,
        .grace_usec = JOB_GRACE_USEC,
    };
    struct job_handler handler = {.progress = on_progress, .checkpoint = on_checkpoint, .ended = ended, .data = agent};
    if (handover_configuration(agent->configuration, &files[FILE_CONFIGURATION], failure) < 0) {
        for (int role = 0; role < FILE_ROLE_COUNT; role++)
            cleanup_close(&files[role]);
        return -1;
    }
    return job_start(agent->environment.event, &agent->environment.launch, &request, files, &handler, &agent->job,
                     failure);
}

/* True if the outcome counts: not while the daemon is going away. */
static bool take_worker(struct agent *agent) {
    agent->job = job_free(agent->job);
    if (agent->stopping)
        sd_event_exit(agent->environment.event, EXIT_SUCCESS);
    return !agent->stopping;
}

static void on_verify_ended(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    struct failure failure;
    if (!take_worker(agent))
        return;
    if (!outcome->done) {
        if (outcome->lost) /* what the checkpoint leads to can never work */
            store_clear_checkpoint(agent->environment.store);
        attempt_failed(agent, &outcome->failure, outcome->canceled);
        return;
    }
    set_step(agent, STEP_COMMIT);
    if (store_commit(agent->environment.store, &failure) < 0)
        attempt_failed(agent, &failure, false);
    else
        succeed(agent, &outcome->identity);
}

static int start_enroll(struct agent *agent, struct failure *failure);

/* What arrived is written, and judged by another worker from what was written, before it may become `current`. */
static void on_enroll_ended(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    struct store *store = agent->environment.store;
    int files[FILE_ROLE_COUNT] = NO_FILES;
    struct failure failure;
    agent->enroll_ended_usec = clock_usec(CLOCK_BOOTTIME);
    if (!take_worker(agent))
        return;
    if (outcome->resume && !agent->resumed) { /* with the same client id: the distance counts here, too */
        agent->resumed = agent->resuming = true;
        arm_timer(agent, QUIET_USEC);
        return;
    }
    if (outcome->resume) {
        failure_set(&failure, FAILURE_INTERNAL, STEP_WORKER, "the worker asked to resume a second time");
        attempt_failed(agent, &failure, false);
        return;
    }
    if (!outcome->done) {
        attempt_failed(agent, &outcome->failure, outcome->canceled);
        return;
    }
    set_step(agent, STEP_VERIFY);
    if (store_stage(store, outcome->files, &failure) < 0 || store_open_staged(store, files, &failure) < 0 ||
        start_worker(agent, VERB_CHECK, store_next(store), files, on_verify_ended, &failure) < 0)
        attempt_failed(agent, &failure, false);
}

static int start_enroll(struct agent *agent, struct failure *failure) {
    int files[FILE_ROLE_COUNT] = NO_FILES;
    if (store_open_checkpoint(agent->environment.store, &files[FILE_CHECKPOINT], failure) < 0)
        return -1;
    return start_worker(agent, VERB_ENROLL, store_next(agent->environment.store), files, on_enroll_ended, failure);
}

static void run_enroll(struct agent *agent) {
    struct failure failure;
    int r = attempts_begin(&agent->attempts, &failure);
    agent->status.attempt = agent->attempts.retry.attempts;
    if (agent->status.state != STATE_ENROLLING) /* it was checked first, and is lost */
        agent_set_state(agent, STATE_ENROLLING);
    agent->resumed = agent->resuming = false;
    if (r == 0)
        r = start_enroll(agent, &failure);
    if (r < 0)
        attempt_failed(agent, &failure, false);
}

static void resume(struct agent *agent);

static void on_check_ended(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    char detail[DETAIL_MAX];
    if (!take_worker(agent))
        return;
    if (outcome->done) {
        succeed(agent, &outcome->identity);
        return;
    }
    if (!outcome->lost) {
        attempt_failed(agent, &outcome->failure, outcome->canceled);
        return;
    }
    /* A disk that was moved may be put back, and a cloned one must not take the place of the first in the cloud. */
    if (outcome->elsewhere && agent->settings.on_wrong_tpm == SETTING_WRONG_TPM_FAIL) {
        runtime_set_lost(agent->environment.runtime);
        attempt_failed_as(agent, &outcome->failure, FAILURE_DENIED, false);
        return;
    }
    describe(&outcome->failure, detail);
    agent->lost_generation = store_current(agent->environment.store);
    log_message(LOG_ERR, "identity %u is lost: %s", agent->lost_generation, detail);
    set_error(agent, &outcome->failure);
    if (agent->verb == VERB_ENROLL) {
        runtime_set_lost(agent->environment.runtime);
        run_enroll(agent);
        return;
    }
    end_operation(agent, "failed", detail);
    resume(agent);
}

static void run_check(struct agent *agent) {
    struct store *store = agent->environment.store;
    int files[FILE_ROLE_COUNT] = NO_FILES;
    struct failure failure;
    if (store_open_current(store, files, &failure) < 0 ||
        start_worker(agent, VERB_CHECK, store_current(store), files, on_check_ended, &failure) < 0)
        attempt_failed(agent, &failure, false);
}

/* --- what is next --- */

static void log_warning(const char *text, void *data) {
    (void)data;
    log_message(LOG_WARNING, "%s", text);
}

static int load_configuration(struct agent *agent, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    AUTO_CLOSE int file = -1;
    struct settings settings;
    if (configuration_load(agent->environment.configuration_path, &configuration, failure) < 0 ||
        settings_read(configuration, &settings, failure) < 0 ||
        handover_configuration(configuration, &file, failure) < 0) /* what no worker could take stays out of force */
        return -1;
    agent->settings = settings;
    settings_warn_unknown(configuration, &agent->settings, log_warning, NULL);
    configuration_free(agent->configuration);
    agent->configuration = TAKE_POINTER(configuration);
    if (agent->status.state != STATE_PROVISIONED) {
        struct status *status = &agent->status;
        status_set_text(status->method, sizeof status->method, agent->settings.methods[0]);
        status_set_text(status->identity.endpoint, sizeof status->identity.endpoint, agent->settings.endpoint);
    }
    return 0;
}

/* Derives from the disk what comes next: a look at the identity at once, an enrolment when its time has come. */
static void resume(struct agent *agent) {
    if (!has_identity(agent)) {
        runtime_set_lost(agent->environment.runtime);
        if (attempts_must_wait(&agent->attempts, settings_of(agent))) {
            const struct retry *retry = &agent->attempts.retry;
            agent->status.attempt = retry->attempts;
            wait_until(agent, retry->class, retry->next_usec);
            return;
        }
    }
    begin(agent, has_identity(agent) ? VERB_CHECK : VERB_ENROLL);
    start_soon(agent);
}

/* Workers are started from here only, so that Enroll() has been answered before its job can end. */
static int on_timer(sd_event_source *source, uint64_t usec, void *data) {
    struct agent *agent = data;
    struct failure failure;
    (void)source;
    (void)usec;
    if (agent->configuration == NULL) {
        if (load_configuration(agent, &failure) < 0)
            attempt_failed(agent, &failure, false);
        else
            resume(agent);
        return 0;
    }
    if (agent->resuming) {
        agent->resuming = false;
        if (start_enroll(agent, &failure) < 0)
            attempt_failed(agent, &failure, false);
        return 0;
    }
    if (agent->operation == 0)
        begin(agent, has_identity(agent) ? VERB_CHECK : VERB_ENROLL);
    if (has_identity(agent))
        run_check(agent);
    else
        run_enroll(agent);
    return 0;
}

/* --- requests --- */

enum agent_answer agent_enroll(struct agent *agent, uint32_t *ret_id, struct failure *failure) {
    if (agent->stopping)
        return ANSWER_BUSY;
    switch (agent->status.state) {
    case STATE_PROVISIONED:
        return ANSWER_ALREADY_PROVISIONED;
    case STATE_CHECKING:
    case STATE_ENROLLING:
        if (agent->verb != VERB_ENROLL)
            return ANSWER_BUSY;
        *ret_id = agent->operation;
        return ANSWER_YES;
    case STATE_BACKOFF:
    case STATE_FAILED:
        break;
    }
    if (agent->configuration == NULL && load_configuration(agent, failure) < 0)
        return ANSWER_INVALID_CONFIGURATION;
    attempts_forget(&agent->attempts);
    begin(agent, VERB_ENROLL);
    start_soon(agent);
    *ret_id = agent->operation;
    return ANSWER_YES;
}

enum agent_answer agent_cancel(struct agent *agent, uint32_t id) {
    struct failure failure;
    if (id == 0 || id != agent->operation)
        return ANSWER_NO_SUCH_JOB;
    if (agent->job != NULL) {
        job_cancel(agent->job);
        return ANSWER_YES;
    }
    failure_set(&failure, FAILURE_INTERNAL, STEP_WORKER, "canceled on request");
    attempt_failed(agent, &failure, true);
    return ANSWER_YES;
}

static enum agent_answer reload(struct agent *agent, struct failure *failure) {
    bool waiting = agent->status.state == STATE_BACKOFF || agent->status.state == STATE_FAILED;
    if (load_configuration(agent, failure) < 0) {
        if (agent->configuration == NULL) {
            set_error(agent, failure);
            bus_publish(agent->bus, &agent->status);
        }
        return ANSWER_INVALID_CONFIGURATION;
    }
    log_message(LOG_NOTICE, "the configuration was read again");
    bus_publish(agent->bus, &agent->status);
    if (waiting && !agent->stopping) {
        attempts_forget(&agent->attempts);
        resume(agent);
    }
    return ANSWER_YES;
}

enum agent_answer agent_reload(struct agent *agent, struct failure *failure) {
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_usec(CLOCK_MONOTONIC));
    enum agent_answer answer = reload(agent, failure);
    sd_notify(0, "READY=1");
    return answer;
}

/* --- life --- */

static int on_stop_timer(sd_event_source *source, uint64_t usec, void *data) {
    (void)usec;
    (void)data;
    return sd_event_exit(sd_event_source_get_event(source), EXIT_SUCCESS);
}

/* An enrolment that is cut off here stays on record as begun: clean reboots can be a boot loop, too. */
void agent_stop(struct agent *agent) {
    sd_event *event = agent->environment.event;
    bool again = agent->stopping;
    agent->stopping = true;
    agent->timer = sd_event_source_disable_unref(agent->timer);
    sd_notify(0, "STOPPING=1\nSTATUS=Stopping");
    if (again || agent->job == NULL ||
        sd_event_add_time_relative(event, &agent->stop_timer, CLOCK_MONOTONIC, STOP_USEC, 1, on_stop_timer, agent) < 0)
        sd_event_exit(event, EXIT_SUCCESS);
    else
        job_cancel(agent->job);
}

void agent_start(struct agent *agent) {
    struct failure failure, before;
    int r = load_configuration(agent, &failure);
    agent->known_generation = store_current(agent->environment.store);
    if (attempts_load(&agent->attempts, settings_of(agent), &before))
        set_error(agent, &before);
    if (r < 0)
        attempt_failed(agent, &failure, false);
    else
        resume(agent);
}

struct agent *agent_new(const struct agent_environment *environment) {
    struct agent *agent = calloc(1, sizeof *agent);
    if (agent == NULL)
        return NULL;
    agent->environment = *environment;
    agent->attempts.store = environment->store;
    agent->status.credential_directory = "";
    return agent;
}

struct agent *agent_free(struct agent *agent) {
    if (agent == NULL)
        return NULL;
    job_free(agent->job);
    sd_event_source_disable_unref(agent->timer);
    sd_event_source_disable_unref(agent->stop_timer);
    configuration_free(agent->configuration);
    free(agent);
    return NULL;
}
