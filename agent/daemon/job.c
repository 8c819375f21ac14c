#include "daemon/job.h"

#include "common/cleanup.h"
#include "common/job.h"
#include "common/step.h"
#include "daemon/retry.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

struct job {
    struct job_request request;
    struct job_handler handler;
    const char *socket; /* the name of launch.h; NULL for a forked worker */
    int channel;        /* -1 once it is closed, by either side */
    pid_t pid;          /* 0: none, or reaped */
    bool heard;         /* a message has come */
    bool result_seen;
    bool failed; /* outcome.failure stands, the worker is cut off */
    bool killed; /* by the SIGKILL of on_kill() */
    unsigned progress_count, checkpoint_count;
    struct job_outcome outcome;
    sd_event_source *channel_source, *child_source, *deadline_source, *kill_source;
};

const char *job_verb_name(enum job_verb verb) {
    switch (verb) {
    case VERB_CHECK:
        return JOB_CHECK;
    case VERB_ENROLL:
        return JOB_ENROLL;
    case VERB_RENEW:
        return JOB_RENEW;
    case VERB_PROVE:
        return JOB_PROVE;
    case VERB_RETIRE:
        return JOB_RETIRE;
    case VERB_REQUEST:
        return JOB_REQUEST;
    case VERB_IMPORT:
        return JOB_IMPORT;
    case VERB_PLUGINS:
        return JOB_PLUGINS;
    case VERB_DIAGNOSE:
        return JOB_DIAGNOSE;
    }
    return "";
}

static void close_outcome(struct job_outcome *outcome) {
    for (int role = 0; role < FILE_ROLE_COUNT; role++) {
        cleanup_close(&outcome->files[role]);
        outcome->files[role] = -1;
    }
}

static void close_channel(struct job *job) {
    job->channel_source = sd_event_source_disable_unref(job->channel_source);
    cleanup_close(&job->channel);
    job->channel = -1;
}

struct job *job_free(struct job *job) {
    if (job == NULL)
        return NULL;
    close_channel(job);
    sd_event_source_disable_unref(job->child_source); /* it owns the process: SIGKILL and waitid(2) */
    sd_event_source_disable_unref(job->deadline_source);
    sd_event_source_disable_unref(job->kill_source);
    close_outcome(&job->outcome);
    free(job);
    return NULL;
}

static void job_cleanup(struct job **job) {
    job_free(*job);
}

/* The handler may free the job, so the outcome is taken out of it first. */
static void complete(struct job *job) {
    struct job_outcome outcome = job->outcome;
    struct job_handler handler = job->handler;
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        job->outcome.files[role] = -1;
    job->deadline_source = sd_event_source_disable_unref(job->deadline_source);
    job->kill_source = sd_event_source_disable_unref(job->kill_source);
    outcome.done = outcome.done && !job->failed;
    outcome.resume = outcome.resume && !job->failed;
    if (!outcome.done)
        close_outcome(&outcome);
    handler.ended(&outcome, handler.data);
    close_outcome(&outcome);
}

static int on_kill(sd_event_source *source, uint64_t usec, void *data) {
    struct job *job = data;
    (void)source;
    (void)usec;
    job->killed = kill(job->pid, SIGKILL) == 0;
    return 0;
}

/* The first failure stands. The job completes now, or when the child is reaped. */
static void cut_off(struct job *job) {
    close_channel(job);
    job->failed = true;
    job->deadline_source = sd_event_source_disable_unref(job->deadline_source);
    if (job->pid == 0) {
        complete(job);
        return;
    }
    kill(job->pid, SIGTERM);
    if (sd_event_add_time_relative(sd_event_source_get_event(job->child_source), &job->kill_source, CLOCK_MONOTONIC,
                                   job->request.grace_usec, 0, on_kill, job) < 0)
        kill(job->pid, SIGKILL);
}

__attribute__((format(printf, 2, 3))) static void fail(struct job *job, const char *format, ...) {
    char text[FAILURE_MESSAGE_MAX];
    va_list arguments;
    if (job->failed)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    failure_set(&job->outcome.failure, FAILURE_INTERNAL, STEP_WORKER, "%s", text);
    cut_off(job);
}

/* Both give a new identity. */
static bool enrolls(const struct job *job) {
    return job->request.verb == VERB_ENROLL || job->request.verb == VERB_RENEW;
}

void job_cancel(struct job *job) {
    job->outcome.canceled = !job->failed;
    fail(job, "canceled on request");
}

/* --- messages --- */

static bool has_files(const struct message *message) {
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        if (message->files[role] >= 0)
            return true;
    return false;
}

