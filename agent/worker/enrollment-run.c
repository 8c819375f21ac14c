#include "worker/enrollment.h"

#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"
#include "worker/clock.h"
#include "worker/deadline.h"
#include "worker/document.h"
#include "worker/identity.h"
#include "worker/jobs.h"
#include "worker/lockdown.h"
#include "worker/plugin-loader.h"
#include "worker/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void enrollment_clear(struct enrollment *enrollment) {
    host_disconnect(enrollment);
    enrollment->key = key_free(enrollment->key);
    free(enrollment->root_ca_pem);
    free(enrollment->request_pem);
    checkpoint_clear(&enrollment->held);
}

static int read_root_ca(struct enrollment *enrollment) {
    const char *path = enrollment->settings->root_ca;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int r = fd < 0 ? -errno : memfd_read(fd, &enrollment->root_ca_pem, &enrollment->root_ca_size);
    if (r < 0)
        return failure_set(enrollment->failure, FAILURE_INVALID, STEP_CONFIGURATION, "RootCA=%s cannot be read: %s",
                           path, strerror(-r));
    struct failure reason;
    if (certificate_count(enrollment->root_ca_pem, enrollment->root_ca_size, STEP_CONFIGURATION, &reason) < 0)
        return failure_set(enrollment->failure, FAILURE_INVALID, STEP_CONFIGURATION, "RootCA=%s: %s", path,
                           reason.message);
    return 0;
}

int enrollment_lock_down(struct enrollment *enrollment) {
    return read_root_ca(enrollment) < 0 ? -1 : lockdown_finish(true, enrollment->failure);
}

/* Which TPM the key is in, for a later check that finds itself before another one. A TPM that does not tell has its
 * endorsement hierarchy locked by its owner: then that stays unknown. */
static int read_endorsement(struct enrollment *enrollment) {
    const struct settings *settings = enrollment->settings;
    bool refused = false;
    if (settings->key_backend != SETTING_KEY_TPM2)
        return 0;
    report_step(STEP_KEY);
    int r = tpm_endorsement_read(settings->tcti, &enrollment->endorsement, &refused, enrollment->failure);
    return refused ? 0 : r;
}

/* The key is made before any connection is opened: no cloud waits a minute for a TPM. */
static int make_key(struct enrollment *enrollment) {
    const struct key_settings settings = enrollment_key_settings(enrollment);
    struct key *key = NULL;
    report_step(STEP_KEY);
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_KEY, "making the device key");
    int r = key_create(&settings, &key, enrollment->failure);
    deadline_stop();
    if (r < 0 || enrollment_take_key(enrollment, key, key_get_origin(key)) < 0)
        return -1;
    return enrollment_save(enrollment, CHECKPOINT_KEY);
}

/* With ReuseKey= the successor has the key of the identity in use; nothing is lost before it is certified. */
static int reuse_key(struct enrollment *enrollment) {
    const struct current *current = enrollment->current;
    const struct key_settings settings = enrollment_key_settings(enrollment);
    struct key *key = NULL;
    bool lost = false;
    report_step(STEP_KEY);
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_KEY, "loading the device key");
    int r = key_load(&settings, current->private_pem, current->private_size, &key, &lost, enrollment->failure);
    deadline_stop();
    return r < 0 ? -1 : enrollment_take_key(enrollment, key, current->identity.key_origin);
}

static int provide_key(struct enrollment *enrollment) {
    if (enrollment->key != NULL || enrollment->brings_key)
        return 0;
    return enrollment_reuses_key(enrollment) ? reuse_key(enrollment) : make_key(enrollment);
}

/* Only a certificate that is still to be asked for needs it. */
static int make_request(struct enrollment *enrollment) {
    bool is_held = enrollment->held.certificate_pem != NULL && !enrollment->wants_another;
    if (enrollment->brings_key || is_held || enrollment->request_pem != NULL)
        return 0;
    report_step(STEP_REQUEST);
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_REQUEST, "signing the certificate signing request");
    int r = key_make_request(enrollment->key, &enrollment->subject, &enrollment->request_pem, enrollment->failure);
    deadline_stop();
    return r;
}

static int run_plugin(struct enrollment *enrollment) {
    const struct enrolld_plugin *plugin = enrollment->plugin;
    struct failure unsaid = {0};
    if (make_request(enrollment) < 0)
        return -1;
    *enrollment->failure = unsaid;
    int r = enrollment->current != NULL ? plugin->renew(&enrollment->host) : plugin->enroll(&enrollment->host);
    host_disconnect(enrollment);
    if (r < 0 && enrollment->failure->message[0] == '\0' && !enrollment->must_end)
        return failure_set(enrollment->failure, FAILURE_INTERNAL, enrollment->step,
                           "the plugin %s failed without a word", enrollment->method);
    if (r == 0 && enrollment->held.stage != CHECKPOINT_REGISTERED && !enrollment->imports)
        return failure_set(enrollment->failure, FAILURE_INTERNAL, enrollment->step,
                           "the plugin %s ended without a registered certificate", enrollment->method);
    return r < 0 ? -1 : 0;
}

