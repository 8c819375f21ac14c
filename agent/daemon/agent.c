#include "daemon/agent-private.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "daemon/handover.h"
#include "daemon/log.h"
#include "daemon/runtime.h"
#include "daemon/schedule.h"

#include <systemd/sd-daemon.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#define STOP_USEC 1000000ULL

static uint64_t clock_usec(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t agent_boottime_usec(void) {
    return clock_usec(CLOCK_BOOTTIME);
}

uint64_t agent_now_usec(void) {
    return clock_usec(CLOCK_REALTIME);
}

/* NULL while there is no valid configuration. */
static const struct settings *settings_of(const struct agent *agent) {
    return agent->configuration != NULL ? &agent->settings : NULL;
}

bool agent_has_identity(const struct agent *agent) {
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

void agent_arm_timer(struct agent *agent, uint64_t delay_usec) {
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
    case STATE_WAITING_CLOCK:
        sd_notifyf(0, "STATUS=Waiting for the clock: %s", status->error.message);
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
    case STATE_RENEWING:
        sd_notifyf(0, "STATUS=Renewing, attempt %u: thing %s, generation %u", status->attempt,
                   status->identity.thing_name, status->generation);
        return;
    }
}

static void show_methods(struct agent *agent) {
    methods_copy_states(agent->status.methods, &agent->status.method_count, &agent->methods);
}

/* The only writer of the state. */
void agent_set_state(struct agent *agent, enum agent_state state) {
    struct status *status = &agent->status;
    if (status->state != state)
        log_message(LOG_INFO, "state: %s -> %s", status_state_name(status->state), status_state_name(state));
    status->state = state;
    status_set_text(status->step, sizeof status->step, "");
    if (state != STATE_PROVISIONED && state != STATE_RENEWING)
        status_set_text(status->method, sizeof status->method, methods_name(&agent->methods));
    show_methods(agent);
    switch (state) {
    case STATE_CHECKING:
    case STATE_ENROLLING:
        status->next_attempt_usec = 0;
        break;
    case STATE_BACKOFF:
    case STATE_FAILED: {
        uint64_t now = agent_now_usec();
        bool waits = status->next_attempt_usec > now && !task_waits(agent);
        agent_arm_timer(agent, waits ? status->next_attempt_usec - now : 0);
        break;
    }
    case STATE_WAITING_CLOCK:
    case STATE_RENEWING:
    case STATE_PROVISIONED:
        break;
    }
    if (state != STATE_PROVISIONED) /* whose turns decide */
        network_listen(agent->network, state == STATE_BACKOFF);
    notify_state(agent);
    bus_publish(agent->bus, status);
}

void agent_set_step(struct agent *agent, const char *step) {
    status_set_text(agent->status.step, sizeof agent->status.step, step);
    bus_publish(agent->bus, &agent->status);
}

/* --- operations --- */

uint32_t agent_next_id(struct agent *agent) {
    agent->last_id = agent->last_id == UINT32_MAX ? 1 : agent->last_id + 1;
    return agent->last_id;
}

/* What runs now, or next, is one operation with one number: a check, an enrolment, or for Enroll() both in turn. */
void agent_begin(struct agent *agent, enum job_verb verb) {
    agent->operation = agent_next_id(agent);
    agent->verb = verb;
    agent->status.attempt = (agent_has_identity(agent) ? agent->attempts.local : agent->attempts.retry.attempts) + 1;
    agent_set_state(agent, agent_has_identity(agent) ? STATE_CHECKING : STATE_ENROLLING);
}

/* How long the next enrolment has to wait, whatever the reason for it. */
static uint64_t quiet_usec(const struct agent *agent) {
    uint64_t quiet_until = agent->enroll_ended_usec + QUIET_USEC, now = agent_boottime_usec();
    bool connects = agent->status.state == STATE_RENEWING || !agent_has_identity(agent);
    bool must_wait = agent->enroll_ended_usec != 0 && connects && quiet_until > now;
    return must_wait ? quiet_until - now : 0;
}

void agent_start_soon(struct agent *agent) {
    agent_arm_timer(agent, quiet_usec(agent));
}

void agent_end_operation(struct agent *agent, const char *result, const char *detail) {
    uint32_t id = agent->operation;
    agent->operation = 0;
    agent->proving.running = false;
    agent_set_step(agent, "");
    if (id != 0)
        bus_job_removed(agent->bus, id, job_verb_name(agent->verb), result, detail);
}

void agent_describe(const struct failure *failure, char detail[DETAIL_MAX]) {
    snprintf(detail, DETAIL_MAX, "%s: %s: %s", failure_class_name(failure->class), failure->step, failure->message);
}

void agent_set_error(struct agent *agent, const struct failure *failure) {
    struct status_error *error = &agent->status.error;
    status_set_text(error->class, sizeof error->class, failure_class_name(failure->class));
    status_set_text(error->step, sizeof error->step, failure->step);
    status_set_text(error->message, sizeof error->message, failure->message);
    error->time_usec = agent_now_usec();
}

static void wait_until(struct agent *agent, enum failure_class class, uint64_t next_usec) {
    uint64_t now = agent_now_usec();
    agent->status.next_attempt_usec = next_usec;
    agent->next_boottime_usec = agent_boottime_usec() + (next_usec > now ? next_usec - now : 0);
    agent_set_state(agent, schedule_needs_operator(class) ? STATE_FAILED : STATE_BACKOFF);
}

static const char *what_failed(const struct agent *agent) {
    if (agent->operation == 0)
        return "read the configuration";
    return agent->status.state == STATE_ENROLLING ? "enroll" : "check the identity";
}

/* An identity that could not be looked at just now is as good as it was. */
static void look_failed(struct agent *agent, const struct failure *failure) {
    struct attempt_end end =
        attempts_fail(&agent->attempts, settings_of(agent), failure->class, failure->retry_after_s);
    char detail[DETAIL_MAX];
    agent_describe(failure, detail);
    agent_set_error(agent, failure);
    agent->look_told_usec = agent->status.error.time_usec;
    log_event(LOG_EVENT_ATTEMPT_FAILED, failure, LOG_ERR, "the identity in use cannot be checked: %s (next in %.1f s)",
              detail, (double)end.delay_ms / 1000);
    agent_end_operation(agent, "failed", detail);
    provisioned_look(agent, end.delay_ms * 1000);
}

/* Of a Check() that nobody wants any more; a look that the daemon has wanted comes again. */
static void look_canceled(struct agent *agent, const struct failure *failure) {
    char detail[DETAIL_MAX];
    agent->look = agent->look || !agent->proving.running;
    agent_describe(failure, detail);
    agent_end_operation(agent, "canceled", detail);
    agent_arm_timer(agent, 0);
}

void agent_attempt_failed(struct agent *agent, const struct failure *failure, enum failure_class row, bool canceled) {
    char detail[DETAIL_MAX];
    bool enrolling = agent->attempts.retry.begun;
    if (agent->status.state == STATE_PROVISIONED) {
        if (canceled)
            look_canceled(agent, failure);
        else
            look_failed(agent, failure);
        return;
    }
    agent_set_error(agent, failure); /* its time is that of the failure, however long the disk takes below */
    if (agent->status.state == STATE_RENEWING) {
        renew_failed(agent, failure, row, canceled);
        return;
    }
    struct attempt_end end = attempts_fail(&agent->attempts, settings_of(agent), row, failure->retry_after_s);
    agent->resuming = false;
    agent_describe(failure, detail);
    log_event(schedule_needs_operator(row) ? LOG_EVENT_NEEDS_OPERATOR : LOG_EVENT_ATTEMPT_FAILED, failure, LOG_ERR,
              "attempt %u to %s failed: %s (next in %.1f s)", end.number, what_failed(agent), detail,
              (double)end.delay_ms / 1000);
    if (enrolling)
        store_discard(agent->environment.store);
    agent->status.attempt = end.number;
    wait_until(agent, row, end.next_usec);
    agent_end_operation(agent, canceled ? "canceled" : "failed", detail);
    if (agent->clock_was_set)
        agent->clock_was_set = !agent_clock_look_at_lost(agent);
}

/* --- what is next --- */

static void log_warning(const char *text, void *data) {
    (void)data;
    log_message(LOG_WARNING, "%s", text);
}

int agent_load_configuration(struct agent *agent, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    AUTO_CLOSE int file = -1;
    struct settings settings;
    if (configuration_load(agent->environment.configuration_path, &configuration, failure) < 0 ||
        settings_read(configuration, &settings, failure) < 0 ||
        handover_configuration(configuration, &file, failure) < 0) /* what no worker could take stays out of force */
        return -1;
    agent->settings = settings;
    store_keep_generations(agent->environment.store, settings.keep_generations);
    if (!agent->attempts.retry.begun) { /* an attempt goes on with the list it has begun with */
        methods_set(&agent->methods, &settings);
        show_methods(agent);
    }
    settings_warn_unknown(configuration, &agent->settings, log_warning, NULL);
    configuration_free(agent->configuration);
    agent->configuration = TAKE_POINTER(configuration);
    if (agent->status.generation == 0) {
        struct status *status = &agent->status;
        status_set_text(status->method, sizeof status->method, methods_name(&agent->methods));
        status_set_text(status->identity.endpoint, sizeof status->identity.endpoint, agent->settings.endpoint);
    }
    return 0;
}

void agent_resume(struct agent *agent) {
    if (!agent_has_identity(agent)) {
        runtime_set_lost(agent->environment.runtime);
        if (attempts_must_wait(&agent->attempts, settings_of(agent))) {
            const struct retry *retry = &agent->attempts.retry;
            agent->status.attempt = retry->attempts;
            wait_until(agent, retry->class, retry->next_usec);
            return;
        }
    }
    if (agent_clock_holds(agent))
        return;
    agent_begin(agent, agent_has_identity(agent) ? VERB_CHECK : VERB_ENROLL);
    agent_start_soon(agent);
}

/* Workers are started from here only, so that Enroll() has been answered before its job can end. */
static int on_timer(sd_event_source *source, uint64_t usec, void *data) {
    struct agent *agent = data;
    struct failure failure;
    (void)source;
    (void)usec;
    if (agent->job != NULL) /* what it is about goes on from here when it has ended */
        return 0;
    if (agent->configuration == NULL) {
        if (agent_load_configuration(agent, &failure) < 0)
            agent_attempt_failed(agent, &failure, failure.class, false);
        else
            agent_resume(agent);
        return 0;
    }
    if (agent->resuming) {
        attempt_continue(agent);
        return 0;
    }
    if (agent->status.state == STATE_PROVISIONED) {
        provisioned_turn(agent);
        return 0;
    }
    if (task_waits(agent)) {
        task_run(agent);
        return 0;
    }
    if (quiet_usec(agent) > 0) {
        agent_start_soon(agent);
        return 0;
    }
    if (agent->operation == 0) {
        if (agent_clock_holds(agent))
            return 0;
        agent_begin(agent, agent_has_identity(agent) ? VERB_CHECK : VERB_ENROLL);
    }
    if (agent->verb == VERB_RENEW)
        renew_run(agent);
    else if (agent_has_identity(agent))
        attempt_check(agent);
    else
        attempt_enroll(agent);
    return 0;
}

void agent_move_record(struct agent *agent, uint64_t next_usec) {
    if (agent->status.state == STATE_PROVISIONED)
        attempts_move(&agent->renewals, next_usec);
    else if (!agent_has_identity(agent)) /* a request or an import in between reads it there */
        attempts_move(&agent->attempts, next_usec);
}

/* --- requests --- */

enum agent_answer agent_enroll(struct agent *agent, uint32_t *ret_id, struct failure *failure) {
    if (agent->stopping)
        return ANSWER_BUSY;
    switch (agent->status.state) {
    case STATE_PROVISIONED:
    case STATE_RENEWING:
        return ANSWER_ALREADY_PROVISIONED;
    case STATE_CHECKING:
    case STATE_ENROLLING:
        if (agent->verb != VERB_ENROLL)
            return ANSWER_BUSY;
        *ret_id = agent->operation;
        return ANSWER_YES;
    case STATE_WAITING_CLOCK:
    case STATE_BACKOFF:
    case STATE_FAILED:
        break;
    }
    if (agent->configuration == NULL && agent_load_configuration(agent, failure) < 0)
        return ANSWER_INVALID_CONFIGURATION;
    if (!agent_has_identity(agent) && agent_clock_refuses(agent, failure))
        return ANSWER_CLOCK_NOT_SET;
    attempts_forget(&agent->attempts);
    methods_forget(&agent->methods);
    agent_begin(agent, VERB_ENROLL);
    agent_start_soon(agent);
    *ret_id = agent->operation;
    return ANSWER_YES;
}

enum agent_answer agent_cancel(struct agent *agent, uint32_t id) {
    struct failure failure;
    if (id == 0)
        id = agent->operation == 0 || agent->task.running ? agent->task.id : agent->operation;
    if (diagnosing_cancel(agent, id) || prove_cancel(agent, id))
        return ANSWER_YES;
    if (id == 0 || (id != agent->operation && id != agent->task.id))
        return ANSWER_NO_SUCH_JOB;
    if (agent->job != NULL && !agent->retiring.running && agent->task.running == (id == agent->task.id)) {
        job_cancel(agent->job);
        return ANSWER_YES;
    }
    if (id == agent->task.id) {
        task_cancel(agent);
        return ANSWER_YES;
    }
    failure_set(&failure, FAILURE_INTERNAL, STEP_WORKER, "canceled on request");
    agent_attempt_failed(agent, &failure, failure.class, true);
    return ANSWER_YES;
}

static enum agent_answer reload(struct agent *agent, struct failure *failure) {
    enum agent_state state = agent->status.state;
    bool waiting = state == STATE_WAITING_CLOCK || state == STATE_BACKOFF || state == STATE_FAILED;
    bool gave_up = prove_gave_up(agent);
    if (agent_load_configuration(agent, failure) < 0) {
        if (agent->configuration == NULL) {
            agent_set_error(agent, failure);
            bus_publish(agent->bus, &agent->status);
        }
        return ANSWER_INVALID_CONFIGURATION;
    }
    log_message(LOG_NOTICE, "the configuration was read again");
    methods_forget(&agent->methods);
    show_methods(agent);
    bus_publish(agent->bus, &agent->status);
    if (waiting && !agent->stopping) {
        if (gave_up && !prove_gave_up(agent)) /* it is to be waited for after all */
            agent->lost_generation = 0;
        attempts_forget(&agent->attempts);
        agent_resume(agent);
    }
    if (state == STATE_PROVISIONED && !agent->stopping) { /* what is wrong with a renewal may be right now */
        attempts_move(&agent->renewals, agent_now_usec());
        agent->next_boottime_usec = 0;
        provisioned_look(agent, 0);
    }
    if (state == STATE_RENEWING || state == STATE_CHECKING) /* what runs was begun by what held before */
        provisioned_look(agent, 0);
    return ANSWER_YES;
}

enum agent_answer agent_reload(struct agent *agent, struct failure *failure) {
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_usec(CLOCK_MONOTONIC));
    enum agent_answer answer = reload(agent, failure);
    sd_notify(0, "READY=1");
    return answer;
}

