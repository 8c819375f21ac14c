/* A diagnosis, beside all attempts: one worker looks at the device and at the methods that need no credentials, another
 * one, in the sandbox that has them, at the others; the daemon adds what only it knows. */
#include "daemon/agent-private.h"

#include "common/cleanup.h"
#include "common/diagnosis.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"
#include "common/text.h"
#include "daemon/clock.h"
#include "daemon/handover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A generation takes four blocks and a directory, and is written beside those that are there. */
#define SPACE_MIN ((uint64_t)1024 * 1024)
#define INODES_MIN 64
#define SOON_S (30 * 86400)

/* --- rows --- */

static void append(struct diagnosing *diagnosing, const char *data, size_t size) {
    char *rows = realloc(diagnosing->new_rows, diagnosing->new_size + size);
    if (rows == NULL)
        return;
    memcpy(rows + diagnosing->new_size, data, size);
    diagnosing->new_rows = rows;
    diagnosing->new_size += size;
}

__attribute__((format(printf, 5, 6))) static void add(struct diagnosing *diagnosing, const char *what,
                                                      enum diagnosis_verdict verdict, const char *advice,
                                                      const char *format, ...) {
    char text[DIAGNOSIS_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    text_make_printable(text);
    append(diagnosing, what, strlen(what) + 1);
    append(diagnosing, diagnosis_verdict_name(verdict), strlen(diagnosis_verdict_name(verdict)) + 1);
    append(diagnosing, text, strlen(text) + 1);
    append(diagnosing, advice, strlen(advice) + 1);
}

/* Those of a worker: up to the first that is none. */
static int append_rows(struct diagnosing *diagnosing, const char *data, size_t size) {
    struct diagnosis_row row;
    size_t at = 0, count = 0;
    int r;
    while ((r = diagnosis_next(data, size, &at, &row)) > 0)
        if (++count > DIAGNOSIS_ROWS_MAX)
            return -E2BIG;
    append(diagnosing, data, at);
    return r;
}

/* --- what the daemon knows --- */

/* That it ends soon is as it should be where its renewal is only not due yet. */
static void add_end(struct agent *agent) {
    static const char advice[] =
        "is the clock right? Why it is not renewed says the row renewal, and `enrollctl renew`";
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left_s = (int64_t)(agent->status.identity.not_after_usec / 1000000) - now.tv_sec;
    if (left_s < 0)
        add(&agent->diagnosing, "certificate", DIAGNOSIS_WRONG, advice, "it has expired");
    else if (left_s < SOON_S && (agent->status.renew_after_usec == 0 || agent->status.error.class[0] != '\0'))
        add(&agent->diagnosing, "certificate", DIAGNOSIS_WARNING, advice, "it expires in %" PRId64 " days",
            left_s / 86400);
}

static void add_identity(struct agent *agent) {
    const struct status *status = &agent->status;
    struct diagnosing *diagnosing = &agent->diagnosing;
    bool in_use = status->state == STATE_PROVISIONED || status->state == STATE_RENEWING;
    if (in_use)
        add_end(agent);
    if (in_use)
        add(diagnosing, "identity", DIAGNOSIS_OK, "", "generation %" PRIu32 ", thing %s, certificate %.16s...",
            status->generation, status->identity.thing_name, status->identity.certificate_id);
    else if (status->state == STATE_WAITING_CLOCK)
        add(diagnosing, "identity", DIAGNOSIS_WARNING, "see the row clock", "none yet: %s",
            status_state_name(status->state));
    else if (status->error.class[0] != '\0')
        add(diagnosing, "identity", DIAGNOSIS_WRONG, "the other rows may say why; `enrollctl enroll` tries again now",
            "%s, attempt %" PRIu32 ": %s: %s: %s", status_state_name(status->state), status->attempt,
            status->error.class, status->error.step, status->error.message);
    else
        add(diagnosing, "identity", DIAGNOSIS_WARNING, "`enrollctl monitor` shows what it does", "none yet: %s",
            status_state_name(status->state));
}

static void add_medium(struct agent *agent, uint64_t free_kib) {
    static const char what[] = "store";
    struct diagnosing *diagnosing = &agent->diagnosing;
    switch (agent->environment.volatile_state) {
    case VOLATILE_YES:
        add(diagnosing, what, agent->settings.volatile_state ? DIAGNOSIS_WARNING : DIAGNOSIS_WRONG,
            "put /var/lib/enrolld on a disk: in memory no device can keep its identity, see VolatileState= in "
            "enrolld.conf(5)",
            agent->settings.volatile_state
                ? "the state directory is in memory: each boot makes another certificate"
                : "the state directory is in memory: nothing enrolls, as each boot would make another certificate");
        return;
    case VOLATILE_UNKNOWN:
        add(diagnosing, what, DIAGNOSIS_WARNING, "is the overlay written to a disk? See findmnt /var/lib/enrolld",
            "whether the state directory is on a disk cannot be seen, %" PRIu64 " KiB are free", free_kib);
        return;
    case VOLATILE_NO:
        break;
    }
    add(diagnosing, what, DIAGNOSIS_OK, "", "the state directory is on a disk, %" PRIu64 " KiB are free", free_kib);
}

static void add_store(struct agent *agent) {
    static const char what[] = "store";
    struct diagnosing *diagnosing = &agent->diagnosing;
    struct store_space space;
    int r = store_space(agent->environment.store, &space);
    if (r < 0)
        add(diagnosing, what, DIAGNOSIS_WRONG, "is the disk in order?", "the state directory cannot be looked at: %s",
            strerror(-r));
    else if (space.bytes < SPACE_MIN || (space.counts_inodes && space.inodes < INODES_MIN))
        add(diagnosing, what, DIAGNOSIS_WRONG, "make room below /var/lib/enrolld",
            "%" PRIu64 " KiB are free for the state directory, and %" PRIu64 " inodes", space.bytes / 1024,
            space.inodes);
    else
        add_medium(agent, space.bytes / 1024);
}

static void add_clock(struct agent *agent) {
    static const char what[] = "clock";
    const struct clock_reading reading =
        clock_read(agent->environment.clock_directory, store_newest_certificate(agent->environment.store));
    struct failure why;
    switch (clock_judge(&reading)) {
    case CLOCK_SYNCHRONISED:
        add(&agent->diagnosing, what, DIAGNOSIS_OK, "", "synchronised");
        return;
    case CLOCK_PLAUSIBLE:
        add(&agent->diagnosing, what, DIAGNOSIS_WARNING,
            "is NTP running, and does it reach its servers (timedatectl, chronyc tracking)? With chrony: rtcsync",
            "it may be right, but nobody is known to have set it");
        return;
    case CLOCK_IMPLAUSIBLE:
        clock_explain(&reading, &why);
        add(&agent->diagnosing, what, DIAGNOSIS_WRONG, "set it: timedatectl set-time, or a time service", "%s",
            why.message);
        return;
    }
}

/* --- workers --- */

static int start_worker(struct agent *agent, bool with_credentials, struct failure *failure);

static void end(struct agent *agent, const char *result, const char *detail) {
    struct diagnosing *diagnosing = &agent->diagnosing;
    uint32_t id = diagnosing->id;
    free(diagnosing->rows);
    diagnosing->rows = TAKE_POINTER(diagnosing->new_rows);
    diagnosing->size = diagnosing->new_size;
    diagnosing->new_size = 0;
    diagnosing->id = 0;
    diagnosing->begin = sd_event_source_disable_unref(diagnosing->begin);
    bus_job_removed(agent->bus, id, JOB_DIAGNOSE, result, detail);
}

static void add_worker_failure(struct diagnosing *diagnosing, const struct failure *failure) {
    add(diagnosing, diagnosing->with_credentials ? "credentials" : "worker", DIAGNOSIS_WRONG,
        diagnosing->with_credentials
            ? "can the credentials of enrolld-claim@.service be opened on this machine? docs/credentials.md"
            : "`journalctl -u 'enrolld-worker@*'` may say more",
        "%s", failure->message);
}

/* The next worker, or the end: a worker that failed costs its own rows alone. */
static void go_on(struct agent *agent) {
    struct failure failure;
    if (!agent->diagnosing.with_credentials) {
        int r = start_worker(agent, true, &failure);
        if (r > 0)
            return;
        if (r < 0)
            add_worker_failure(&agent->diagnosing, &failure);
    }
    end(agent, "done", "");
}

static void on_ended(const struct job_outcome *outcome, void *data) {
    struct agent *agent = data;
    struct diagnosing *diagnosing = &agent->diagnosing;
    AUTO_FREE char *rows = NULL;
    struct failure failure = outcome->failure;
    size_t size = 0;
    char detail[DETAIL_MAX];
    diagnosing->job = job_free(diagnosing->job);
    int r = outcome->done ? memfd_read(outcome->files[FILE_DIAGNOSIS], &rows, &size) : 0;
    if (r == 0 && outcome->done)
        r = append_rows(diagnosing, rows, size);
    if (r < 0)
        failure_record(&failure, FAILURE_INTERNAL, STEP_WORKER, "the worker's rows cannot be read: %s", strerror(-r));
    if (outcome->canceled) {
        agent_describe(&failure, detail);
        end(agent, "canceled", detail);
        return;
    }
    if (r < 0 || !outcome->done)
        add_worker_failure(diagnosing, &failure);
    go_on(agent);
}

static void on_progress(const char *step, const struct failure *refusal, const char *note, void *data) {
    (void)step, (void)refusal, (void)note, (void)data;
}

/* The methods whose sections name credentials, or the others. */
static void join_methods(const struct agent *agent, bool with_credentials, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < agent->settings.method_count; i++) {
        const char *method = agent->settings.methods[i];
        if (attempt_needs_credentials(agent, method) == with_credentials && length < size)
            length += (size_t)snprintf(text + length, size - length, "%s%s", length > 0 ? " " : "", method);
    }
}

