#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/settings.h"
#include "common/step.h"
#include "worker/certificate.h"
#include "worker/clock.h"
#include "worker/current.h"
#include "worker/deadline.h"
#include "worker/job-staged.h"
#include "worker/jobs.h"
#include "worker/renewal.h"
#include "worker/report.h"
#include "worker/tpm-endorsement.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A discrete TPM may take long to sign while it tests itself. */
#define SIGN_TIMEOUT_S 60

int job_read_file(const struct message *job, enum file_role role, char **ret_text, size_t *ret_size,
                  struct failure *failure) {
    char *text = NULL;
    size_t size = 0;
    if (job->files[role] < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "the job came without its file %s",
                           file_role_name(role));
    int r = memfd_read(job->files[role], &text, &size);
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_VERIFY, "the file %s cannot be read: %s",
                           file_role_name(role), strerror(-r));
    *ret_text = text;
    *ret_size = size;
    return 0;
}

int job_read_configuration(const struct message *job, struct configuration **ret_configuration,
                           struct settings *ret_settings, struct failure *failure) {
    AUTO_FREE char *text = NULL;
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    size_t size = 0;
    if (job_read_file(job, FILE_CONFIGURATION, &text, &size, failure) < 0)
        return -1;
    int r = configuration_deserialize(text, size, &configuration);
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "the job's configuration is unreadable: %s",
                           strerror(-r));
    if (settings_read(configuration, ret_settings, failure) < 0)
        return -1;
    *ret_configuration = TAKE_POINTER(configuration);
    return 0;
}

/* A TPM has judged that it does not know the key: the same one after it was cleared, or another one. Says in *failure
 * which, if the endorsement keys tell; a TPM that cannot just now loses nothing. */
static const char *judge_loss(const struct identity *identity, const struct settings *settings,
                              struct failure *failure) {
    struct tpm_endorsement endorsement = {0};
    struct failure reason;
    bool refused = false;
    if (identity->ek_name[0] == '\0')
        return JOB_LOST_YES;
    if (tpm_endorsement_read(settings->tcti, &endorsement, &refused, &reason) < 0) {
        if (!refused) {
            *failure = reason;
            return NULL;
        }
        /* TPM2_Clear would have emptied the authorization: this one was not just cleared. */
        (void)failure_set(
            failure, FAILURE_TPM, STEP_VERIFY,
            "the key of this identity does not load, and this TPM does not tell whether it is another one "
            "(its endorsement hierarchy has a password): for a new identity set OnWrongTPM=enroll in [Key]");
        return JOB_LOST_ELSEWHERE;
    }
    if (strcmp(endorsement.name, identity->ek_name) == 0) {
        failure_append(failure, "; its endorsement key is that of the TPM of this identity: it was cleared");
        return JOB_LOST_YES;
    }
    (void)failure_set(
        failure, FAILURE_TPM, STEP_VERIFY,
        "the key of this identity is in another TPM, by the endorsement key: this disk was moved or cloned. "
        "Put it back, or for a new identity set OnWrongTPM=enroll in [Key] or delete the state directory");
    return JOB_LOST_ELSEWHERE;
}

static int check_key(struct current *current, const struct settings *settings, const char **lost,
                     struct failure *failure) {
    bool is_lost = false;
    if (current_load_key(current, settings, &is_lost, failure) < 0) {
        if (is_lost)
            *lost = failure->class == FAILURE_TPM ? judge_loss(&current->identity, settings, failure) : JOB_LOST_YES;
        return -1;
    }
    deadline_start(SIGN_TIMEOUT_S, FAILURE_TPM, STEP_VERIFY, "a test signature of the device key");
    int r = key_test(current->key, failure);
    deadline_stop();
    return r;
}

/* A clock that nobody has set yet never declares an identity expired. */
static int check_dates(const struct message *job, const struct certificate *certificate, const char **lost,
                       struct failure *failure) {
    char date[CLOCK_TEXT_SIZE];
    int64_t now = (int64_t)time(NULL);
    if (!clock_is_synchronised(job))
        return 0;
    if (now > certificate->not_after) {
        *lost = JOB_LOST_YES;
        clock_print(certificate->not_after, date);
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "the certificate expired on %s", date);
    }
    clock_print(certificate->not_before, date);
    if (now < certificate->not_before)
        return failure_set(failure, FAILURE_CLOCK, STEP_VERIFY, "the certificate is not valid before %s", date);
    return 0;
}

/* Which identity this was, for a loss of it: by the certificate itself where that can be read. */
static void tell_identity(const struct current *current, struct report_verdict *verdict) {
    const char *id = current->certificate.id[0] != '\0' ? current->certificate.id : current->identity.certificate_id;
    if (certificate_is_id(id))
        memcpy(verdict->certificate_id, id, CERTIFICATE_ID_SIZE);
    snprintf(verdict->method, sizeof verdict->method, "%s", current->identity.method);
}

/* --- what else is to be known of it --- */

/* The authorities of RootCA= now. A path that leads nowhere loses nothing: those of the identity stay in use. */
struct root_ca {
    char *pem;
    size_t size;
    int error; /* a negative errno */
};

static void cleanup_root_ca(struct root_ca *root_ca) {
    free(root_ca->pem);
}