enum agent_answer agent_get_configuration(const struct agent *agent, const struct configuration **ret,
                                          struct failure *failure) {
    if (agent->configuration == NULL) {
        failure_record(failure, FAILURE_INVALID, STEP_CONFIGURATION, "no valid configuration is in force: %s",
                       agent->status.error.message);
        return ANSWER_INVALID_CONFIGURATION;
    }
    *ret = agent->configuration;
    return ANSWER_YES;
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

/* An import forgets the attempts before it. */
bool agent_has_staged(const struct agent *agent) {
    AUTO_CLOSE int file = -1;
    struct failure ignored;
    return store_open_kept(agent->environment.store, STORE_STAGED, &file, &ignored) == 0 && file >= 0;
}

static void tell_volatile_state(const struct agent *agent) {
    switch (agent->environment.volatile_state) {
    case VOLATILE_NO:
        break;
    case VOLATILE_YES:
        log_event(LOG_EVENT_VOLATILE_STATE, NULL, LOG_WARNING,
                  "the state directory is in memory: what is in it is lost at the next boot");
        break;
    case VOLATILE_UNKNOWN:
        log_message(LOG_NOTICE,
                    "the state directory is on an overlay, and whether that is kept on a disk cannot be seen");
        break;
    }
}

void agent_start(struct agent *agent) {
    struct failure failure, before;
    agent_watch_network(agent);
    agent_clock_watch(agent);
    tell_volatile_state(agent);
    int r = agent_load_configuration(agent, &failure);
    agent->known_generation = store_current(agent->environment.store);
    if (attempts_load(&agent->attempts, settings_of(agent), &before))
        agent_set_error(agent, &before);
    if (attempts_load(&agent->renewals, settings_of(agent), &before)) {
        uint64_t now = agent_now_usec(), next = agent->renewals.retry.next_usec;
        agent->next_boottime_usec = agent_boottime_usec() + (next > now ? next - now : 0);
        agent->status.next_attempt_usec = next;
    }
    if (agent->attempts.retry.attempts > 0 || agent_has_staged(agent))
        agent->enroll_ended_usec = agent_boottime_usec(); /* for all that is known */
    store_load_refusal(agent->environment.store, &agent->proving.refusal);
    if (r == 0 && prove_gave_up(agent)) /* a check would find it good, and have the checkpoint of its successor go */
        agent->lost_generation = agent->known_generation;
    if (r < 0)
        agent_attempt_failed(agent, &failure, failure.class, false);
    else
        agent_resume(agent);
}

struct agent *agent_new(const struct agent_environment *environment) {
    struct agent *agent = calloc(1, sizeof *agent);
    if (agent == NULL)
        return NULL;
    agent->environment = *environment;
    agent->settings = settings_unset;
    agent->attempts = (struct attempts){.store = environment->store, .record = STORE_RETRY};
    agent->renewals = (struct attempts){.store = environment->store, .record = STORE_RETRY_RENEWAL};
    agent->task = (struct task){.files = NO_FILES};
    agent->status.credential_directory = "";
    agent->status.volatile_state = environment->volatile_state;
    return agent;
}

struct agent *agent_free(struct agent *agent) {
    if (agent == NULL)
        return NULL;
    job_free(agent->job);
    task_end_listing(agent);
    diagnosing_clear(agent);
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        cleanup_close(&agent->task.files[role]);
    free(agent->task.subject);
    free(agent->request_pem);
    sd_event_source_disable_unref(agent->timer);
    sd_event_source_disable_unref(agent->date_timer);
    sd_event_source_disable_unref(agent->stop_timer);
    network_free(agent->network);
    clock_watch_free(agent->clock_watch);
    configuration_free(agent->configuration);
    free(agent);
    return NULL;
}
