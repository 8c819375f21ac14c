#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"
#include "worker/clock.h"
#include "worker/diagnosis.h"
#include "worker/jobs.h"
#include "worker/lockdown.h"
#include "worker/report.h"

#include <stdio.h>
#include <string.h>

/* Seconds for each; JOB_DIAGNOSE_DEADLINE_USEC is above their sum. */
#define QUICK_S 5
#define DNS_S 6
#define TCP_S 10
#define TLS_S 20
#define TPM_S 20
#define METHOD_S 8

static void run_after(struct diagnosis *diagnosis, const char *before, const char *what, unsigned seconds,
                      diagnosis_probe *probe, const struct diagnosis_subject *subject) {
    if (diagnosis_is_wrong(diagnosis, before))
        diagnosis_add(diagnosis, what, DIAGNOSIS_SKIPPED, "", "not tried, as %s is wrong", before);
    else
        diagnosis_run(diagnosis, what, seconds, probe, subject);
}

static void diagnose_device(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    diagnosis_run(diagnosis, "clock", QUICK_S, diagnose_clock, subject);
    diagnosis_run(diagnosis, "tpm", TPM_S, diagnose_tpm, subject);
    diagnosis_run(diagnosis, "serial-number", TPM_S, diagnose_serial_number, subject);
    diagnosis_run(diagnosis, "root-ca", QUICK_S, diagnose_root_ca, subject);
    diagnosis_run(diagnosis, "dns", DNS_S, diagnose_dns, subject);
    run_after(diagnosis, "dns", "tcp", TCP_S, diagnose_tcp, subject);
    bool is_reached = !diagnosis_is_wrong(diagnosis, "dns");
    run_after(diagnosis, is_reached ? "tcp" : "dns", "tls", TLS_S, diagnose_tls, subject);
}

/* One word after the other of METHODS=. */
static void diagnose_methods(struct diagnosis *diagnosis, struct diagnosis_subject *subject, const char *methods) {
    char method[SETTINGS_METHOD_MAX], row[DIAGNOSIS_WHAT_MAX];
    for (const char *at = methods; *at != '\0'; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        snprintf(method, sizeof method, "%.*s", (int)length, at);
        at += length;
        if (method[0] == '\0')
            continue;
        subject->method = method;
        diagnosis_method_row(method, row);
        diagnosis_run(diagnosis, row, METHOD_S, diagnose_method, subject);
    }
}

static void print(const char *data, size_t size) {
    struct diagnosis_row row;
    size_t at = 0;
    while (diagnosis_next(data, size, &at, &row) > 0)
        printf("%-8s %s: %s%s%s\n", row.verdict, row.what, row.text, row.advice[0] != '\0' ? " -> " : "", row.advice);
}

static int hand_over(const struct diagnosis *diagnosis, struct message *result, struct failure *failure) {
    size_t size = 0;
    AUTO_FREE char *data = diagnosis_encode(diagnosis, &size);
    if (data == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "out of memory");
    if (!report_has_channel()) {
        print(data, size);
        return 0;
    }
    int fd = memfd_create_sealed(file_role_name(FILE_DIAGNOSIS), data, size);
    int r = fd < 0 ? fd : message_attach(result, FILE_DIAGNOSIS, fd);
    return r < 0 ? failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "the diagnosis cannot be handed over: %s",
                               strerror(-r))
                 : 0;
}

static void cleanup_diagnosis(struct diagnosis **diagnosis) {
    diagnosis_free(*diagnosis);
}

/* By hand: all of it. */
static void join_methods(const struct settings *settings, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < settings->method_count && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s ", settings->methods[i]);
}

int job_diagnose(struct message *job, struct message *result, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    CLEANUP(cleanup_diagnosis) struct diagnosis *diagnosis = diagnosis_new();
    AUTO_FREE char *staged = NULL;
    struct settings settings;
    char all[SETTINGS_METHODS_MAX * SETTINGS_METHOD_MAX + 1];
    uint64_t generation = 0;
    const char *methods = message_get(job, JOB_KEY_METHODS), *scope = message_get(job, JOB_KEY_DEVICE);
    if (diagnosis == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "out of memory");
    if (job_read_configuration(job, &configuration, &settings, failure) < 0 || lockdown_finish(true, failure) < 0)
        return -1;
    struct diagnosis_subject subject = {
        .configuration = configuration, .settings = &settings, .synchronised = clock_is_synchronised(job)};
    if (job->files[FILE_STAGED] >= 0 && job_read_file(job, FILE_STAGED, &staged, &subject.staged_size, failure) < 0)
        return -1;
    subject.staged = staged;
    subject.provisioned = message_get_number(job, JOB_KEY_GENERATION, &generation) == 0 && generation > 0;
    join_methods(&settings, all, sizeof all);
    if (scope == NULL || strcmp(scope, "yes") == 0)
        diagnose_device(diagnosis, &subject);
    diagnose_methods(diagnosis, &subject, methods != NULL ? methods : all);
    if (staged != NULL)
        explicit_bzero(staged, subject.staged_size);
    return hand_over(diagnosis, result, failure);
}
