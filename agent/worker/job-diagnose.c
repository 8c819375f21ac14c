#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"
#include "worker/diagnosis.h"
#include "worker/jobs.h"
#include "worker/lockdown.h"
#include "worker/report.h"

#include <stdio.h>
#include <string.h>

/* JOB_DIAGNOSE_DEADLINE_USEC is above the sum of all seconds, with as many methods as there can be. */
static const char no_tpm[] =
    "the TPM hangs, or another program holds it: switch the device off and on; is its firmware the newest?";
static const char no_network[] =
    "does the network lose what it is given? A firewall may swallow it, or the link is bad";
static const struct diagnosis_task tpm = {"tpm", diagnose_tpm, 20, no_tpm};
static const struct diagnosis_task serial_number = {"serial-number", diagnose_serial_number, 20, no_tpm};
static const struct diagnosis_task root_ca = {"root-ca", diagnose_root_ca, 5, "is the disk with RootCA= in order?"};
/* resolv.conf(5): as long as the resolver itself would wait for two silent servers, and a little more. */
static const struct diagnosis_task dns = {"dns", diagnose_dns, 25, DIAGNOSIS_NO_NAME_SERVER};
static const struct diagnosis_task tcp = {"tcp", diagnose_tcp, 10, no_network};
static const struct diagnosis_task tls = {"tls", diagnose_tls, 20, no_network};
#define METHOD_S 8
#define METHOD_ADVICE "are the files that its section names on a disk that answers?"

static void run_after(struct diagnosis *diagnosis, const char *before, const struct diagnosis_task *task,
                      const struct diagnosis_subject *subject) {
    if (diagnosis_is_wrong(diagnosis, before))
        diagnosis_add(diagnosis, task->what, DIAGNOSIS_SKIPPED, "", "not tried, as %s is wrong", before);
    else
        diagnosis_run(diagnosis, task, subject);
}

static void diagnose_device(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    diagnosis_run(diagnosis, &tpm, subject);
    diagnosis_run(diagnosis, &serial_number, subject);
    diagnosis_run(diagnosis, &root_ca, subject);
    diagnosis_run(diagnosis, &dns, subject);
    run_after(diagnosis, dns.what, &tcp, subject);
    bool is_reached = !diagnosis_is_wrong(diagnosis, dns.what);
    run_after(diagnosis, is_reached ? tcp.what : dns.what, &tls, subject);
}

/* One word after the other of METHODS=. */
static void diagnose_methods(struct diagnosis *diagnosis, struct diagnosis_subject *subject, const char *methods) {
    char method[SETTINGS_METHOD_MAX], row[DIAGNOSIS_WHAT_MAX];
    const struct diagnosis_task task = {row, diagnose_method, METHOD_S, METHOD_ADVICE};
    for (const char *at = methods; *at != '\0'; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        snprintf(method, sizeof method, "%.*s", (int)length, at);
        at += length;
        if (method[0] == '\0')
            continue;
        subject->method = method;
        diagnosis_method_row(method, row);
        diagnosis_run(diagnosis, &task, subject);
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
    struct diagnosis_subject subject = {.configuration = configuration, .settings = &settings};
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