/* CLASS, STEP and MESSAGE: the worker's own words. NULL or what is wrong with them. */
static const char *read_failure(const struct message *message, struct failure *ret) {
    const char *name = message_get(message, JOB_KEY_CLASS), *step = message_get(message, JOB_KEY_STEP),
               *text = message_get(message, JOB_KEY_MESSAGE);
    int class = name != NULL ? failure_class_from_name(name) : -EINVAL;
    if (class < 0)
        return "its CLASS is unknown";
    if (step == NULL || *step == '\0' || strlen(step) >= FAILURE_STEP_MAX)
        return "it has no usable STEP";
    if (text == NULL || *text == '\0' || strlen(text) >= FAILURE_MESSAGE_MAX)
        return "it has no usable MESSAGE";
    failure_record(ret, (enum failure_class) class, step, "%s", text);
    return NULL;
}

/* Each of the functions below may end the job, and its owner free it: a failure is always their last act. */
static void take_progress(struct job *job, const struct message *message) {
    const char *step = message_get(message, JOB_KEY_STEP), *told = message_get(message, JOB_KEY_OLD);
    bool refused = message_get(message, JOB_KEY_MESSAGE) != NULL;
    struct failure refusal;
    const char *wrong = refused ? read_failure(message, &refusal) : NULL;
    if (step == NULL || *step == '\0' || strlen(step) >= FAILURE_STEP_MAX || has_files(message))
        fail(job, "the worker broke the protocol: progress without a usable STEP");
    else if (wrong != NULL)
        fail(job, "the worker broke the protocol: in its progress %s", wrong);
    else if (told != NULL && job->request.verb != VERB_RETIRE)
        fail(job, "the worker broke the protocol: only a retire may tell OLD");
    else if (++job->progress_count > JOB_PROGRESS_MAX)
        fail(job, "the worker broke the protocol: more than %d progress messages", JOB_PROGRESS_MAX);
    else if (told != NULL)
        job->handler.told(told, job->handler.data);
    else
        job->handler.progress(step, refused ? &refusal : NULL, message_get(message, JOB_KEY_NOTE), job->handler.data);
}

static const char *judge_checkpoint(struct job *job, const struct message *message, int file) {
    struct stat status;
    enum job_verb verb = job->request.verb;
    if (!enrolls(job) && verb != VERB_REQUEST && verb != VERB_IMPORT)
        return "a checkpoint of a job that has none";
    if (file < 0 || has_files(message) || fstat(file, &status) < 0 || status.st_size == 0)
        return "a checkpoint without its one file";
    return ++job->checkpoint_count > JOB_CHECKPOINT_MAX ? "too many checkpoints" : NULL;
}

/* The worker goes on when it hears that its checkpoint is durable. */
static void take_checkpoint(struct job *job, struct message *message) {
    AUTO_CLOSE int file = message_take_file(message, enrolls(job) ? FILE_CHECKPOINT : FILE_STAGED);
    struct message answer;
    struct failure failure;
    const char *wrong = judge_checkpoint(job, message, file);
    if (wrong != NULL) {
        fail(job, "the worker broke the protocol: %s", wrong);
        return;
    }
    if (job->handler.checkpoint(file, job->handler.data, &failure) < 0) {
        job->outcome.failure = failure;
        cut_off(job);
        return;
    }
    message_init(&answer, MESSAGE_CONTINUE);
    int r = channel_send(job->channel, &answer);
    if (r < 0 && r != -EPIPE && r != -ECONNRESET) /* one that has ended is seen as that */
        fail(job, "cannot answer the worker: %s", strerror(-r));
}

/* "yes", of the verbs that may say so; or not there. */
static bool read_truth(const struct message *message, const char *key, bool allowed, bool *ret) {
    const char *value = message_get(message, key);
    *ret = value != NULL;
    return value == NULL || (allowed && strcmp(value, "yes") == 0);
}