/* 1: it runs, 0: there is nothing to do for it. */
static int start_worker(struct agent *agent, bool with_credentials, struct failure *failure) {
    struct diagnosing *diagnosing = &agent->diagnosing;
    struct job_handler handler = {.progress = on_progress, .ended = on_ended, .data = agent};
    int files[FILE_ROLE_COUNT] = NO_FILES;
    char methods[SETTINGS_METHODS_MAX * SETTINGS_METHOD_MAX];
    diagnosing->with_credentials = with_credentials;
    join_methods(agent, with_credentials, methods, sizeof methods);
    if (with_credentials && methods[0] == '\0')
        return 0;
    struct job_request request = {
        .verb = VERB_DIAGNOSE,
        .generation = agent_has_identity(agent) ? store_current(agent->environment.store) : 0,
        .synchronised = agent_clock_is_synchronised(agent),
        .credentials = with_credentials,
        .methods = methods,
        .device = !with_credentials,
        .deadline_usec = JOB_DIAGNOSE_DEADLINE_USEC,
        .grace_usec = JOB_GRACE_USEC,
    };
    if (handover_configuration(agent->configuration, &files[FILE_CONFIGURATION], failure) < 0)
        return -1;
    if (store_open_kept(agent->environment.store, STORE_STAGED, &files[FILE_STAGED], failure) < 0) {
        cleanup_close(&files[FILE_CONFIGURATION]);
        return -1;
    }
    int r = job_start(agent->environment.event, &agent->environment.launch, &request, files, &handler, &diagnosing->job,
                      failure);
    return r < 0 ? -1 : 1;
}