/* A renewal that was registered for another thing than the device's: where RenewTemplate= or its hook is wrong, the
 * next one would be, too. It is kept, without asking the cloud again, for as long as one that may not publish. */
static int take_other_thing(struct enrollment *enrollment) {
    struct checkpoint *held = &enrollment->held;
    (void)enrollment_refuse_thing(enrollment);
    struct failure failure = *enrollment->failure;
    held->refusals++;
    if (checkpoint_is_hopeless(held, true)) {
        checkpoint_drop_certificate(held);
        held->abandoned++;
    }
    if (enrollment_save(enrollment, held->stage) == 0)
        *enrollment->failure = failure;
    return -1;
}

/* A certificate that stayed refused is given up for another one, but ever more slowly. Only what the cloud itself has
 * said inside the TLS session counts, class `denied`: else anyone on the path could have certificates made. */
static int take_refusal(struct enrollment *enrollment) {
    struct checkpoint *held = &enrollment->held;
    struct failure refusal = *enrollment->failure;
    if (refusal.class != FAILURE_DENIED)
        return -1;
    held->refusals++;
    if (checkpoint_is_hopeless(held, enrollment->connects_only)) {
        failure_append(&refusal, "; certificate %.16s... is given up for another one", enrollment->certificate.id);
        if (!held->has_thing && enrollment->settings->thing_name[0] == '\0')
            failure_append(&refusal, " (it may only be the client id: tell the thing's name by ThingName= in [Agent])");
        report_note(STEP_PROVE, refusal.message);
        enrollment->never_confirmed = !held->has_thing;
        checkpoint_drop_certificate(held);
        held->abandoned++;
    }
    if (enrollment_save(enrollment, held->stage) == 0)
        *enrollment->failure = refusal;
    return -1;
}

/* No answer to the proof: most often the network's fault, which passes. */
static int take_doubt(struct enrollment *enrollment) {
    struct checkpoint *held = &enrollment->held;
    struct failure failure = *enrollment->failure;
    if (held->doubts < UINT32_MAX / 2)
        held->doubts++;
    if (enrollment_save(enrollment, held->stage) < 0)
        return -1;
    *enrollment->failure = failure;
    if (!checkpoint_is_doubtful(held))
        return -1;
    report_note(STEP_PROVE, "the cloud has not answered this certificate for long: another one is asked for");
    enrollment->wants_another = true;
    if (run_plugin(enrollment) < 0)
        return -1;
    return prove_identity(enrollment, enrollment->settings->propagation_ms);
}

/* From what is held to a certificate that the cloud accepts. */
static int get_proven(struct enrollment *enrollment) {
    struct checkpoint *held = &enrollment->held;
    bool proven = false;
    if (enrollment_has_other_thing(enrollment))
        return take_other_thing(enrollment);
    if (held->stage == CHECKPOINT_SENT) { /* it may be registered: the answer was lost, or this device lost power */
        proven = prove_identity(enrollment, 0) == 0;
        if (!proven && !prove_is_worth_waiting(enrollment->failure->class))
            return -1;
    }
    /* Where the proof has succeeded already this may still tell the thing's name. */
    char proven_id[CERTIFICATE_ID_SIZE];
    memcpy(proven_id, enrollment->certificate.id, sizeof proven_id);
    if (held->stage < CHECKPOINT_SPENT && run_plugin(enrollment) < 0 && !proven && held->stage != CHECKPOINT_SPENT)
        return -1;
    if (enrollment->accepted)
        return 0;
    if (proven && strcmp(proven_id, enrollment->certificate.id) == 0)
        return 0;
    if (prove_identity(enrollment, enrollment->settings->propagation_ms) == 0)
        return 0;
    bool unanswered = enrollment->failure->class == FAILURE_NETWORK || enrollment->failure->wordless;
    return unanswered ? take_doubt(enrollment) : take_refusal(enrollment);
}

/* A template that has none for a renewal does not take away what the application was told at the enrolment. */
static const char *device_configuration(const struct enrollment *enrollment) {
    const char *told = enrollment->held.device_configuration;
    if (enrollment->current == NULL)
        return told;
    AUTO_DOCUMENT json_object *object = told != NULL ? document_parse(told, strlen(told)) : NULL;
    bool is_empty = object == NULL || json_object_object_length(object) == 0;
    return is_empty ? enrollment->current->identity.device_configuration : told;
}