/* RESULT=failed. NULL or what is wrong with it. */
static const char *take_failure(struct job *job, const struct message *message) {
    const char *lost = message_get(message, JOB_KEY_LOST);
    struct failure failure = {0};
    struct identity known = {0};
    uint64_t retry_after = 0;
    bool unusable, refused;
    const char *wrong = read_failure(message, &failure);
    if (wrong != NULL)
        return wrong;
    bool elsewhere = lost != NULL && strcmp(lost, JOB_LOST_ELSEWHERE) == 0;
    if (lost != NULL && ((strcmp(lost, JOB_LOST_YES) != 0 && !elsewhere) || job->request.verb != VERB_CHECK))
        return "it has no usable LOST";
    if (!read_truth(message, JOB_KEY_UNUSABLE, enrolls(job), &unusable))
        return "it has no usable UNUSABLE";
    if (!read_truth(message, JOB_KEY_REFUSED, job->request.verb == VERB_PROVE, &refused))
        return "it has no usable REFUSED";
    if (job->request.verb == VERB_CHECK && identity_from_failure(message, &known) < 0)
        return "it has no usable METHOD or CERTIFICATE_ID";
    int r = message_get_number(message, JOB_KEY_RETRY_AFTER, &retry_after);
    if (r < 0 && r != -ENOENT)
        return "it has no usable RETRY_AFTER";
    if (has_files(message))
        return "it has failed and yet it has files";
    job->outcome.failure = failure;
    job->outcome.failure.retry_after_s = (uint32_t)(retry_after < RETRY_AFTER_MAX_S ? retry_after : RETRY_AFTER_MAX_S);
    job->outcome.failure.unusable = unusable;
    job->outcome.identity = known;
    job->outcome.refused = refused;
    job->outcome.lost = lost != NULL;
    job->outcome.elsewhere = elsewhere;
    return NULL;
}

/* RESULT=done with exactly the files of its verb. */
static const char *take_files(struct job *job, struct message *message, const enum file_role *roles, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct stat status;
        int fd = job->outcome.files[roles[i]] = message_take_file(message, roles[i]);
        if (fd < 0)
            return "a file of its result is missing";
        if (fstat(fd, &status) < 0 || status.st_size == 0)
            return "a file of its result is empty";
    }
    return has_files(message) ? "it has a file that does not belong to it" : NULL;
}

/* RESULT=done of an import: the certificate's id. */
static const char *take_receipt(struct job *job, const struct message *message) {
    const char *id = message_get(message, JOB_KEY_CERTIFICATE_ID);
    if (id == NULL || strlen(id) != 64 || strspn(id, "0123456789abcdef") != 64)
        return "it has no usable CERTIFICATE_ID";
    memcpy(job->outcome.identity.certificate_id, id, 65);
    return has_files(message) ? "the result of an import has files" : NULL;
}

static const char *take_facts(struct job *job, struct message *message, struct failure *failure) {
    struct stat status;
    int file = job->outcome.files[FILE_ROOT_CA] = message_take_file(message, FILE_ROOT_CA);
    if (has_files(message))
        return "the result of a check has files";
    if (file >= 0 && (fstat(file, &status) < 0 || status.st_size == 0))
        return "a file of its result is empty";
    return identity_from_result(message, &job->outcome.identity, failure) < 0 ? failure->message : NULL;
}

static const char *take_done(struct job *job, struct message *message, struct failure *failure) {
    static const enum file_role identity[] = {FILE_CERTIFICATE, FILE_PRIVATE_KEY, FILE_ROOT_CA, FILE_IDENTITY};
    static const enum file_role request[] = {FILE_REQUEST}, plugins[] = {FILE_PLUGINS}, diagnosis[] = {FILE_DIAGNOSIS};
    job->outcome.done = true;
    switch (job->request.verb) {
    case VERB_CHECK:
        return take_facts(job, message, failure);
    case VERB_ENROLL:
    case VERB_RENEW:
        return take_files(job, message, identity, sizeof identity / sizeof *identity);
    case VERB_REQUEST:
        if (identity_serial_number(message, job->outcome.identity.serial_number, failure) < 0)
            return failure->message;
        return take_files(job, message, request, 1);
    case VERB_IMPORT:
        return take_receipt(job, message);
    case VERB_PROVE:
    case VERB_RETIRE:
        return take_files(job, message, NULL, 0);
    case VERB_PLUGINS:
        return take_files(job, message, plugins, 1);
    case VERB_DIAGNOSE:
        return take_files(job, message, diagnosis, 1);
    }
    return "its verb is unknown";
}

/* RESULT=resume: worth something only with a checkpoint to go on from. */
static const char *take_resume(struct job *job, const struct message *message) {
    job->outcome.resume = true;
    if (!enrolls(job))
        return "only an enroll or a renew may ask to resume";
    return job->checkpoint_count == 0 || has_files(message) ? "it asks to resume without a checkpoint" : NULL;
}

/* NULL or what is wrong with it. */
static const char *judge_result(struct job *job, struct message *message, struct failure *failure) {
    const char *result = message_get(message, JOB_KEY_RESULT);
    if (result != NULL && strcmp(result, "failed") == 0)
        return take_failure(job, message);
    if (result != NULL && strcmp(result, "resume") == 0)
        return take_resume(job, message);
    if (result == NULL || strcmp(result, "done") != 0)
        return "its RESULT is none of done, failed, resume";
    return take_done(job, message, failure);
}

