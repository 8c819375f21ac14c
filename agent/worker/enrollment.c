#include "worker/enrollment.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "common/text.h"
#include "worker/chain.h"
#include "worker/clock.h"
#include "worker/deadline.h"
#include "worker/jobs.h"
#include "worker/report.h"
#include "worker/staged.h"

#include <wolfssl/wolfcrypt/sha256.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

struct key_settings enrollment_key_settings(const struct enrollment *enrollment) {
    return key_settings_from(enrollment->settings);
}

int enrollment_take_key(struct enrollment *enrollment, struct key *key, const char *origin) {
    struct checkpoint *held = &enrollment->held;
    size_t size = 0;
    const char *pem = key_private_pem(key, &size);
    key_free(enrollment->key);
    enrollment->key = key;
    checkpoint_drop_key(held);
    snprintf(held->key_origin, sizeof held->key_origin, "%s", origin);
    held->private_pem = strndup(pem, size);
    return held->private_pem != NULL ? 0
                                     : failure_set(enrollment->failure, FAILURE_INTERNAL, STEP_KEY, "out of memory");
}

/* Each value with the NUL that ends it, so that two of them cannot pass for others. */
static int hash_text(wc_Sha256 *hash, const char *text) {
    return wc_Sha256Update(hash, (const byte *)text, (word32)strlen(text) + 1);
}

int enrollment_bind(struct enrollment *enrollment) {
    const struct settings *settings = enrollment->settings;
    bool renews = enrollment->current != NULL;
    char port[8], key[16], *name = NULL, *value = NULL;
    uint8_t digest[WC_SHA256_DIGEST_SIZE];
    wc_Sha256 hash;
    size_t position = 0;
    snprintf(port, sizeof port, "%u", (unsigned)settings->port);
    snprintf(key, sizeof key, "%d %d", (int)settings->key_backend, (int)settings->key_algorithm);
    const char *texts[] = {enrollment->method, settings->endpoint, port, enrollment->serial_number, key};
    const char *renewed[] = {"renew", renews ? enrollment->current->certificate.id : "",
                             settings->reuse_key ? "the same key" : "a new key"};
    int r = wc_InitSha256(&hash);
    for (size_t i = 0; i < sizeof texts / sizeof *texts && r == 0; i++)
        r = hash_text(&hash, texts[i]);
    for (size_t i = 0; renews && i < sizeof renewed / sizeof *renewed && r == 0; i++)
        r = hash_text(&hash, renewed[i]);
    while (r == 0 && options_next(enrollment->options, "", &position, (const char **)&name, (const char **)&value))
        if (!options_is_file(enrollment->options, name) && (r = hash_text(&hash, name)) == 0)
            r = hash_text(&hash, value);
    if (r == 0)
        r = wc_Sha256Update(&hash, enrollment->subject.der, (word32)enrollment->subject.size);
    if (r == 0)
        r = wc_Sha256Final(&hash, digest);
    wc_Sha256Free(&hash);
    if (r != 0)
        return failure_set(enrollment->failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "SHA-256 failed: %d", r);
    text_to_hex(digest, sizeof digest, enrollment->held.binding);
    return 0;
}

bool enrollment_reuses_key(const struct enrollment *enrollment) {
    return enrollment->current != NULL && enrollment->settings->reuse_key && !enrollment->imports &&
           !enrollment->brings_key;
}

bool enrollment_has_other_thing(const struct enrollment *enrollment) {
    const char *thing_name = enrollment->held.thing_name;
    return enrollment->current != NULL && thing_name[0] != '\0' &&
           enrollment->current->identity.thing_name[0] != '\0' &&
           strcmp(thing_name, enrollment->current->identity.thing_name) != 0;
}

int enrollment_refuse_thing(struct enrollment *enrollment) {
    return failure_set(enrollment->failure, FAILURE_INVALID, STEP_REGISTER,
                       "the cloud has registered the new certificate %.16s... for the thing %s, and this device is %s: "
                       "is RenewTemplate= the right template? Deactivate that certificate",
                       enrollment->certificate.id, enrollment->held.thing_name,
                       enrollment->current->identity.thing_name);
}

static void tell(const char *what, const char *why) {
    char text[FAILURE_MESSAGE_MAX];
    snprintf(text, sizeof text, "%s: %.600s", what, why);
    report_note(STEP_KEY, text);
}

/* Returns 0 also when the key is lost: enrollment->key is NULL then. */
static int load_key(struct enrollment *enrollment, const char *private_pem) {
    const struct key_settings settings = {.tcti = enrollment->settings->tcti};
    bool lost = false;
    report_step(STEP_KEY);
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_KEY, "loading the device key");
    int r = key_load(&settings, private_pem, strlen(private_pem), &enrollment->key, &lost, enrollment->failure);
    deadline_stop();
    if (r == 0 || !lost)
        return r;
    tell("the key of an earlier attempt is lost, another is made", enrollment->failure->message);
    return 0;
}

/* The certificate that is held must still be one for the key; else only the key is of use. */
static void judge_certificate(struct enrollment *enrollment, struct checkpoint *checkpoint) {
    const char *pem = checkpoint->certificate_pem;
    struct failure reason = {0};
    size_t size = 0;
    if (pem == NULL)
        return;
    const uint8_t *public_key = key_public_der(enrollment->key, &size);
    if (certificate_parse(pem, strlen(pem), STEP_CERTIFICATE, &enrollment->certificate, &reason) == 0 &&
        certificate_has_key(&enrollment->certificate, public_key, size))
        return;
    tell("the certificate of an earlier attempt cannot be used",
         reason.message[0] != '\0' ? reason.message : "it is for another key");
    checkpoint_drop_certificate(checkpoint);
}

