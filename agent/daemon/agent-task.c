/* What an operator or the factory line asks for beside the attempts: a request for a certificate, the import of one,
 * the list of methods. */
#include "daemon/agent-private.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"
#include "common/text.h"
#include "daemon/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void task_clear(struct task *task) {
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        cleanup_close(&task->files[role]);
    free(task->subject);
    *task = (struct task){.files = NO_FILES};
}

static void task_end(struct agent *agent, const char *result, const char *detail) {
    struct task task = {.id = agent->task.id, .verb = agent->task.verb};
    task_clear(&agent->task);
    bus_job_removed(agent->bus, task.id, job_verb_name(task.verb), result, detail);
}

static void task_failed(struct agent *agent, const struct failure *failure, bool canceled) {
    char detail[DETAIL_MAX];
    agent_describe(failure, detail);
    log_message(LOG_ERR, "%s failed: %s", job_verb_name(agent->task.verb), detail);
    task_end(agent, canceled ? "canceled" : "failed", detail);
}

bool task_waits(const struct agent *agent) {
    return agent->task.id != 0 && !agent->task.running;
}

/* Back to what the task came between: an attempt that has begun, or the wait for the next one. */
static void go_on(struct agent *agent) {
    agent_set_step(agent, "");
    if (agent->status.state == STATE_PROVISIONED)
        agent_arm_timer(agent, 0);
    else if (agent->operation != 0)
        agent_start_soon(agent);
    else
        agent_resume(agent);
}

void task_drop(struct agent *agent, const struct failure *failure) {
    if (agent->task.id != 0)
        task_failed(agent, failure, true);
}

void task_cancel(struct agent *agent) {
    struct failure failure;
    failure_set(&failure, FAILURE_INTERNAL, STEP_WORKER, "canceled on request");
    task_failed(agent, &failure, true);
    if (agent->job == NULL && !agent->resuming)
        go_on(agent);
}

static void take_request(struct agent *agent, int file) {
    struct failure failure;
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    int r = memfd_read(file, &text, &size);
    if (r == 0 && !text_is_utf8(text, size))
        r = -EILSEQ;
    if (r < 0) {
        failure_set(&failure, FAILURE_INTERNAL, STEP_REQUEST, "the worker's request cannot be read: %s", strerror(-r));
        task_failed(agent, &failure, false);
        return;
    }
    free(agent->request_pem);
    agent->request_pem = TAKE_POINTER(text);
    log_message(LOG_NOTICE, "a certificate signing request is ready");
    task_end(agent, "done", "");
}

/* With a certificate that has just come there is nothing to wait for: not after a crash either, once its receipt is
 * told. */
static void take_import(struct agent *agent, const char *certificate_id) {
    if (agent_has_identity(agent)) { /* the receipt of the one in use, or its successor */
        task_end(agent, "done", certificate_id);
        if (strcmp(certificate_id, agent->status.identity.certificate_id) != 0) {
            agent->next_boottime_usec = 0;
            provisioned_look(agent, 0);
        }
        return;
    }
    attempts_forget(&agent->attempts);
    methods_forget(&agent->methods);
    log_message(LOG_NOTICE, "certificate %s was imported", certificate_id);
    task_end(agent, "done", certificate_id);
}

static void on_task_ended(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    if (!agent_take_worker(agent))
        return;
    if (!outcome->done)
        task_failed(agent, &outcome->failure, outcome->canceled);
    else if (agent->task.verb == VERB_IMPORT)
        take_import(agent, outcome->identity.certificate_id);
    else {
        status_set_text(agent->status.identity.serial_number, sizeof agent->status.identity.serial_number,
                        outcome->identity.serial_number);
        take_request(agent, outcome->files[FILE_REQUEST]);
    }
    go_on(agent);
}

/* What the worker is to have beside what came with the task: the identity in use, for a successor to it, or only to say
 * that this very certificate is in use, if that receipt was lost. */
static int open_files(struct agent *agent, int files[FILE_ROLE_COUNT], struct failure *failure) {
    struct store *store = agent->environment.store;
    int current[FILE_ROLE_COUNT] = NO_FILES;
    if (store_open_kept(store, STORE_STAGED, &files[FILE_STAGED], failure) < 0)
        return -1;
    if (!agent_has_identity(agent))
        return 0;
    if (store_open_current(store, current, failure) < 0)
        return -1;
    files[FILE_IDENTITY] = take_fd(&current[FILE_IDENTITY]);
    if (agent->task.verb == VERB_REQUEST && agent->settings.reuse_key)
        files[FILE_PRIVATE_KEY] = take_fd(&current[FILE_PRIVATE_KEY]);
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        cleanup_close(&current[role]);
    return 0;
}