static void take_result(struct job *job, struct message *message) {
    struct failure failure;
    job->result_seen = true;
    const char *wrong = judge_result(job, message, &failure);
    if (wrong != NULL)
        fail(job, "the worker broke the protocol: %s", wrong);
}

static void take_message(struct job *job, struct message *message) {
    job->heard = true;
    if (job->result_seen) {
        fail(job, "the worker broke the protocol: a message after its result");
        return;
    }
    switch (message->type) {
    case MESSAGE_PROGRESS:
        take_progress(job, message);
        return;
    case MESSAGE_CHECKPOINT:
        take_checkpoint(job, message);
        return;
    case MESSAGE_RESULT:
        take_result(job, message);
        return;
    case MESSAGE_JOB:
    case MESSAGE_CONTINUE:
        fail(job, "the worker broke the protocol: it sent what only the daemon may");
        return;
    }
}

/* A forked worker tells more by its exit status, which follows. */
static void take_end(struct job *job) {
    if (!job->result_seen && job->socket != NULL)
        fail(job,
             job->heard ? "the worker ended without a result: see journalctl -u 'enrolld-%s@*'"
                        : "the worker ended before its first word, its unit may be unable to start or still be busy: "
                          "see journalctl -u 'enrolld-%s@*'",
             job->socket);
    else if (!job->result_seen)
        fail(job, "the worker closed its channel without a result");
    else if (job->pid == 0)
        complete(job);
    else
        close_channel(job);
}

static int on_channel(sd_event_source *source, int fd, uint32_t events, void *data) {
    struct job *job = data;
    struct message message;
    const char *reason = NULL;
    (void)source;
    (void)events;
    int r = channel_receive(fd, 1, &message, &reason);
    if (r == -EAGAIN)
        return 0;
    if (r == 0)
        take_end(job);
    else if (r == -EBADMSG)
        fail(job, "the worker broke the protocol: it sent something that is not a message: %s", reason);
    else if (r < 0)
        fail(job, "cannot read from the worker: %s", strerror(-r));
    if (r == 1) {
        take_message(job, &message);
        message_clear(&message);
    }
    return 0;
}

/* --- the child, the deadline --- */

static void describe_end(const siginfo_t *info, char *text, size_t size) {
    if (info->si_code == CLD_EXITED)
        snprintf(text, size, "exit status %d", info->si_status);
    else
        snprintf(text, size, "signal %d, %s", info->si_status, strsignal(info->si_status));
}

/* The channel has the higher priority, so all that the worker said has been read. */
static int on_child(sd_event_source *source, const siginfo_t *info, void *data) {
    struct job *job = data;
    char text[128];
    bool clean = info->si_code == CLD_EXITED && info->si_status == 0;
    bool ours = info->si_code == CLD_KILLED && (info->si_status == SIGTERM || job->killed);
    sd_event_source_set_enabled(source, SD_EVENT_OFF);
    job->pid = 0;
    describe_end(info, text, sizeof text);
    if (job->failed) {
        struct failure *failure = &job->outcome.failure;
        size_t length = strlen(failure->message);
        if (!clean && !ours && !job->outcome.canceled)
            snprintf(failure->message + length, sizeof failure->message - length, " (%s)", text);
        complete(job);
    } else if (job->channel >= 0)
        fail(job, "the worker ended (%s), but another process holds its channel", text);
    else if ((job->outcome.done || job->outcome.resume) && !clean)
        fail(job, "the worker ended badly after its result (%s)", text);
    else
        complete(job);
    return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *data) {
    struct job *job = data;
    (void)source;
    (void)usec;
    fail(job, "the worker did not end within %.3g s", (double)job->request.deadline_usec / 1e6);
    return 0;
}

/* --- start --- */