static int make_identity(const struct enrollment *enrollment, uint64_t generation, char **ret_json) {
    const char *parent = key_parent_name(enrollment->key);
    struct identity identity = {
        .generation = generation,
        .not_before = enrollment->certificate.not_before,
        .not_after = enrollment->certificate.not_after,
        .issued_at = (int64_t)time(NULL),
        .device_configuration = (char *)device_configuration(enrollment),
    };
    snprintf(identity.method, sizeof identity.method, "%s", enrollment->method);
    snprintf(identity.endpoint, sizeof identity.endpoint, "%s", enrollment->settings->endpoint);
    snprintf(identity.client_id, sizeof identity.client_id, "%s", enrollment->client_id);
    snprintf(identity.thing_name, sizeof identity.thing_name, "%s", enrollment->held.thing_name);
    snprintf(identity.serial_number, sizeof identity.serial_number, "%s", enrollment->serial_number);
    snprintf(identity.certificate_id, sizeof identity.certificate_id, "%s", enrollment->certificate.id);
    snprintf(identity.key_backend, sizeof identity.key_backend, "%s",
             key_backend_name(key_get_backend(enrollment->key)));
    snprintf(identity.key_algorithm, sizeof identity.key_algorithm, "%s",
             key_algorithm_name(key_get_algorithm(enrollment->key)));
    snprintf(identity.key_origin, sizeof identity.key_origin, "%s", enrollment->held.key_origin);
    snprintf(identity.parent_name, sizeof identity.parent_name, "%s", parent != NULL ? parent : "");
    snprintf(identity.ek_name, sizeof identity.ek_name, "%s", parent != NULL ? enrollment->endorsement.name : "");
    return identity_encode(&identity, ret_json, enrollment->failure);
}

static int attach(struct message *result, enum file_role role, const char *text, size_t size, struct failure *failure) {
    int fd = memfd_create_sealed(file_role_name(role), text, size);
    int r = fd < 0 ? fd : message_attach(result, role, fd);
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "the file %s cannot be handed over: %s",
                           file_role_name(role), strerror(-r));
    return 0;
}

static int fill_result(const struct enrollment *enrollment, uint64_t generation, struct message *result) {
    AUTO_FREE char *json = NULL;
    size_t private_size = 0;
    const char *private_pem = key_private_pem(enrollment->key, &private_size);
    struct failure *failure = enrollment->failure;
    if (make_identity(enrollment, generation, &json) < 0)
        return -1;
    const char *chain = enrollment->held.certificate_pem;
    if (attach(result, FILE_CERTIFICATE, chain, strlen(chain), failure) < 0 ||
        attach(result, FILE_PRIVATE_KEY, private_pem, private_size, failure) < 0 ||
        attach(result, FILE_ROOT_CA, enrollment->root_ca_pem, enrollment->root_ca_size, failure) < 0)
        return -1;
    return attach(result, FILE_IDENTITY, json, strlen(json), failure);
}

/* What a method is to work with: whatever is wrong up to here costs nothing in the cloud. */
static int prepare(struct enrollment *enrollment, struct message *job) {
    const struct enrolld_plugin *plugin = enrollment->plugin;
    struct failure unsaid = {0};
    /* Before the first byte that others have made: a checkpoint has some. */
    if (enrollment->root_ca_pem == NULL && enrollment_lock_down(enrollment) < 0)
        return -1;
    if (enrollment->imports && enrollment_take_imported(enrollment, job) < 0)
        return -1;
    host_open(enrollment);
    enrollment->brings_key = plugin->brings_key != NULL && plugin->brings_key(&enrollment->host);
    if (prove_check_settings(enrollment) < 0 || enrollment_bind(enrollment) < 0)
        return -1;
    *enrollment->failure = unsaid;
    if (plugin->usable == NULL || plugin->usable(&enrollment->host) >= 0)
        return 0;
    if (enrollment->failure->message[0] == '\0')
        failure_record(enrollment->failure, FAILURE_INVALID, enrollment->step,
                       "the plugin %s cannot be used, and does not say why", enrollment->method);
    enrollment->failure->unusable = true;
    return -1;
}

/* By a certificate that is asked for: what costs something in the cloud survives in the checkpoint. */
static int enroll_asking(struct enrollment *enrollment, struct message *job) {
    if (enrollment_resume(enrollment, job) < 0)
        return -1;
    if (provide_key(enrollment) < 0)
        return -1;
    bool was_held = enrollment->held.certificate_pem != NULL && !enrollment->brings_key;
    int r = get_proven(enrollment);
    /* One from an earlier attempt, which has just been given up: it was probably too old to be registered. */
    if (r < 0 && was_held && enrollment->never_confirmed && enrollment->failure->class == FAILURE_DENIED)
        r = get_proven(enrollment);
    return r;
}