void task_run(struct agent *agent) {
    struct task *task = &agent->task;
    struct job_request request = {
        .verb = task->verb, .subject = task->subject, .deadline_usec = JOB_TASK_DEADLINE_USEC};
    int files[FILE_ROLE_COUNT] = NO_FILES;
    struct failure failure;
    task->running = true;
    memcpy(files, task->files, sizeof files);
    memcpy(task->files, (const int[FILE_ROLE_COUNT])NO_FILES, sizeof task->files);
    int r = open_files(agent, files, &failure);
    if (r == 0)
        r = agent_start_worker(agent, &request, files, on_task_ended, &failure);
    else
        for (int role = 0; role < FILE_ROLE_COUNT; role++)
            cleanup_close(&files[role]);
    if (r == 0)
        return;
    task_failed(agent, &failure, false);
    go_on(agent);
}

static enum agent_answer ask(struct agent *agent, enum job_verb verb, uint32_t *ret_id, struct failure *failure) {
    if (agent->stopping || agent->task.id != 0)
        return ANSWER_BUSY;
    if (agent->configuration == NULL && agent_load_configuration(agent, failure) < 0)
        return ANSWER_INVALID_CONFIGURATION;
    agent->task.id = *ret_id = agent_next_id(agent);
    agent->task.verb = verb;
    retire_make_way(agent);
    if (agent->job == NULL && !agent->resuming)
        agent_arm_timer(agent, 0);
    return ANSWER_YES;
}

enum agent_answer agent_request(struct agent *agent, const char *subject, uint32_t *ret_id, struct failure *failure) {
    char *copy = subject[0] != '\0' ? strdup(subject) : NULL;
    enum agent_answer answer =
        subject[0] != '\0' && copy == NULL ? ANSWER_BUSY : ask(agent, VERB_REQUEST, ret_id, failure);
    if (answer == ANSWER_YES)
        agent->task.subject = TAKE_POINTER(copy);
    free(copy);
    return answer;
}

const char *agent_request_pem(const struct agent *agent) {
    return agent->request_pem;
}

enum agent_answer agent_certificate(const struct agent *agent, char **ret_pem, struct failure *failure) {
    int files[FILE_ROLE_COUNT] = NO_FILES;
    AUTO_FREE char *pem = NULL;
    size_t size = 0;
    if (!agent_has_identity(agent))
        return ANSWER_NO_IDENTITY;
    if (store_open_current(agent->environment.store, files, failure) < 0)
        return ANSWER_FAILED;
    int r = memfd_read(files[FILE_CERTIFICATE], &pem, &size);
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        cleanup_close(&files[role]);
    if (r == 0 && !text_is_utf8(pem, size))
        r = -EILSEQ;
    if (r < 0) {
        failure_record(failure, FAILURE_INTERNAL, STEP_CERTIFICATE, "the certificate cannot be read: %s", strerror(-r));
        return ANSWER_FAILED;
    }
    *ret_pem = TAKE_POINTER(pem);
    return ANSWER_YES;
}

enum agent_answer agent_import(struct agent *agent, int certificate, int private_key, uint32_t *ret_id,
                               struct failure *failure) {
    enum agent_answer answer = ask(agent, VERB_IMPORT, ret_id, failure);
    if (answer == ANSWER_YES) {
        agent->task.files[FILE_CERTIFICATE] = certificate;
        agent->task.files[FILE_PRIVATE_KEY] = private_key;
        return answer;
    }
    cleanup_close(&certificate);
    cleanup_close(&private_key);
    return answer;
}

/* --- the list of methods --- */

static void on_listed(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    struct failure failure = outcome->failure;
    agent->listing = job_free(agent->listing);
    int r = outcome->done ? memfd_read(outcome->files[FILE_PLUGINS], &text, &size) : 0;
    if (r < 0)
        failure_set(&failure, FAILURE_INTERNAL, STEP_WORKER, "the list cannot be read: %s", strerror(-r));
    agent->listed(text, size, &failure, agent->listed_data);
}

static void on_list_progress(const char *step, const struct failure *refusal, const char *note, void *data) {
    (void)step, (void)refusal, (void)note, (void)data;
}

enum agent_answer agent_list_plugins(struct agent *agent, agent_listed *listed, void *data, struct failure *failure) {
    struct job_request request = {
        .verb = VERB_PLUGINS, .deadline_usec = JOB_LIST_DEADLINE_USEC, .grace_usec = JOB_GRACE_USEC};
    struct job_handler handler = {.progress = on_list_progress, .ended = on_listed, .data = agent};
    int files[FILE_ROLE_COUNT] = NO_FILES;
    if (agent->listing != NULL || agent->stopping)
        return ANSWER_BUSY;
    agent->listed = listed;
    agent->listed_data = data;
    int r = job_start(agent->environment.event, &agent->environment.launch, &request, files, &handler, &agent->listing,
                      failure);
    return r < 0 ? ANSWER_FAILED : ANSWER_YES;
}

void task_end_listing(struct agent *agent) {
    struct failure failure;
    if (agent->listing == NULL)
        return;
    agent->listing = job_free(agent->listing);
    failure_set(&failure, FAILURE_INTERNAL, STEP_WORKER, "enrolld is stopping");
    agent->listed(NULL, 0, &failure, agent->listed_data);
}