/* The message owns the files from here on. */
static int send_job(const struct job *job, int files[FILE_ROLE_COUNT], struct failure *failure) {
    struct message message;
    int r = 0;
    message_init(&message, MESSAGE_JOB);
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        if (files[role] >= 0)
            message_attach(&message, (enum file_role)role, take_fd(&files[role]));
    r = message_add(&message, JOB_KEY_VERB, job_verb_name(job->request.verb));
    if (r == 0)
        r = message_add_number(&message, JOB_KEY_GENERATION, job->request.generation);
    if (r == 0)
        r = message_add(&message, JOB_KEY_SYNCHRONISED, job->request.synchronised ? "yes" : "no");
    if (r == 0 && job->request.method != NULL)
        r = message_add(&message, JOB_KEY_METHOD, job->request.method);
    if (r == 0 && enrolls(job))
        r = message_add_number(&message, JOB_KEY_WAITED, job->request.waited_s);
    if (r == 0 && job->request.old != NULL)
        r = message_add(&message, JOB_KEY_OLD, job->request.old);
    if (r == 0 && job->request.methods != NULL)
        r = message_add(&message, JOB_KEY_METHODS, job->request.methods);
    if (r == 0 && job->request.verb == VERB_DIAGNOSE)
        r = message_add(&message, JOB_KEY_DEVICE, job->request.device ? "yes" : "no");
    if (r == 0 && job->request.subject != NULL)
        r = message_add(&message, JOB_KEY_SUBJECT, job->request.subject);
    if (r == 0)
        r = channel_send(job->channel, &message);
    message_clear(&message);
    if ((r == -EPIPE || r == -ECONNRESET) && job->socket != NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER,
                           "the worker hung up before it had its job: see journalctl -u 'enrolld-%s@*'", job->socket);
    if (r < 0 && r != -EPIPE && r != -ECONNRESET) /* of a forked one its end follows */
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "cannot send the worker its job: %s", strerror(-r));
    return 0;
}

/* One-shot, the default, would lose the end of a child that is traced (by a debugger, by a sanitizer's leak detector):
 * its pidfd becomes readable before it can be waited for. Off first, because sd-event changes nothing in epoll(7) for
 * a source that is on already. */
static int watch_child(sd_event *event, struct job *job) {
    int r = sd_event_add_child(event, &job->child_source, job->pid, WEXITED, on_child, job);
    if (r >= 0)
        r = sd_event_source_set_child_process_own(job->child_source, 1);
    if (r >= 0)
        r = sd_event_source_set_enabled(job->child_source, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_source_set_enabled(job->child_source, SD_EVENT_ON);
    return r;
}

static int watch(sd_event *event, struct job *job) {
    int r = 0;
    if (job->pid > 0) {
        r = watch_child(event, job);
        if (r < 0 && job->child_source == NULL) { /* nobody else would */
            kill(job->pid, SIGKILL);
            waitpid(job->pid, NULL, 0);
        }
    }
    if (r >= 0)
        r = sd_event_add_io(event, &job->channel_source, job->channel, EPOLLIN, on_channel, job);
    if (r >= 0)
        r = sd_event_source_set_priority(job->channel_source, SD_EVENT_PRIORITY_NORMAL - 10);
    if (r >= 0)
        r = sd_event_add_time_relative(event, &job->deadline_source, CLOCK_MONOTONIC, job->request.deadline_usec, 0,
                                       on_deadline, job);
    return r;
}

/* Each with a sandbox of its own: only what speaks to the cloud has a network, and only an enrolment that needs them
 * has credentials. A diagnosis is made where enrolments would be. */
static const char *socket_name(const struct job_request *request) {
    switch (request->verb) {
    case VERB_ENROLL:
    case VERB_DIAGNOSE:
        return request->credentials ? LAUNCH_CLAIM : LAUNCH_WORKER;
    case VERB_RENEW:
    case VERB_PROVE:
    case VERB_RETIRE:
        return LAUNCH_WORKER;
    case VERB_CHECK:
    case VERB_REQUEST:
    case VERB_IMPORT:
    case VERB_PLUGINS:
        break;
    }
    return LAUNCH_CHECK;
}

static int start(sd_event *event, const struct launch *launch, struct job *job, int files[FILE_ROLE_COUNT],
                 struct failure *failure) {
    const char *name = socket_name(&job->request);
    if (launch_worker(launch, name, &job->channel, &job->pid, failure) < 0)
        return -1;
    job->socket = job->pid == 0 ? name : NULL;
    int r = watch(event, job);
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "cannot watch the worker: %s", strerror(-r));
    return send_job(job, files, failure);
}

int job_start(sd_event *event, const struct launch *launch, const struct job_request *request,
              int files[FILE_ROLE_COUNT], const struct job_handler *handler, struct job **ret,
              struct failure *failure) {
    CLEANUP(job_cleanup) struct job *job = calloc(1, sizeof *job);
    int r = -1;
    if (job == NULL)
        failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "out of memory");
    else {
        job->request = *request;
        job->handler = *handler;
        job->channel = -1;
        for (int role = 0; role < FILE_ROLE_COUNT; role++)
            job->outcome.files[role] = -1;
        r = start(event, launch, job, files, failure);
    }
    for (int role = 0; role < FILE_ROLE_COUNT; role++) {
        cleanup_close(&files[role]);
        files[role] = -1;
    }
    if (r == 0)
        *ret = TAKE_POINTER(job);
    return r;
}
