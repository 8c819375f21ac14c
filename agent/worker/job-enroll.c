#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"
#include "worker/deadline.h"
#include "worker/enrollment.h"
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

/* "Create that takes 60 s": a discrete TPM may need a minute for a key. */
#define KEY_TIMEOUT_S 120

static void enrollment_clear(struct enrollment *enrollment) {
    host_disconnect(enrollment);
    enrollment->key = key_free(enrollment->key);
    free(enrollment->root_ca_pem);
    free(enrollment->request_pem);
    free(enrollment->certificate_pem);
    free(enrollment->device_configuration);
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

/* The key is made before any connection is opened: no cloud waits a minute for a TPM. */
static int make_key(struct enrollment *enrollment) {
    const struct settings *settings = enrollment->settings;
    const struct key_settings key_settings = {
        .backend = settings->key_backend == SETTING_KEY_FILE ? KEY_BACKEND_FILE : KEY_BACKEND_TPM2,
        .algorithm = KEY_ALGORITHM_P256,
        .tcti = settings->tcti,
    };
    report_step(STEP_KEY);
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_KEY, "making the device key");
    int r = key_create(&key_settings, &enrollment->key, enrollment->failure);
    deadline_stop();
    if (r < 0)
        return -1;
    report_step(STEP_REQUEST);
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_REQUEST, "signing the certificate signing request");
    r = key_make_request(enrollment->key, enrollment->serial_number, &enrollment->request_pem, enrollment->failure);
    deadline_stop();
    return r;
}

static int run_plugin(struct enrollment *enrollment, const struct enrolld_plugin *plugin) {
    if (plugin->enroll(&enrollment->host) < 0)
        return -1;
    if (enrollment->certificate_pem == NULL || !enrollment->has_thing)
        return failure_set(enrollment->failure, FAILURE_INTERNAL, STEP_REGISTER,
                           "the plugin %s ended without a certificate or without a thing", plugin->name);
    return 0;
}

static int make_identity(const struct enrollment *enrollment, const char *method, uint64_t generation,
                         char **ret_json) {
    bool software = key_get_backend(enrollment->key) == KEY_BACKEND_FILE;
    const char *parent = software ? "" : key_parent_name(enrollment->key);
    struct identity identity = {
        .generation = generation,
        .not_before = enrollment->certificate.not_before,
        .not_after = enrollment->certificate.not_after,
        .issued_at = (int64_t)time(NULL),
        .device_configuration = enrollment->device_configuration,
    };
    snprintf(identity.method, sizeof identity.method, "%s", method);
    snprintf(identity.endpoint, sizeof identity.endpoint, "%s", enrollment->settings->endpoint);
    snprintf(identity.client_id, sizeof identity.client_id, "%s", enrollment->client_id);
    snprintf(identity.thing_name, sizeof identity.thing_name, "%s", enrollment->thing_name);
    snprintf(identity.serial_number, sizeof identity.serial_number, "%s", enrollment->serial_number);
    snprintf(identity.certificate_id, sizeof identity.certificate_id, "%s", enrollment->certificate.id);
    snprintf(identity.key_backend, sizeof identity.key_backend, "%s",
             key_backend_name(key_get_backend(enrollment->key)));
    snprintf(identity.key_algorithm, sizeof identity.key_algorithm, "%s",
             key_algorithm_name(key_get_algorithm(enrollment->key)));
    snprintf(identity.key_origin, sizeof identity.key_origin, "%s", software ? "file" : "tpm");
    snprintf(identity.parent_name, sizeof identity.parent_name, "%s", parent != NULL ? parent : "");
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

static int fill_result(const struct enrollment *enrollment, const char *method, uint64_t generation,
                       struct message *result) {
    AUTO_FREE char *json = NULL;
    size_t private_size = 0;
    const char *private_pem = key_private_pem(enrollment->key, &private_size);
    struct failure *failure = enrollment->failure;
    if (make_identity(enrollment, method, generation, &json) < 0)
        return -1;
    if (attach(result, FILE_CERTIFICATE, enrollment->certificate_pem, strlen(enrollment->certificate_pem), failure) <
            0 ||
        attach(result, FILE_PRIVATE_KEY, private_pem, private_size, failure) < 0 ||
        attach(result, FILE_ROOT_CA, enrollment->root_ca_pem, enrollment->root_ca_size, failure) < 0)
        return -1;
    return attach(result, FILE_IDENTITY, json, strlen(json), failure);
}

static int enroll(struct enrollment *enrollment, const struct enrolld_plugin *plugin, uint64_t generation,
                  struct message *result) {
    if (read_root_ca(enrollment) < 0 || prove_check_settings(enrollment) < 0 || make_key(enrollment) < 0)
        return -1;
    if (lockdown_finish(true, enrollment->failure) < 0)
        return -1;
    host_open(enrollment);
    if (run_plugin(enrollment, plugin) < 0)
        return -1;
    host_disconnect(enrollment);
    if (prove_identity(enrollment) < 0)
        return -1;
    return fill_result(enrollment, plugin->name, generation, result);
}

int job_enroll(struct message *job, struct message *result, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    const struct enrolld_plugin *plugin = NULL;
    struct options *options = NULL;
    struct settings settings;
    struct enrollment enrollment = {.settings = &settings, .failure = failure, .step = STEP_CONFIGURATION};
    struct specifier_values values = {.serial_number = enrollment.serial_number};
    uint64_t generation = 0;
    if (message_get_number(job, JOB_KEY_GENERATION, &generation) < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "the job has no generation");
    if (job_read_configuration(job, &configuration, &settings, failure) < 0)
        return -1;
    report_step(STEP_CONFIGURATION);
    if (plugin_load(settings.method, &plugin, failure) < 0 ||
        serial_resolve(settings.serial_number, enrollment.serial_number, failure) < 0 ||
        options_read(configuration, plugin, &values, &options, failure) < 0)
        return -1;
    enrollment.options = options;
    int r = enroll(&enrollment, plugin, generation, result);
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, enrollment.step, "flushing the device key");
    enrollment_clear(&enrollment);
    deadline_stop();
    options_free(options);
    return r;
}

int job_check_configuration(struct message *job, struct message *result, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    const struct enrolld_plugin *plugin = NULL;
    struct settings settings;
    if (job_read_configuration(job, &configuration, &settings, failure) < 0)
        return -1;
    if (plugin_load(settings.method, &plugin, failure) < 0 || options_check(configuration, plugin, failure) < 0)
        return -1;
    (void)message_add(result, JOB_KEY_METHOD, plugin->name);
    return 0;
}
