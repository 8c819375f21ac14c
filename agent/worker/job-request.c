#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"
#include "worker/deadline.h"
#include "worker/job-staged.h"
#include "worker/jobs.h"
#include "worker/key-backend.h"
#include "worker/report.h"
#include "worker/serial.h"
#include "worker/tss2-pem.h"

#include <stdio.h>
#include <string.h>

/* Why the staged key is not one that [Key] would make; NULL if it is. */
static const char *judge_kind(const struct key *key, const struct key_settings *wanted) {
    if (key_get_backend(key) != wanted->backend)
        return "Backend=";
    return key_get_algorithm(key) != wanted->algorithm ? "Algorithm=" : NULL;
}

/* The staged key, if it is still of use: else *ret stays NULL, and a note says why. */
static int find_key(const struct staged *staged, const struct settings *settings, struct key **ret,
                    struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    const struct key_settings wanted = key_settings_from(settings);
    bool lost = false, in_tpm = tss2_pem_is(staged->private_pem, strlen(staged->private_pem));
    /* Where a TPM is no longer meant to be used it may not be there either. */
    if (in_tpm && wanted.backend == KEY_BACKEND_FILE && staged->certificate_pem == NULL) {
        staged_note(STEP_KEY, "another key is made: the last one is in the TPM, but Backend=file in [Key]");
        return 0;
    }
    int r = staged_load_key(staged, settings, &key, &lost, failure);
    if (r < 0 && lost) {
        staged_note(STEP_KEY, "the key of the last request is lost, another is made%s: %.500s",
                    staged->certificate_pem != NULL ? ", and the imported certificate is of no use any more" : "",
                    failure->message);
        return 0;
    }
    if (r < 0)
        return -1;
    const char *differs = judge_kind(key, &wanted);
    if (differs != NULL && staged->certificate_pem != NULL)
        return failure_set(
            failure, FAILURE_INVALID, STEP_KEY,
            "the key of the last request (%s in %s) has its certificate already, but [Key] %s asks for another kind: "
            "set that back, or remove the file staged from the state directory to give both up",
            key_algorithm_name(key_get_algorithm(key)), key_backend_name(key_get_backend(key)), differs);
    if (differs != NULL) {
        staged_note(STEP_KEY, "another key is made: the last one is %s in %s, which is not what %s in [Key] says",
                    key_algorithm_name(key_get_algorithm(key)), key_backend_name(key_get_backend(key)), differs);
        return 0;
    }
    *ret = TAKE_POINTER(key);
    return 0;
}

static int make_key(struct staged *staged, const struct settings *settings, struct key **ret, struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    const struct key_settings wanted = key_settings_from(settings);
    deadline_start(STAGED_KEY_TIMEOUT_S, FAILURE_TPM, STEP_KEY, "making the device key");
    int r = key_create(&wanted, &key, failure);
    deadline_stop();
    if (r < 0 || staged_take_key(staged, key, failure) < 0)
        return -1;
    *ret = TAKE_POINTER(key);
    return 0;
}

static int make_request(struct staged *staged, struct key *key, const struct subject *subject,
                        struct failure *failure) {
    char *pem = NULL;
    report_step(STEP_REQUEST);
    deadline_start(STAGED_KEY_TIMEOUT_S, FAILURE_TPM, STEP_REQUEST, "signing the certificate signing request");
    int r = key_make_request(key, subject, &pem, failure);
    deadline_stop();
    if (r < 0)
        return -1;
    free(staged->request_pem);
    free(staged->subject);
    staged->request_pem = pem;
    staged->subject = strdup(subject->text);
    if (staged->subject == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_REQUEST, "out of memory");
    return staged_store(staged, failure);
}

/* From what is staged to a request that is, with the key that it is for. The same subject and key give the same text
 * again: what somebody is signing just now stays right. */
static int get_request(struct staged *staged, const struct settings *settings, const struct subject *subject,
                       struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    report_step(STEP_KEY);
    if (staged->private_pem != NULL && find_key(staged, settings, &key, failure) < 0)
        return -1;
    bool is_there = staged->request_pem != NULL && staged->subject != NULL;
    if (key != NULL && is_there && strcmp(staged->subject, subject->text) == 0)
        return 0;
    if (key == NULL && make_key(staged, settings, &key, failure) < 0)
        return -1;
    return make_request(staged, key, subject, failure);
}

static int attach_request(const struct staged *staged, struct message *result, struct failure *failure) {
    int fd = memfd_create_sealed(file_role_name(FILE_REQUEST), staged->request_pem, strlen(staged->request_pem));
    int r = fd < 0 ? fd : message_attach(result, FILE_REQUEST, fd);
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_REQUEST, "the request cannot be handed over: %s",
                           strerror(-r));
    return 0;
}

/* With ReuseKey=yes the request for a successor is for the key that is in use. */
static int reuse_key(const struct message *job, const struct identity *identity, struct staged *staged,
                     struct failure *failure) {
    size_t size = 0;
    if (job->files[FILE_PRIVATE_KEY] < 0 || staged->private_pem != NULL)
        return 0;
    snprintf(staged->key_origin, sizeof staged->key_origin, "%s", identity->key_origin);
    return job_read_file(job, FILE_PRIVATE_KEY, &staged->private_pem, &size, failure);
}

/* A successor is for the device that the identity in use was made for, whatever SerialNumber= says by now. */
static int name_device(const struct settings *settings, const struct identity *identity, char serial_number[SERIAL_MAX],
                       struct failure *failure) {
    struct tpm_endorsement endorsement = {0};
    if (identity == NULL)
        return serial_resolve(settings, &endorsement, serial_number, failure);
    if (strlen(identity->serial_number) >= SERIAL_MAX)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "the serial number of the identity in use is too long");
    memcpy(serial_number, identity->serial_number, strlen(identity->serial_number) + 1);
    return 0;
}

static int request(const struct message *job, const struct settings *settings, const struct identity *identity,
                   struct staged *staged, struct message *result, struct failure *failure) {
    char serial_number[SERIAL_MAX];
    const struct specifier_values values = {.serial_number = serial_number};
    const char *text = message_get(job, JOB_KEY_SUBJECT);
    struct subject subject;
    report_step(STEP_CONFIGURATION);
    if (staged_check_methods(settings, identity, failure) < 0 ||
        name_device(settings, identity, serial_number, failure) < 0 ||
        subject_parse(text != NULL ? text : settings->subject, &values, &subject, failure) < 0 ||
        staged_check_names(settings, &subject, failure) < 0)
        return -1;
    if (message_add(result, JOB_KEY_SERIAL_NUMBER, serial_number) < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_REQUEST, "out of room");
    if (staged_read(job, staged, failure) < 0)
        return -1;
    if (identity != NULL && settings->reuse_key && reuse_key(job, identity, staged, failure) < 0)
        return -1;
    return get_request(staged, settings, &subject, failure) < 0 ? -1 : attach_request(staged, result, failure);
}

int job_request(struct message *job, struct message *result, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    CLEANUP(identity_clear) struct identity identity = {0};
    CLEANUP(staged_clear) struct staged staged = {.private_pem = NULL};
    struct settings settings;
    bool is_provisioned = false;
    if (job_read_configuration(job, &configuration, &settings, failure) < 0 ||
        staged_lock_down(&settings, failure) < 0 || staged_read_identity(job, &identity, &is_provisioned, failure) < 0)
        return -1;
    return request(job, &settings, is_provisioned ? &identity : NULL, &staged, result, failure);
}