static void read_root_ca(const char *path, struct root_ca *ret) {
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    ret->error = fd < 0 ? -errno : memfd_read(fd, &ret->pem, &ret->size);
}

static int attach_root_ca(const struct current *current, const char *path, const struct root_ca *root_ca,
                          struct message *result, struct failure *failure) {
    struct failure reason;
    if (root_ca->pem == NULL) {
        staged_note(STEP_VERIFY, "RootCA=%.300s cannot be read, the authorities of the identity stay in use: %s", path,
                    strerror(-root_ca->error));
        return 0;
    }
    if (root_ca->size == current->root_ca_size && memcmp(root_ca->pem, current->root_ca_pem, root_ca->size) == 0)
        return 0;
    if (certificate_count(root_ca->pem, root_ca->size, STEP_VERIFY, &reason) < 0) {
        staged_note(STEP_VERIFY, "RootCA=%.300s is not used, the authorities of the identity stay in use: %.300s", path,
                    reason.message);
        return 0;
    }
    int fd = memfd_create_sealed(file_role_name(FILE_ROOT_CA), root_ca->pem, root_ca->size);
    int r = fd < 0 ? fd : message_attach(result, FILE_ROOT_CA, fd);
    return r < 0 ? failure_set(failure, FAILURE_INTERNAL, STEP_VERIFY, "the file %s cannot be handed over: %s",
                               file_role_name(FILE_ROOT_CA), strerror(-r))
                 : 0;
}

static int fill_facts(const struct current *current, struct message *result, struct failure *failure) {
    const struct identity *identity = &current->identity;
    const char *algorithm = key_algorithm_name(key_get_algorithm(current->key));
    int r = message_add(result, JOB_KEY_METHOD, identity->method);
    r = r < 0 ? r : message_add(result, JOB_KEY_THING_NAME, identity->thing_name);
    r = r < 0 ? r : message_add(result, JOB_KEY_SERIAL_NUMBER, identity->serial_number);
    r = r < 0 ? r : message_add(result, JOB_KEY_CERTIFICATE_ID, current->certificate.id);
    r = r < 0 ? r : message_add(result, JOB_KEY_KEY_BACKEND, key_backend_name(key_get_backend(current->key)));
    r = r < 0 ? r : message_add(result, JOB_KEY_KEY_ALGORITHM, algorithm);
    r = r < 0 ? r : message_add(result, JOB_KEY_KEY_ORIGIN, identity->key_origin);
    r = r < 0 ? r : message_add_number(result, JOB_KEY_NOT_BEFORE, (uint64_t)current->certificate.not_before);
    r = r < 0 ? r : message_add_number(result, JOB_KEY_NOT_AFTER, (uint64_t)current->certificate.not_after);
    r = r < 0 ? r : message_add(result, JOB_KEY_ENDPOINT, identity->endpoint);
    r = r < 0 ? r : message_add_number(result, JOB_KEY_ISSUED_AT, (uint64_t)identity->issued_at);
    return r == 0 ? 0 : failure_set(failure, FAILURE_INTERNAL, STEP_VERIFY, "the result is too large");
}

static int fill_renewal(const struct message *job, const struct configuration *configuration,
                        const struct settings *settings, const struct current *current, struct message *result,
                        struct failure *failure) {
    const char *method = renewal_method(settings, &current->identity);
    char hindrance[FAILURE_MESSAGE_MAX];
    bool imported = renewal_judge(job, configuration, settings, current, hindrance);
    int r = message_add(result, JOB_KEY_RENEW_METHOD, method);
    r = r < 0 ? r : message_add(result, JOB_KEY_HINDRANCE, hindrance);
    r = r < 0 ? r : message_add(result, JOB_KEY_IMPORTED, imported ? "yes" : "no");
    return r == 0 ? 0 : failure_set(failure, FAILURE_INTERNAL, STEP_VERIFY, "the result is too large");
}

static int check(const struct message *job, const struct settings *settings, struct current *current,
                 struct report_verdict *verdict, struct failure *failure) {
    if (current_read(job, current, failure) < 0)
        return -1;
    int r = current_judge(current, failure);
    verdict->lost = r < 0 ? JOB_LOST_YES : NULL;
    if (r == 0)
        r = check_key(current, settings, &verdict->lost, failure);
    if (r == 0)
        r = check_dates(job, &current->certificate, &verdict->lost, failure);
    if (r < 0)
        tell_identity(current, verdict);
    return r;
}

int job_check(struct message *job, struct message *result, struct report_verdict *verdict, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    CLEANUP(cleanup_root_ca) struct root_ca root_ca = {.pem = NULL};
    CLEANUP(current_clear) struct current current = {.key = NULL};
    struct settings settings;
    *verdict = (struct report_verdict){.lost = NULL};
    if (job_read_configuration(job, &configuration, &settings, failure) < 0)
        return -1;
    read_root_ca(settings.root_ca, &root_ca);
    if (staged_lock_down(&settings, failure) < 0)
        return -1;
    report_step(STEP_VERIFY);
    if (check(job, &settings, &current, verdict, failure) < 0 || fill_facts(&current, result, failure) < 0 ||
        fill_renewal(job, configuration, &settings, &current, result, failure) < 0)
        return -1;
    return attach_root_ca(&current, settings.root_ca, &root_ca, result, failure);
}
