#include "worker/job-staged.h"

#include "common/cleanup.h"
#include "common/specifier.h"
#include "common/step.h"
#include "worker/deadline.h"
#include "worker/jobs.h"
#include "worker/lockdown.h"
#include "worker/plugin-loader.h"
#include "worker/renewal.h"
#include "worker/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What is staged beside an identity in use is for its successor, or for nothing. */
static int check_renewal(const struct settings *settings, const struct identity *identity, struct failure *failure) {
    const char *method = renewal_method(settings, identity);
    const struct enrolld_plugin *plugin = NULL;
    if (method[0] != '\0' && plugin_load(method, NULL, &plugin, failure) < 0)
        return -1;
    if (plugin != NULL && plugin_method(plugin, method)->imports && plugin_can_renew(plugin))
        return 0;
    return failure_set(
        failure, FAILURE_INVALID, STEP_CONFIGURATION,
        "this device is provisioned already, and %s%s takes no certificate that is imported: for a "
        "successor set RenewMethod= in [Renewal] to a method that does, like jitp or jitr; or start over "
        "with `enrollctl forget`",
        method[0] != '\0' ? "its renewal by " : "RenewMethod=", method[0] != '\0' ? method : "none");
}

int staged_check_methods(const struct settings *settings, const struct identity *identity, struct failure *failure) {
    if (identity != NULL)
        return check_renewal(settings, identity, failure);
    for (size_t i = 0; i < settings->method_count; i++) {
        const struct enrolld_plugin *plugin = NULL;
        if (plugin_load(settings->methods[i], NULL, &plugin, failure) < 0)
            return -1;
        if (plugin_method(plugin, settings->methods[i])->imports)
            return 0;
    }
    return failure_set(
        failure, FAILURE_INVALID, STEP_CONFIGURATION,
        "no method of Methods= takes a certificate that was imported: add one that does, like jitp or jitr");
}

int staged_read_identity(const struct message *job, struct identity *ret, bool *ret_is_there, struct failure *failure) {
    AUTO_FREE char *json = NULL;
    size_t size = 0;
    *ret_is_there = job->files[FILE_IDENTITY] >= 0;
    if (!*ret_is_there)
        return 0;
    if (job_read_file(job, FILE_IDENTITY, &json, &size, failure) < 0)
        return -1;
    return identity_parse(json, size, ret, failure);
}

int staged_check_names(const struct settings *settings, const struct subject *subject, struct failure *failure) {
    bool names_thing = specifier_is_in(settings->thing_name, 'c');
    if (subject->common_name[0] != '\0' || (!names_thing && !specifier_is_in(settings->client_id, 'c')))
        return 0;
    return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                       "%s=%s in [Agent] is by the common name, but the subject has no CN: add one, like CN=%%s, or "
                       "change that",
                       names_thing ? "ThingName" : "ClientId",
                       names_thing ? settings->thing_name : settings->client_id);
}

int staged_lock_down(const struct settings *settings, struct failure *failure) {
    bool network = strstr(settings->tcti, "host=") != NULL || strstr(settings->tcti, "port=") != NULL;
    return lockdown_finish(network, failure);
}

void staged_note(const char *step, const char *format, ...) {
    char text[FAILURE_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    report_note(step, text);
}

int staged_read(const struct message *job, struct staged *ret, struct failure *failure) {
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    if (job->files[FILE_STAGED] < 0)
        return 0;
    if (job_read_file(job, FILE_STAGED, &text, &size, failure) < 0)
        return -1;
    const char *wrong = staged_parse(text, size, ret);
    explicit_bzero(text, size);
    if (wrong != NULL)
        staged_note(STEP_KEY, "what was staged before is not used: %s", wrong);
    return 0;
}

int staged_store(const struct staged *staged, struct failure *failure) {
    AUTO_FREE char *json = NULL;
    if (staged_encode(staged, &json, failure) < 0)
        return -1;
    int r = report_checkpoint(FILE_STAGED, json, strlen(json), failure);
    explicit_bzero(json, strlen(json));
    return r;
}

int staged_load_key(const struct staged *staged, const struct settings *settings, struct key **ret, bool *ret_lost,
                    struct failure *failure) {
    const struct key_settings key_settings = key_settings_from(settings);
    deadline_start(STAGED_KEY_TIMEOUT_S, FAILURE_TPM, STEP_KEY, "loading the key of the last request or import");
    int r = key_load(&key_settings, staged->private_pem, strlen(staged->private_pem), ret, ret_lost, failure);
    deadline_stop();
    return r;
}

int staged_take_key(struct staged *staged, const struct key *key, struct failure *failure) {
    size_t size = 0;
    const char *pem = key_private_pem(key, &size);
    staged_clear(staged);
    snprintf(staged->key_origin, sizeof staged->key_origin, "%s", key_get_origin(key));
    staged->private_pem = strndup(pem, size);
    return staged->private_pem != NULL ? 0 : failure_set(failure, FAILURE_INTERNAL, STEP_KEY, "out of memory");
}
