#include "worker/current.h"

#include "common/step.h"
#include "worker/deadline.h"
#include "worker/jobs.h"

#include <poll.h>
#include <string.h>
#include <time.h>

/* A discrete TPM may take long to load a key while it tests itself. */
#define LOAD_TIMEOUT_S 60

void current_clear(struct current *current) {
    if (current->private_pem != NULL)
        explicit_bzero(current->private_pem, current->private_size);
    free(current->certificate_pem);
    free(current->private_pem);
    free(current->root_ca_pem);
    free(current->identity_json);
    identity_clear(&current->identity);
    current->key = key_free(current->key);
}

int current_read(const struct message *job, struct current *current, struct failure *failure) {
    if (job_read_file(job, FILE_CERTIFICATE, &current->certificate_pem, &current->certificate_size, failure) < 0 ||
        job_read_file(job, FILE_PRIVATE_KEY, &current->private_pem, &current->private_size, failure) < 0 ||
        job_read_file(job, FILE_ROOT_CA, &current->root_ca_pem, &current->root_ca_size, failure) < 0)
        return -1;
    return job_read_file(job, FILE_IDENTITY, &current->identity_json, &current->identity_size, failure);
}

static int judge_certificates(struct current *current, struct failure *failure) {
    const char *pem = current->certificate_pem;
    if (certificate_parse(pem, current->certificate_size, STEP_VERIFY, &current->certificate, failure) < 0 ||
        certificate_count(pem, current->certificate_size, STEP_VERIFY, failure) < 0)
        return -1;
    return certificate_count(current->root_ca_pem, current->root_ca_size, STEP_VERIFY, failure) < 0 ? -1 : 0;
}

int current_judge(struct current *current, struct failure *failure) {
    struct failure ignored;
    int r = judge_certificates(current, failure);
    /* Also where the certificates are broken: it may tell which identity this was. */
    if (identity_parse(current->identity_json, current->identity_size, &current->identity, r < 0 ? &ignored : failure) <
            0 ||
        r < 0)
        return -1;
    if (strcmp(current->identity.certificate_id, current->certificate.id) != 0)
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY,
                           "identity.json speaks of another certificate than certificate.pem");
    return 0;
}

int current_load_key(struct current *current, const struct settings *settings, bool *ret_lost,
                     struct failure *failure) {
    const struct key_settings key_settings = {.tcti = settings->tcti};
    size_t size = 0;
    *ret_lost = false;
    deadline_start(LOAD_TIMEOUT_S, FAILURE_TPM, STEP_VERIFY, "loading the device key");
    int r = key_load(&key_settings, current->private_pem, current->private_size, &current->key, ret_lost, failure);
    deadline_stop();
    if (r < 0)
        return -1;
    const uint8_t *public_key = key_public_der(current->key, &size);
    if (certificate_has_key(&current->certificate, public_key, size))
        return 0;
    *ret_lost = true;
    return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "the certificate does not belong to the key");
}

/* issuedAt is the second in which the proof has ended. */
void current_keep_distance(const struct current *current) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left_ms = (current->identity.issued_at + 2 - now.tv_sec) * 1000 - now.tv_nsec / 1000000;
    if (left_ms > 0 && left_ms <= 2000)
        poll(NULL, 0, (int)left_ms);
}
