/* Retirement: the cloud is told which certificates the one in use has replaced, at least once, and again until it is
 * done. Nothing waits for it. */
#include "daemon/agent-private.h"

#include "daemon/log.h"

#include <stdio.h>
#include <string.h>

static void show(struct agent *agent) {
    store_load_retired(agent->environment.store, &agent->status.retired);
}

/* An empty list needs no file. What the disk does not take comes back with the next start, and not before: then the
 * cloud is told twice. */
static void save(struct agent *agent, const struct retired *retired) {
    struct failure failure;
    if (retired->count == 0)
        store_clear_record(agent->environment.store, STORE_RETIRED);
    else if (store_save_retired(agent->environment.store, retired, &failure) < 0)
        log_message(LOG_WARNING, "%s", failure.message);
    agent->status.retired = *retired;
}

/* The one in use may be on the list: its successor was never committed, or it was given up and is good after all. */
void retire_reset(struct agent *agent) {
    struct retired *retired = &agent->status.retired;
    agent->retiring = (struct retiring){0};
    show(agent);
    if (retired_remove(retired, agent->status.identity.certificate_id)) {
        struct retired rest = *retired;
        save(agent, &rest);
    }
}

uint64_t retire_due_usec(struct agent *agent) {
    const struct retiring *retiring = &agent->retiring;
    uint64_t due = retiring->next_usec, quiet_until = agent->enroll_ended_usec + QUIET_USEC;
    if (agent->status.retired.count == 0 || agent->settings.retire_topic[0] == '\0')
        return UINT64_MAX;
    if (retiring->no_network)
        due = agent_brought_forward(agent, due, retiring->begun_usec);
    return agent->enroll_ended_usec != 0 && due < quiet_until ? quiet_until : due;
}

static void failed(struct agent *agent, const struct failure *failure) {
    struct retiring *retiring = &agent->retiring;
    char detail[DETAIL_MAX];
    uint64_t delay_ms =
        attempts_delay_ms(&agent->settings, failure->class, ++retiring->failures, failure->retry_after_s);
    retiring->next_usec = agent_boottime_usec() + delay_ms * 1000;
    retiring->made_way = false;
    retiring->no_network = agent_lacks_network(failure->class, failure->retry_after_s);
    agent_describe(failure, detail);
    agent_set_error(agent, failure);
    retiring->told_usec = agent->status.error.time_usec;
    log_event(LOG_EVENT_NOT_RETIRED, failure, LOG_WARNING,
              "%zu certificate%s that %s replaced may still be active, certificate %s the first: %s (next in %.1f s)",
              agent->status.retired.count, agent->status.retired.count == 1 ? "" : "s",
              agent->status.retired.count == 1 ? "was" : "were", agent->status.retired.ids[0], detail,
              (double)delay_ms / 1000);
}

/* On record at once: neither a failure with another one nor a power cut has it told again. */
void retire_told(const char *certificate_id, void *data) {
    struct agent *agent = data;
    struct retired rest = agent->status.retired;
    if (!retired_remove(&rest, certificate_id))
        return;
    log_message(LOG_NOTICE, "the cloud was told that certificate %s is replaced", certificate_id);
    save(agent, &rest);
    bus_publish(agent->bus, &agent->status);
}

/* All that was sent, and nothing else: no certificate is replaced while this runs. */
static void succeeded(struct agent *agent) {
    status_make_good(&agent->status, agent->retiring.told_usec);
    agent->retiring = (struct retiring){0};
    save(agent, &(const struct retired){0});
}

static void on_ended(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    agent->retiring.running = false;
    agent->enroll_ended_usec = agent_boottime_usec();
    if (!agent_take_worker(agent))
        return;
    if (outcome->done || agent->status.retired.count == 0) /* whatever became of it after the last one */
        succeeded(agent);
    else if (!outcome->canceled)
        failed(agent, &outcome->failure);
    agent_set_step(agent, "");
    if (agent->operation != 0) /* which it has made way for */
        agent_start_soon(agent);
    else
        agent_arm_timer(agent, 0);
}

static void list(const struct retired *retired, char text[RETIRED_TEXT_MAX]) {
    retired_format(retired, text);
    text[strlen(text) - 1] = '\0'; /* the last line's end */
    for (char *at = strchr(text, '\n'); at != NULL; at = strchr(at, '\n'))
        *at = ' ';
}

void retire_run(struct agent *agent) {
    char old[RETIRED_TEXT_MAX];
    struct job_request request = {.verb = VERB_RETIRE,
                                  .generation = agent->status.generation,
                                  .old = old,
                                  .deadline_usec = JOB_RETIRE_DEADLINE_USEC};
    int files[FILE_ROLE_COUNT] = NO_FILES;
    struct failure failure;
    list(&agent->status.retired, old);
    agent->retiring.begun_usec = agent_boottime_usec();
    int r = store_open_current(agent->environment.store, files, &failure);
    if (r == 0)
        r = agent_start_worker(agent, &request, files, on_ended, &failure);
    agent->retiring.running = r == 0;
    if (r == 0)
        return;
    failed(agent, &failure);
    agent_arm_timer(agent, 0);
}

void retire_make_way(struct agent *agent) {
    if (agent->retiring.running)
        job_cancel(agent->job);
}

void retire_make_way_once(struct agent *agent) {
    if (!agent->retiring.running || agent->retiring.made_way)
        return;
    agent->retiring.made_way = true;
    job_cancel(agent->job);
}
