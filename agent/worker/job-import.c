#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/specifier.h"
#include "common/step.h"
#include "common/text.h"
#include "worker/chain.h"
#include "worker/clock.h"
#include "worker/deadline.h"
#include "worker/identity.h"
#include "worker/job-staged.h"
#include "worker/jobs.h"
#include "worker/key-backend.h"
#include "worker/report.h"
#include "worker/tss2-pem.h"

#include <string.h>
#include <time.h>

struct import {
    const struct settings *settings;
    struct failure *failure;
    struct staged staged;
    struct chain chain;
    char *key_pem; /* that came along, in the clear; NULL: the certificate is for the staged key */
    size_t key_size;
    struct key *key; /* that the certificate must be for: the staged one, or the one that came along as it came */
};

static void import_clear(struct import *import) {
    if (import->key_pem != NULL)
        explicit_bzero(import->key_pem, import->key_size);
    free(import->key_pem);
    import->key = key_free(import->key);
    staged_clear(&import->staged);
}

static int read_chain(struct import *import, const struct message *job) {
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    if (job_read_file(job, FILE_CERTIFICATE, &text, &size, import->failure) < 0)
        return -1;
    int r = chain_read(text, size, &import->chain, import->failure);
    explicit_bzero(text, size); /* somebody may have put the key into it */
    return r;
}

static int read_key(struct import *import, const struct message *job) {
    if (staged_read(job, &import->staged, import->failure) < 0)
        return -1;
    if (job->files[FILE_PRIVATE_KEY] < 0)
        return 0;
    return job_read_file(job, FILE_PRIVATE_KEY, &import->key_pem, &import->key_size, import->failure);
}

/* As software, whatever [Key] says: it is judged before the TPM hears of it. */
static int load_software_key(struct import *import) {
    const struct key_settings software = {.backend = KEY_BACKEND_FILE};
    return key_import(&software, import->key_pem, import->key_size, &import->key, import->failure);
}

static int load_key(struct import *import) {
    struct failure *failure = import->failure;
    bool lost = false;
    report_step(STEP_KEY);
    if (import->key_pem != NULL)
        return load_software_key(import);
    if (import->staged.private_pem == NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_KEY,
                           "this device has made no request, so there is no key for this certificate: have its "
                           "request signed (`enrollctl request`), or hand in the certificate's private key, too");
    if (staged_load_key(&import->staged, import->settings, &import->key, &lost, failure) < 0) {
        if (lost) {
            failure->class = FAILURE_INVALID; /* nothing that passes: a person must do something */
            failure_append(failure, "; have a new request signed (`enrollctl request`)");
        }
        return -1;
    }
    return 0;
}

static int judge_common_name(const struct import *import) {
    const struct settings *settings = import->settings;
    const char *common_name = import->chain.certificates[0].common_name;
    bool names_thing = specifier_is_in(settings->thing_name, 'c');
    if ((!names_thing && !specifier_is_in(settings->client_id, 'c')) || text_is_thing_name(common_name))
        return 0;
    return failure_set(import->failure, FAILURE_INVALID, STEP_CERTIFICATE,
                       "the certificate's common name is \"%s\", but %s=%s in [Agent] needs one of 1 to 128 of a-z A-Z "
                       "0-9 : _ -: have another one issued, or change that",
                       common_name, names_thing ? "ThingName" : "ClientId",
                       names_thing ? settings->thing_name : settings->client_id);
}

static bool is_just_in_time(const struct settings *settings) {
    for (size_t i = 0; i < settings->method_count; i++)
        if (strcmp(settings->methods[i], "jitp") == 0 || strcmp(settings->methods[i], "jitr") == 0)
            return true;
    return false;
}

static void note_common_name(const struct import *import) {
    const char *common_name = import->chain.certificates[0].common_name;
    if (is_just_in_time(import->settings) && !text_is_thing_name(common_name))
        staged_note(
            STEP_CERTIFICATE,
            "the certificate's common name \"%s\" is no thing name (1 to 128 of a-z A-Z 0-9 : _ -): the template "
            "and the Lambda of etc/aws take the common name as thing name, and will fail",
            common_name);
}

static void note_what_may_surprise(const struct chain *chain, int64_t now, bool is_synchronised) {
    const struct certificate *leaf = &chain->certificates[0];
    bool is_own_issuer = memcmp(leaf->subject_digest, leaf->issuer_digest, sizeof leaf->subject_digest) == 0;
    char date[CLOCK_TEXT_SIZE];
    if (chain->count == 1 && !is_own_issuer)
        staged_note(STEP_CERTIFICATE,
                    "the certificate came without its issuer's: AWS IoT Core finds a registered CA by "
                    "the server name, too, which is always sent");
    for (size_t i = 1; i < chain->count && is_synchronised; i++)
        if (now > chain->certificates[i].not_after) {
            clock_print(chain->certificates[i].not_after, date);
            staged_note(STEP_CERTIFICATE, "certificate %zu (CN=%.100s), an issuer, has expired on %s", i + 1,
                        chain->certificates[i].common_name, date);
        }
}

/* What the key is called that the certificate must be for. */
static const char *key_words(const struct import *import) {
    if (import->key_pem != NULL)
        return "the private key that came along";
    return import->staged.request_pem != NULL ? "this device's request" : "the key that was imported before";
}

static int judge(const struct import *import, const struct message *job) {
    size_t size = 0;
    const uint8_t *public_key = key_public_der(import->key, &size);
    int64_t now = (int64_t)time(NULL);
    bool is_synchronised = clock_is_synchronised(job);
    report_step(STEP_CERTIFICATE);
    if (chain_judge(&import->chain, public_key, size, key_words(import), import->failure) < 0 ||
        chain_judge_dates(&import->chain.certificates[0], now, is_synchronised, import->failure) < 0 ||
        judge_common_name(import) < 0)
        return -1;
    note_common_name(import);
    note_what_may_surprise(&import->chain, now, is_synchronised);
    return 0;
}