/* Not before the caller has its answer. */
static int on_begin(sd_event_source *source, void *data) {
    struct agent *agent = data;
    struct failure failure;
    (void)source;
    agent->diagnosing.begin = sd_event_source_disable_unref(agent->diagnosing.begin);
    add_identity(agent);
    add_store(agent);
    add_clock(agent);
    if (start_worker(agent, false, &failure) < 0) {
        add_worker_failure(&agent->diagnosing, &failure);
        go_on(agent);
    }
    return 0;
}

/* --- requests --- */

enum agent_answer agent_diagnose(struct agent *agent, uint32_t *ret_id, struct failure *failure) {
    struct diagnosing *diagnosing = &agent->diagnosing;
    if (agent->stopping || diagnosing->id != 0)
        return ANSWER_BUSY;
    if (agent->configuration == NULL && agent_load_configuration(agent, failure) < 0)
        return ANSWER_INVALID_CONFIGURATION;
    if (sd_event_add_defer(agent->environment.event, &diagnosing->begin, on_begin, agent) < 0)
        return ANSWER_BUSY;
    diagnosing->id = *ret_id = agent_next_id(agent);
    return ANSWER_YES;
}

const char *agent_diagnosis(const struct agent *agent, size_t *ret_size) {
    *ret_size = agent->diagnosing.size;
    return agent->diagnosing.rows;
}

bool diagnosing_cancel(struct agent *agent, uint32_t id) {
    struct diagnosing *diagnosing = &agent->diagnosing;
    if (id == 0 || id != diagnosing->id)
        return false;
    if (diagnosing->job != NULL)
        job_cancel(diagnosing->job);
    else
        end(agent, "canceled", "internal: worker: canceled on request");
    return true;
}

void diagnosing_clear(struct agent *agent) {
    struct diagnosing *diagnosing = &agent->diagnosing;
    job_free(diagnosing->job);
    sd_event_source_disable_unref(diagnosing->begin);
    free(diagnosing->rows);
    free(diagnosing->new_rows);
}
