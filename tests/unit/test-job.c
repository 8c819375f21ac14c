#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"
#include "daemon/job.h"
#include "fake-worker.h"
#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_USEC (20 * 1000000ULL)

/* What one run came to. */
struct run {
    sd_event *event;
    struct job *job;
    bool ended;
    unsigned progress_count;
    char last_step[FAILURE_STEP_MAX];
    const char *cancel_at; /* step at which the job is canceled */
    struct job_outcome outcome;
    char *certificate;
    char root_ca[32];
    char *checkpoint;
    unsigned checkpoint_count;
    bool disk_is_full;
};

static int on_patience(sd_event_source *source, uint64_t usec, void *data) {
    (void)usec;
    (void)data;
    return sd_event_exit(sd_event_source_get_event(source), 1);
}

static int on_cancel(sd_event_source *source, void *data) {
    struct run *run = data;
    (void)source;
    job_cancel(run->job);
    return 0;
}

static void on_progress(const char *step, const struct failure *refusal, const char *note, void *data) {
    struct run *run = data;
    (void)refusal;
    (void)note;
    run->progress_count++;
    snprintf(run->last_step, sizeof run->last_step, "%s", step);
    if (run->cancel_at != NULL && strcmp(step, run->cancel_at) == 0)
        sd_event_add_defer(run->event, NULL, on_cancel, run);
}

static int on_checkpoint(int file, void *data, struct failure *failure) {
    struct run *run = data;
    size_t size;
    free(run->checkpoint);
    run->checkpoint = NULL;
    ASSERT_NUMBER(memfd_read(file, &run->checkpoint, &size), 0);
    run->checkpoint_count++;
    return run->disk_is_full ? failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "the disk is full") : 0;
}

static void on_ended(const struct job_outcome *outcome, void *data) {
    struct run *run = data;
    size_t size;
    CU_ASSERT(!run->ended);
    run->ended = true;
    run->outcome = *outcome;
    if (outcome->files[FILE_CERTIFICATE] >= 0)
        memfd_read(outcome->files[FILE_CERTIFICATE], &run->certificate, &size);
    if (outcome->files[FILE_ROOT_CA] >= 0)
        (void)!pread(outcome->files[FILE_ROOT_CA], run->root_ca, sizeof run->root_ca - 1, 0);
    run->job = job_free(run->job);
    sd_event_exit(run->event, 0);
}

static void no_files(int files[FILE_ROLE_COUNT]) {
    for (int role = 0; role < FILE_ROLE_COUNT; role++)
        files[role] = -1;
}

static int start_job(struct run *run, const struct launch *launch, enum job_verb verb, uint64_t deadline_usec,
                     struct failure *failure) {
    struct job_request request = {.verb = verb,
                                  .generation = 7,
                                  .old = verb == VERB_RETIRE ? "one two" : NULL,
                                  .deadline_usec = deadline_usec,
                                  .grace_usec = 50000};
    struct job_handler handler = {.progress = on_progress, .checkpoint = on_checkpoint, .ended = on_ended, .data = run};
    int files[FILE_ROLE_COUNT];
    no_files(files);
    files[FILE_CONFIGURATION] = memfd_create_sealed("configuration", "", 0);
    return job_start(run->event, launch, &request, files, &handler, &run->job, failure);
}

/* This program is the worker: main() looks at the environment. */
static const struct launch self = {.program = "/proc/self/exe", .sockets = "/nonexistent"};

static void run_loop(struct run *run) {
    sd_event_source *patience = NULL;
    sd_event_add_time_relative(run->event, &patience, CLOCK_MONOTONIC, PATIENCE_USEC, 0, on_patience, NULL);
    int r = sd_event_loop(run->event);
    if (r != 0 || !run->ended)
        ASSERT_TEXT("the job did not end", "ended");
    sd_event_source_disable_unref(patience);
}

