#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/settings.h"
#include "common/step.h"
#include "worker/certificate.h"
#include "worker/clock.h"
#include "worker/deadline.h"
#include "worker/identity.h"
#include "worker/jobs.h"
#include "worker/key.h"
#include "worker/lockdown.h"
#include "worker/report.h"
#include "worker/tpm-endorsement.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* A discrete TPM may take long to load a key while it tests itself. */
#define KEY_TIMEOUT_S 60

struct check {
    char *certificate_pem, *private_pem, *root_ca_pem, *identity_json;
    size_t certificate_size, private_size, root_ca_size, identity_size;
    struct certificate certificate;
    struct identity identity;
    struct key *key;
};

static void check_clear(struct check *check) {
    if (check->private_pem != NULL)
        explicit_bzero(check->private_pem, check->private_size);
    free(check->certificate_pem);
    free(check->private_pem);
    free(check->root_ca_pem);
    free(check->identity_json);
    identity_clear(&check->identity);
    check->key = key_free(check->key);
}

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

static int read_files(const struct message *job, struct check *check, struct failure *failure) {
    if (job_read_file(job, FILE_CERTIFICATE, &check->certificate_pem, &check->certificate_size, failure) < 0 ||
        job_read_file(job, FILE_PRIVATE_KEY, &check->private_pem, &check->private_size, failure) < 0 ||
        job_read_file(job, FILE_ROOT_CA, &check->root_ca_pem, &check->root_ca_size, failure) < 0)
        return -1;
    return job_read_file(job, FILE_IDENTITY, &check->identity_json, &check->identity_size, failure);
}

/* What the files say, without the TPM: if that is broken, no later time will mend it. */
static int check_documents(struct check *check, struct failure *failure) {
    if (certificate_parse(check->certificate_pem, check->certificate_size, STEP_VERIFY, &check->certificate, failure) <
        0)
        return -1;
    if (certificate_count(check->certificate_pem, check->certificate_size, STEP_VERIFY, failure) < 0 ||
        certificate_count(check->root_ca_pem, check->root_ca_size, STEP_VERIFY, failure) < 0)
        return -1;
    if (identity_parse(check->identity_json, check->identity_size, &check->identity, failure) < 0)
        return -1;
    if (strcmp(check->identity.certificate_id, check->certificate.id) != 0)
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY,
                           "identity.json speaks of another certificate than certificate.pem");
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

static int check_key(struct check *check, const struct settings *settings, const char **lost, struct failure *failure) {
    const struct key_settings key_settings = {.tcti = settings->tcti};
    size_t size = 0;
    bool unknown = false;
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_VERIFY, "loading the device key");
    int r = key_load(&key_settings, check->private_pem, check->private_size, &check->key, &unknown, failure);
    deadline_stop();
    if (r < 0 && unknown)
        *lost = failure->class == FAILURE_TPM ? judge_loss(&check->identity, settings, failure) : JOB_LOST_YES;
    if (r < 0)
        return -1;
    const uint8_t *public_key = key_public_der(check->key, &size);
    if (!certificate_has_key(&check->certificate, public_key, size)) {
        *lost = JOB_LOST_YES;
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "the certificate does not belong to the key");
    }
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_VERIFY, "a test signature of the device key");
    r = key_test(check->key, failure);
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

static int fill_facts(const struct check *check, struct message *result, struct failure *failure) {
    const struct identity *identity = &check->identity;
    const char *algorithm = key_algorithm_name(key_get_algorithm(check->key));
    int r = message_add(result, JOB_KEY_METHOD, identity->method);
    r = r < 0 ? r : message_add(result, JOB_KEY_THING_NAME, identity->thing_name);
    r = r < 0 ? r : message_add(result, JOB_KEY_SERIAL_NUMBER, identity->serial_number);
    r = r < 0 ? r : message_add(result, JOB_KEY_CERTIFICATE_ID, check->certificate.id);
    r = r < 0 ? r : message_add(result, JOB_KEY_KEY_BACKEND, key_backend_name(key_get_backend(check->key)));
    r = r < 0 ? r : message_add(result, JOB_KEY_KEY_ALGORITHM, algorithm);
    r = r < 0 ? r : message_add(result, JOB_KEY_KEY_ORIGIN, identity->key_origin);
    r = r < 0 ? r : message_add_number(result, JOB_KEY_NOT_BEFORE, (uint64_t)check->certificate.not_before);
    r = r < 0 ? r : message_add_number(result, JOB_KEY_NOT_AFTER, (uint64_t)check->certificate.not_after);
    r = r < 0 ? r : message_add(result, JOB_KEY_ENDPOINT, identity->endpoint);
    return r == 0 ? 0 : failure_set(failure, FAILURE_INTERNAL, STEP_VERIFY, "the result is too large");
}

int job_check(struct message *job, struct message *result, const char **lost, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    struct settings settings;
    struct check check = {0};
    *lost = NULL;
    if (job_read_configuration(job, &configuration, &settings, failure) < 0)
        return -1;
    /* A simulated TPM may be reached by TCP: then the rest of the lock-down must do. */
    bool network = strstr(settings.tcti, "host=") != NULL || strstr(settings.tcti, "port=") != NULL;
    if (lockdown_finish(network, failure) < 0)
        return -1;
    report_step(STEP_VERIFY);
    int r = read_files(job, &check, failure);
    if (r == 0) {
        r = check_documents(&check, failure);
        *lost = r < 0 ? JOB_LOST_YES : NULL;
    }
    if (r == 0)
        r = check_key(&check, &settings, lost, failure);
    if (r == 0)
        r = check_dates(job, &check.certificate, lost, failure);
    if (r == 0)
        r = fill_facts(&check, result, failure);
    check_clear(&check);
    return r;
}