static void cleanup_checkpoint(struct checkpoint *checkpoint) {
    checkpoint_clear(checkpoint);
}

int enrollment_resume(struct enrollment *enrollment, const struct message *job) {
    CLEANUP(cleanup_checkpoint) struct checkpoint checkpoint = {.stage = CHECKPOINT_NOTHING};
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    if (job->files[FILE_CHECKPOINT] < 0)
        return 0;
    if (job_read_file(job, FILE_CHECKPOINT, &text, &size, enrollment->failure) < 0)
        return -1;
    const char *wrong = checkpoint_parse(text, size, &checkpoint);
    explicit_bzero(text, size);
    if (wrong == NULL && strcmp(checkpoint.binding, enrollment->held.binding) != 0)
        wrong = "it was made for other settings";
    if (wrong != NULL) {
        tell("the checkpoint of an earlier attempt is not used", wrong);
        return 0;
    }
    if (load_key(enrollment, checkpoint.private_pem) < 0)
        return -1;
    if (enrollment->key == NULL)
        return 0;
    judge_certificate(enrollment, &checkpoint);
    checkpoint_clear(&enrollment->held);
    enrollment->held = checkpoint;
    enrollment->was_sent = checkpoint.stage == CHECKPOINT_SENT;
    checkpoint = (struct checkpoint){.stage = CHECKPOINT_NOTHING};
    return 0;
}

/* A key that this TPM does not know any more needs a person, but another method may do without. */
static int load_imported_key(struct enrollment *enrollment, const struct staged *staged) {
    const struct key_settings settings = {.tcti = enrollment->settings->tcti};
    struct failure *failure = enrollment->failure;
    bool lost = false;
    report_step(STEP_KEY);
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_KEY, "loading the imported key");
    int r = key_load(&settings, staged->private_pem, strlen(staged->private_pem), &enrollment->key, &lost, failure);
    deadline_stop();
    if (r < 0 && lost) {
        failure_append(failure, "; the imported identity is lost: begin again with `enrollctl request` or import");
        failure->class = FAILURE_INVALID; /* nothing that passes */
        failure->unusable = true;
    }
    return r;
}

static int fail_without_import(struct enrollment *enrollment, const char *what) {
    failure_record(enrollment->failure, FAILURE_INVALID, STEP_CONFIGURATION,
                   "%s: %s needs `enrollctl import`, after `enrollctl request` or with a key", what,
                   enrollment->method);
    enrollment->failure->unusable = true;
    return -1;
}

/* By a clock that nobody has set yet it would only seem so. */
static int judge_imported_dates(struct enrollment *enrollment, const struct message *job) {
    struct failure *failure = enrollment->failure;
    if (!clock_is_synchronised(job) ||
        chain_judge_dates(&enrollment->certificate, (int64_t)time(NULL), true, failure) == 0)
        return 0;
    failure_append(failure, time(NULL) > enrollment->certificate.not_after
                                ? "; have another one issued for the same request, and `enrollctl import` it"
                                : "; it is used from then on, or another one after `enrollctl import`");
    failure->unusable = true;
    return -1;
}

static void cleanup_staged(struct staged *staged) {
    staged_clear(staged);
}

int enrollment_take_imported(struct enrollment *enrollment, const struct message *job) {
    CLEANUP(cleanup_staged) struct staged staged = {.private_pem = NULL};
    struct checkpoint *held = &enrollment->held;
    AUTO_FREE char *text = NULL;
    size_t size = 0, key_size = 0;
    if (job->files[FILE_STAGED] < 0)
        return fail_without_import(enrollment, "no certificate was imported");
    if (job_read_file(job, FILE_STAGED, &text, &size, enrollment->failure) < 0)
        return -1;
    const char *wrong = staged_parse(text, size, &staged);
    explicit_bzero(text, size);
    if (wrong != NULL)
        return fail_without_import(enrollment, wrong);
    if (staged.certificate_pem == NULL)
        return fail_without_import(enrollment, "the certificate for the request was not imported yet");
    if (certificate_parse(staged.certificate_pem, strlen(staged.certificate_pem), STEP_CERTIFICATE,
                          &enrollment->certificate, enrollment->failure) < 0)
        return -1;
    if (enrollment->current != NULL && strcmp(enrollment->certificate.id, enrollment->current->certificate.id) == 0)
        return fail_without_import(enrollment, "the certificate that was imported is the one in use");
    if (judge_imported_dates(enrollment, job) < 0 || load_imported_key(enrollment, &staged) < 0)
        return -1;
    const uint8_t *public_key = key_public_der(enrollment->key, &key_size);
    if (!certificate_has_key(&enrollment->certificate, public_key, key_size))
        return fail_without_import(enrollment, "the imported certificate is for another key");
    memcpy(held->key_origin, staged.key_origin, sizeof held->key_origin);
    held->private_pem = TAKE_POINTER(staged.private_pem);
    held->certificate_pem = TAKE_POINTER(staged.certificate_pem);
    return 0;
}

int enrollment_save(struct enrollment *enrollment, enum checkpoint_stage stage) {
    AUTO_FREE char *json = NULL;
    struct checkpoint next = enrollment->held;
    next.stage = stage;
    if (checkpoint_encode(&next, &json, enrollment->failure) < 0)
        return -1;
    int r = report_checkpoint(FILE_CHECKPOINT, json, strlen(json), enrollment->failure);
    explicit_bzero(json, strlen(json));
    if (r == 0)
        enrollment->held.stage = stage;
    return r;
}