static struct run run_prepared(struct run run, enum job_verb verb, const char *behaviour, uint64_t deadline_usec) {
    struct failure failure;
    sd_event_new(&run.event);
    setenv(FAKE_WORKER_VARIABLE, behaviour, 1);
    if (start_job(&run, &self, verb, deadline_usec, &failure) < 0)
        ASSERT_TEXT(failure.message, "started");
    else
        run_loop(&run);
    run.event = sd_event_unref(run.event);
    ASSERT_NUMBER(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
    return run;
}

static struct run run_job(enum job_verb verb, const char *behaviour, uint64_t deadline_usec, const char *cancel_at) {
    return run_prepared((struct run){.cancel_at = cancel_at}, verb, behaviour, deadline_usec);
}

static void expect_failure(enum job_verb verb, const char *behaviour, const char *text) {
    struct run run = run_job(verb, behaviour, PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 0);
    ASSERT_NUMBER(run.outcome.canceled, 0);
    ASSERT_NUMBER(run.outcome.failure.class, FAILURE_INTERNAL);
    ASSERT_TEXT(run.outcome.failure.step, STEP_WORKER);
    if (strstr(run.outcome.failure.message, text) == NULL)
        ASSERT_TEXT(run.outcome.failure.message, text);
    CU_ASSERT_PTR_NULL(run.certificate);
    free(run.certificate);
}

/* --- results --- */

static void test_enroll_done(void) {
    struct run run = run_job(VERB_ENROLL, "enroll=done", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 1);
    ASSERT_NUMBER(run.progress_count, 2);
    ASSERT_TEXT(run.last_step, "claim");
    ASSERT_TEXT(run.certificate, "certificate");
    free(run.certificate);
}

static void test_check_done(void) {
    struct run run = run_job(VERB_CHECK, "check=done", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 1);
    ASSERT_TEXT(run.outcome.identity.method, "fleet-claim");
    ASSERT_TEXT(run.outcome.identity.thing_name, "gateway-1");
    ASSERT_TEXT(run.outcome.identity.certificate_id, fake_certificate_id(7));
    ASSERT_TEXT(run.outcome.identity.key_backend, "tpm2");
    ASSERT_TEXT(run.outcome.identity.key_algorithm, "ecdsa-p256");
    ASSERT_TEXT(run.outcome.identity.key_origin, "tpm");
    ASSERT_NUMBER(run.outcome.identity.not_before_usec, 1700000000000000LL);
    ASSERT_NUMBER(run.outcome.identity.not_after_usec, 2524607999000000LL);
    ASSERT_TEXT(run.outcome.identity.endpoint, "example-ats.iot.eu-west-1.amazonaws.com");
    ASSERT_NUMBER(run.outcome.identity.issued_at_usec, 1700000060000000LL);
    ASSERT_TEXT(run.outcome.identity.renew_method, "fleet-claim");
    ASSERT_TEXT(run.outcome.identity.hindrance, "");
    ASSERT_TEXT(run.root_ca, "");
}

static void test_check_root_ca(void) {
    struct run run = run_job(VERB_CHECK, "check=root-ca", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 1);
    ASSERT_TEXT(run.root_ca, "other authorities");
    expect_failure(VERB_CHECK, "check=empty-root-ca", "is empty");
}

static void test_renew(void) {
    struct run run = run_job(VERB_RENEW, "renew=checkpoint", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 1);
    ASSERT_TEXT(run.certificate, "certificate");
    ASSERT_TEXT(run.checkpoint, "as far as this");
    free(run.certificate);
    free(run.checkpoint);
    run = run_job(VERB_RENEW, "renew=resume", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.resume, 1);
    free(run.checkpoint);
    run = run_job(VERB_RENEW, "renew=unusable", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.failure.unusable, 1);
    expect_failure(VERB_RENEW, "renew=missing", "is missing");
}

static void test_prove(void) {
    struct run run = run_job(VERB_PROVE, "prove=done", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 1);
    run = run_job(VERB_PROVE, "prove=failed-denied", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.refused, 0);
    run = run_job(VERB_PROVE, "prove=refused", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 0);
    ASSERT_NUMBER(run.outcome.refused, 1);
    ASSERT_TEXT(run.outcome.failure.message, "the cloud refuses this identity");
    expect_failure(VERB_PROVE, "prove=checkpoint", "a checkpoint of a job that has none");
    expect_failure(VERB_PROVE, "prove=unusable", "no usable UNUSABLE");
    expect_failure(VERB_PROVE, "prove=missing", "does not belong to it");
    expect_failure(VERB_CHECK, "check=refused", "no usable REFUSED");
    expect_failure(VERB_RENEW, "renew=refused", "no usable REFUSED");
}

static void test_retire(void) {
    char path[] = "/tmp/test-job-XXXXXX", text[256] = "";
    AUTO_CLOSE int file = mkstemp(path);
    setenv(FAKE_RECORD_VARIABLE, path, 1);
    struct run run = run_job(VERB_RETIRE, "retire=done", PATIENCE_USEC, NULL);
    unsetenv(FAKE_RECORD_VARIABLE);
    unlink(path);
    ASSERT_NUMBER(run.outcome.done, 1);
    CU_ASSERT(read(file, text, sizeof text - 1) > 0);
    ASSERT_TEXT(text, "retire one two\n");
    expect_failure(VERB_RETIRE, "retire=resume-bare", "only an enroll or a renew");
    expect_failure(VERB_RETIRE, "retire=missing", "does not belong to it");
}

static void test_failed(void) {
    setenv(FAKE_CLASS_VARIABLE, "cloud-busy", 1);
    struct run run = run_job(VERB_ENROLL, "enroll=failed", PATIENCE_USEC, NULL);
    unsetenv(FAKE_CLASS_VARIABLE);
    ASSERT_NUMBER(run.outcome.done, 0);
    ASSERT_NUMBER(run.outcome.lost, 0);
    ASSERT_NUMBER(run.outcome.failure.class, FAILURE_CLOUD_BUSY);
    ASSERT_TEXT(run.outcome.failure.step, "key");
    ASSERT_TEXT(run.outcome.failure.message, "the fake worker was told to fail");
}

static void test_lost(void) {
    struct run run = run_job(VERB_CHECK, "check=lost", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 0);
    ASSERT_NUMBER(run.outcome.lost, 1);
    ASSERT_NUMBER(run.outcome.elsewhere, 0);
    ASSERT_TEXT(run.outcome.failure.message, "the key is lost");
    ASSERT_TEXT(run.outcome.identity.method, "fleet-claim");
    ASSERT_TEXT(run.outcome.identity.certificate_id, fake_certificate_id(1));
    run = run_job(VERB_CHECK, "check=elsewhere", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.lost, 1);
    ASSERT_NUMBER(run.outcome.elsewhere, 1);
    ASSERT_NUMBER(run.outcome.failure.class, FAILURE_TPM);
    expect_failure(VERB_ENROLL, "enroll=elsewhere", "no usable LOST");
    expect_failure(VERB_ENROLL, "enroll=lost", "no usable LOST");
}

static void test_much_progress(void) {
    struct run run = run_job(VERB_ENROLL, "enroll=busy", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 1);
    ASSERT_NUMBER(run.progress_count, 1000);
    free(run.certificate);
    expect_failure(VERB_ENROLL, "enroll=flood", "more than 1000 progress messages");
}

/* --- lies --- */

static void test_broken_protocol(void) {
    expect_failure(VERB_ENROLL, "enroll=garbage", "not a message");
    expect_failure(VERB_ENROLL, "enroll=huge", "too large");
    expect_failure(VERB_ENROLL, "enroll=twice", "a message after its result");
    expect_failure(VERB_CHECK, "check=twice", "a message after its result");
    expect_failure(VERB_CHECK, "check=late-progress", "a message after its result");
    expect_failure(VERB_CHECK, "check=unknown-class", "CLASS is unknown");
    expect_failure(VERB_CHECK, "check=no-message", "no usable MESSAGE");
}

static void test_wrong_files(void) {
    expect_failure(VERB_ENROLL, "enroll=unsealed", "not sealed");
    expect_failure(VERB_ENROLL, "enroll=large", "at most 64 KiB");
    expect_failure(VERB_ENROLL, "enroll=empty", "is empty");
    expect_failure(VERB_ENROLL, "enroll=missing", "is missing");
    expect_failure(VERB_ENROLL, "enroll=extra", "does not belong to it");
    expect_failure(VERB_CHECK, "check=missing", "has files");
}

static void test_wrong_facts(void) {
    expect_failure(VERB_CHECK, "check=no-facts", "no usable CERTIFICATE_ID");
    expect_failure(VERB_CHECK, "check=far-future", "no usable NOT_AFTER");
    expect_failure(VERB_CHECK, "check=riddle", "no usable HINDRANCE");
}

/* --- ends --- */

static void test_bad_ends(void) {
    expect_failure(VERB_ENROLL, "enroll=none", "without a result");
    expect_failure(VERB_ENROLL, "enroll=crash", "without a result (signal 6");
    expect_failure(VERB_ENROLL, "enroll=exit-1", "badly after its result (exit status 1)");
    expect_failure(VERB_ENROLL, "enroll=linger", "another process holds its channel");
    expect_failure(VERB_ENROLL, "enroll=unheard-of", "(exit status 99)");
}

/* The end of a process that is traced is told before it can be reaped. */
static void test_traced(void) {
    expect_failure(VERB_ENROLL, "enroll=traced", "without a result");
}

static void test_deadline(void) {
    struct run run = run_job(VERB_ENROLL, "enroll=silence", 50000, NULL);
    ASSERT_TEXT(run.outcome.failure.message, "the worker did not end within 0.05 s");
    run = run_job(VERB_ENROLL, "enroll=stubborn", 300000, NULL);
    ASSERT_TEXT(run.outcome.failure.message, "the worker did not end within 0.3 s");
}

static void test_cancel(void) {
    struct run run = run_job(VERB_ENROLL, "enroll=hold", PATIENCE_USEC, "claim");
    ASSERT_NUMBER(run.outcome.done, 0);
    ASSERT_NUMBER(run.outcome.canceled, 1);
    ASSERT_TEXT(run.outcome.failure.message, "canceled on request");
    run = run_job(VERB_ENROLL, "enroll=stubborn", PATIENCE_USEC, "key");
    ASSERT_NUMBER(run.outcome.canceled, 1);
}

/* A job that is freed takes its worker with it. */
static void test_free(void) {
    struct run run = {0};
    struct failure failure;
    sd_event_new(&run.event);
    setenv(FAKE_WORKER_VARIABLE, "enroll=stubborn", 1);
    ASSERT_NUMBER(start_job(&run, &self, VERB_ENROLL, PATIENCE_USEC, &failure), 0);
    run.job = job_free(run.job);
    ASSERT_NUMBER(waitpid(-1, NULL, WNOHANG), -1);
    ASSERT_NUMBER(run.ended, 0);
    sd_event_unref(run.event);
}

/* --- launch --- */

static void test_surroundings(void) {
    setenv("NOTIFY_SOCKET", "/nowhere", 1);
    setenv("WATCHDOG_USEC", "1", 1);
    setenv("LISTEN_FDS", "1", 1);
    setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere", 1);
    setenv("FAKE_KEPT", "yes", 1);
    signal(SIGPIPE, SIG_IGN);
    int forgotten = fcntl(STDOUT_FILENO, F_DUPFD, 100); /* without FD_CLOEXEC, as a library may do it */
    struct run run = run_job(VERB_CHECK, "check=surroundings", PATIENCE_USEC, NULL);
    close(forgotten);
    signal(SIGPIPE, SIG_DFL);
    ASSERT_TEXT(run.outcome.failure.message, "as it should be");
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("LISTEN_FDS");
    unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
}

static void expect_no_start(const struct launch *launch, enum job_verb verb, const char *text) {
    struct run run = {0};
    struct failure failure = {0};
    sd_event_new(&run.event);
    ASSERT_NUMBER(start_job(&run, launch, verb, PATIENCE_USEC, &failure), -1);
    ASSERT_NUMBER(failure.class, FAILURE_INTERNAL);
    ASSERT_TEXT(failure.step, STEP_WORKER);
    if (strstr(failure.message, text) == NULL)
        ASSERT_TEXT(failure.message, text);
    sd_event_unref(run.event);
    ASSERT_NUMBER(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_no_worker(void) {
    expect_no_start(&(struct launch){.program = "/nonexistent/worker"}, VERB_CHECK, "No such file");
    expect_no_start(&(struct launch){.program = "/dev/null"}, VERB_CHECK, "Permission denied");
    expect_no_start(&(struct launch){.sockets = "/nonexistent"}, VERB_CHECK, "enrolld-check.socket");
    expect_no_start(&(struct launch){.sockets = "/nonexistent"}, VERB_ENROLL, "enrolld-worker.socket");
    expect_no_start(&(struct launch){.sockets = "/nonexistent"}, VERB_RENEW, "enrolld-worker.socket");
    expect_no_start(&(struct launch){.sockets = "/nonexistent"}, VERB_PROVE, "enrolld-worker.socket");
    expect_no_start(&(struct launch){.sockets = "/nonexistent"}, VERB_RETIRE, "enrolld-worker.socket");
}

/* What systemd does with Accept=yes, in a child. */
static pid_t serve_socket(const char *path, bool work) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ASSERT_NUMBER(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ASSERT_NUMBER(listen(listener, 1), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int channel = accept(listener, NULL, NULL);
        dup2(channel, CHANNEL_WORKER_FD);
        _exit(work ? fake_worker_run() : 0);
    }
    close(listener);
    return pid;
}

static struct run run_by_socket(const char *behaviour, bool work) {
    struct run run = {0};
    struct failure failure;
    char directory[] = "/tmp/test-job-XXXXXX", path[64];
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/worker", directory);
    setenv(FAKE_WORKER_VARIABLE, behaviour, 1);
    pid_t pid = serve_socket(path, work);
    sd_event_new(&run.event);
    if (start_job(&run, &(struct launch){.sockets = directory}, VERB_ENROLL, PATIENCE_USEC, &failure) == 0)
        run_loop(&run);
    else
        run.outcome.failure = failure;
    ASSERT_NUMBER(waitpid(pid, NULL, 0), pid);
    run.event = sd_event_unref(run.event);
    unlink(path);
    rmdir(directory);
    return run;
}

static void test_socket(void) {
    struct run run = run_by_socket("enroll=done", true);
    ASSERT_NUMBER(run.outcome.done, 1);
    ASSERT_TEXT(run.certificate, "certificate");
    free(run.certificate);
    run = run_by_socket("enroll=failed", true);
    ASSERT_TEXT(run.outcome.failure.message, "the fake worker was told to fail");
    run = run_by_socket("enroll=missing", true);
    CU_ASSERT_PTR_NOT_NULL(strstr(run.outcome.failure.message, "is missing"));
    run = run_by_socket("enroll=twice", true);
    CU_ASSERT_PTR_NOT_NULL(strstr(run.outcome.failure.message, "after its result"));
    run = run_by_socket("enroll=none", true);
    CU_ASSERT_PTR_NOT_NULL(strstr(run.outcome.failure.message, "journalctl -u 'enrolld-worker@*'"));
    run = run_by_socket("", false);
    CU_ASSERT_PTR_NOT_NULL(strstr(run.outcome.failure.message, "journalctl -u 'enrolld-worker@*'"));
}

/* --- checkpoints --- */

static void test_checkpoint(void) {
    struct run run = run_job(VERB_ENROLL, "enroll=checkpoint", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 1);
    ASSERT_NUMBER(run.checkpoint_count, 1);
    ASSERT_TEXT(run.checkpoint, "as far as this");
    free(run.certificate);
    free(run.checkpoint);
}

/* The worker must not go on with what a power cut would take away. */
static void test_checkpoint_not_stored(void) {
    struct run run = run_prepared((struct run){.disk_is_full = true}, VERB_ENROLL, "enroll=checkpoint", PATIENCE_USEC);
    ASSERT_NUMBER(run.outcome.done, 0);
    ASSERT_TEXT(run.outcome.failure.step, STEP_COMMIT);
    CU_ASSERT_PTR_NOT_NULL(strstr(run.outcome.failure.message, "the disk is full"));
    free(run.checkpoint);
}

static void test_wrong_checkpoints(void) {
    expect_failure(VERB_ENROLL, "enroll=checkpoint-empty", "a checkpoint without its one file");
    expect_failure(VERB_ENROLL, "enroll=checkpoint-bare", "a checkpoint without its one file");
    expect_failure(VERB_ENROLL, "enroll=checkpoint-late", "a message after its result");
    expect_failure(VERB_ENROLL, "enroll=continue", "what only the daemon may");
    expect_failure(VERB_ENROLL, "enroll=resume-bare", "resume without a checkpoint");
    expect_failure(VERB_CHECK, "check=checkpoint", "a checkpoint of a job that has none");
    struct run run = run_job(VERB_ENROLL, "enroll=checkpoint-flood", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.checkpoint_count, JOB_CHECKPOINT_MAX);
    CU_ASSERT_PTR_NOT_NULL(strstr(run.outcome.failure.message, "too many checkpoints"));
    free(run.checkpoint);
}

static void test_resume(void) {
    struct run run = run_job(VERB_ENROLL, "enroll=resume", PATIENCE_USEC, NULL);
    ASSERT_NUMBER(run.outcome.done, 0);
    ASSERT_NUMBER(run.outcome.resume, 1);
    CU_ASSERT_PTR_NULL(run.certificate);
    free(run.checkpoint);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"enroll: progress, result, files", test_enroll_done},
        {"check: the facts of the identity", test_check_done},
        {"check: other authorities", test_check_root_ca},
        {"renew: as enroll", test_renew},
        {"prove: refused or not proven", test_prove},
        {"retire: the ids", test_retire},
        {"a failure keeps class, step and message", test_failed},
        {"a lost identity", test_lost},
        {"much progress, and too much", test_much_progress},
        {"a worker that breaks the protocol", test_broken_protocol},
        {"files that must be refused", test_wrong_files},
        {"facts that must be refused", test_wrong_facts},
        {"a worker that ends badly", test_bad_ends},
        {"a worker that is traced while it ends", test_traced},
        {"a worker that does not end", test_deadline},
        {"cancel", test_cancel},
        {"a job that is freed takes its worker along", test_free},
        {"what a forked worker finds", test_surroundings},
        {"a checkpoint", test_checkpoint},
        {"a checkpoint that cannot be stored", test_checkpoint_not_stored},
        {"checkpoints that break the protocol", test_wrong_checkpoints},
        {"a worker that wants another one to go on", test_resume},
        {"no worker to be had", test_no_worker},
        {"a worker behind a socket", test_socket},
        {NULL, NULL},
    };
    return fake_worker_unit_run("job", tests, argc, argv);
}