/* By what was imported, which stays where it is until an identity is in use. */
static int enroll_imported(struct enrollment *enrollment) {
    if (run_plugin(enrollment) < 0)
        return -1;
    return enrollment->accepted ? 0 : prove_identity(enrollment, enrollment->settings->propagation_ms);
}

static int run(struct enrollment *enrollment, struct message *job, struct message *result) {
    uint64_t generation = 0;
    if (message_get_number(job, JOB_KEY_GENERATION, &generation) < 0)
        return failure_set(enrollment->failure, FAILURE_INTERNAL, STEP_WORKER, "the job has no generation");
    if (prepare(enrollment, job) < 0 || read_endorsement(enrollment) < 0)
        return -1;
    int r = enrollment->imports ? enroll_imported(enrollment) : enroll_asking(enrollment, job);
    return r < 0 ? -1 : fill_result(enrollment, generation, result);
}

/* A renewal is for the device that the identity in use was made for, whatever SerialNumber= says by now. */
static int name_device(struct enrollment *enrollment) {
    const struct current *current = enrollment->current;
    if (current == NULL)
        return serial_resolve(enrollment->settings, &enrollment->endorsement, enrollment->serial_number,
                              enrollment->failure);
    const char *serial_number = current->identity.serial_number;
    if (strlen(serial_number) >= sizeof enrollment->serial_number)
        return failure_set(enrollment->failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "the serial number of the identity in use is too long");
    memcpy(enrollment->serial_number, serial_number, strlen(serial_number) + 1);
    return 0;
}

static int load_method(struct enrollment *enrollment, const struct configuration *configuration) {
    bool renews = enrollment->current != NULL;
    const struct configuration_entry *named = renews ? configuration_find(configuration, "Renewal", "RenewMethod")
                                                     : configuration_find(configuration, "Agent", "Methods");
    if (plugin_load(enrollment->method, named, &enrollment->plugin, enrollment->failure) < 0)
        return -1;
    if (renews && !plugin_can_renew(enrollment->plugin))
        return failure_set(enrollment->failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "the method %s cannot renew anything: name another one by RenewMethod= in [Renewal]",
                           enrollment->method);
    enrollment->imports = plugin_method(enrollment->plugin, enrollment->method)->imports;
    return 0;
}

static int read_options(struct enrollment *enrollment, const struct configuration *configuration,
                        struct options **ret) {
    const struct identity *identity = enrollment->current != NULL ? &enrollment->current->identity : NULL;
    enum enrolld_option_use use = identity != NULL ? ENROLLD_USE_RENEW : ENROLLD_USE_ENROLL;
    struct specifier_values values = {.serial_number = enrollment->serial_number};
    char thing_name[THING_NAME_SIZE];
    if (subject_parse(enrollment->settings->subject, &values, &enrollment->subject, enrollment->failure) < 0)
        return -1;
    if (identity != NULL) {
        if (prove_known_name(enrollment, thing_name) < 0)
            return -1;
        values.thing_name = thing_name[0] != '\0' ? thing_name : NULL;
        values.old_certificate_id = identity->certificate_id;
    }
    int r = options_read(configuration, enrollment->plugin, enrollment->method, use, &values, ret, enrollment->failure);
    if (r < 0 && enrollment->failure->unusable && identity == NULL && !enrollment->settings->keep_claim)
        failure_append(enrollment->failure, OPTIONS_CLAIM_GONE);
    return r;
}

int enrollment_run(struct enrollment *enrollment, const struct configuration *configuration, struct message *job,
                   struct message *result, bool *resume) {
    struct options *options = NULL;
    uint64_t waited_s = 0;
    enrollment->step = STEP_CONFIGURATION;
    enrollment->clock_is_doubtful = !clock_is_synchronised(job);
    (void)message_get_number(job, JOB_KEY_WAITED, &waited_s); /* for a person: not at all */
    enrollment->host.waited_s = waited_s < UINT32_MAX ? (uint32_t)waited_s : UINT32_MAX;
    report_step(STEP_CONFIGURATION);
    int r = -1;
    if (load_method(enrollment, configuration) == 0 && name_device(enrollment) == 0 &&
        read_options(enrollment, configuration, &options) == 0) {
        enrollment->options = options;
        r = run(enrollment, job, result);
    }
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, enrollment->step, "flushing the device key");
    enrollment_clear(enrollment);
    deadline_stop();
    options_free(options);
    *resume = enrollment->must_end;
    return enrollment->must_end ? 0 : r;
}