/* True if the key that came along is staged already, in the backend that [Key] wants: then it stays as it is. Fails
 * when the TPM cannot just now. */
static int is_staged_already(struct import *import, bool *ret) {
    AUTO_KEY struct key *staged = NULL;
    const char *pem = import->staged.private_pem;
    bool lost = false, wants_tpm = import->settings->key_backend == SETTING_KEY_TPM2;
    size_t size = 0;
    *ret = false;
    if (pem == NULL || tss2_pem_is(pem, strlen(pem)) != wants_tpm)
        return 0;
    if (staged_load_key(&import->staged, import->settings, &staged, &lost, import->failure) < 0)
        return lost ? 0 : -1;
    const uint8_t *public_key = key_public_der(staged, &size);
    *ret = certificate_has_key(&import->chain.certificates[0], public_key, size);
    return 0;
}

/* The key that came along becomes the staged one, and all that was staged is given up. */
static int take_key(struct import *import) {
    AUTO_KEY struct key *key = NULL;
    const struct key_settings settings = key_settings_from(import->settings);
    bool is_there = false;
    if (import->key_pem == NULL || is_staged_already(import, &is_there) < 0 || is_there)
        return import->key_pem == NULL || is_there ? 0 : -1;
    deadline_start(STAGED_KEY_TIMEOUT_S, FAILURE_TPM, STEP_KEY, "importing the device key");
    int r = key_import(&settings, import->key_pem, import->key_size, &key, import->failure);
    deadline_stop();
    if (r < 0)
        return -1;
    if (import->staged.private_pem != NULL)
        staged_note(STEP_KEY, "the key of the last request or import is given up for the one that came along");
    return staged_take_key(&import->staged, key, import->failure);
}

static void note_replacement(const struct import *import) {
    const char *before = import->staged.certificate_pem;
    struct certificate certificate;
    struct failure ignored;
    if (before == NULL || certificate_parse(before, strlen(before), STEP_CERTIFICATE, &certificate, &ignored) < 0)
        return;
    if (strcmp(certificate.id, import->chain.certificates[0].id) != 0)
        staged_note(STEP_CERTIFICATE, "certificate %.16s..., imported before, is replaced", certificate.id);
}

static int take_certificate(struct import *import) {
    struct staged *staged = &import->staged;
    if (staged->certificate_pem != NULL && strcmp(staged->certificate_pem, import->chain.pem) == 0)
        return 0;
    note_replacement(import);
    free(staged->certificate_pem);
    staged->certificate_pem = strdup(import->chain.pem);
    if (staged->certificate_pem == NULL)
        return failure_set(import->failure, FAILURE_INTERNAL, STEP_CERTIFICATE, "out of memory");
    return staged_store(staged, import->failure);
}

/* A successor that nothing would ever use is refused now, and not when the certificate in use ends. */
static int judge_successor(const struct import *import, const struct identity *identity) {
    const struct certificate *leaf = &import->chain.certificates[0];
    char date[CLOCK_TEXT_SIZE], date_in_use[CLOCK_TEXT_SIZE];
    if (staged_check_methods(import->settings, identity, import->failure) < 0)
        return -1;
    if (leaf->not_before >= identity->not_before)
        return 0;
    clock_print(leaf->not_before, date);
    clock_print(identity->not_before, date_in_use);
    return failure_set(import->failure, FAILURE_INVALID, STEP_CERTIFICATE,
                       "this device is provisioned already, and the certificate in use (%.16s..., valid from %s) is "
                       "newer than this one (%.16s..., valid from %s): import one that is issued now",
                       identity->certificate_id, date_in_use, leaf->id, date);
}

static int stage(struct import *import, const struct message *job) {
    if (read_key(import, job) < 0 || load_key(import) < 0 || judge(import, job) < 0 || take_key(import) < 0)
        return -1;
    return take_certificate(import);
}

/* The certificate in use is never staged: its import is one whose receipt was lost. */
static int run(struct import *import, const struct message *job, struct message *result) {
    CLEANUP(identity_clear) struct identity identity = {0};
    bool is_provisioned = false;
    if (staged_lock_down(import->settings, import->failure) < 0 ||
        staged_read_identity(job, &identity, &is_provisioned, import->failure) < 0)
        return -1;
    if (!is_provisioned && staged_check_methods(import->settings, NULL, import->failure) < 0)
        return -1;
    if (read_chain(import, job) < 0)
        return -1;
    const char *id = import->chain.certificates[0].id;
    bool is_in_use = is_provisioned && strcmp(identity.certificate_id, id) == 0;
    if (is_provisioned && !is_in_use && judge_successor(import, &identity) < 0)
        return -1;
    if (!is_in_use && stage(import, job) < 0)
        return -1;
    if (message_add(result, JOB_KEY_CERTIFICATE_ID, id) < 0)
        return failure_set(import->failure, FAILURE_INTERNAL, STEP_CERTIFICATE, "the result is too large");
    return 0;
}

int job_import(struct message *job, struct message *result, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    AUTO_FREE struct import *import = NULL; /* too large for the stack */
    struct settings settings;
    if (job_read_configuration(job, &configuration, &settings, failure) < 0)
        return -1;
    import = calloc(1, sizeof *import);
    if (import == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "out of memory");
    import->settings = &settings;
    import->failure = failure;
    report_step(STEP_CONFIGURATION);
    int r = run(import, job, result);
    import_clear(import);
    return r;
}
