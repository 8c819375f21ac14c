/* The inputs of a provisioning method: its settings, and the certificate and key that it connects with. */
#include "common/cleanup.h"
#include "common/step.h"
#include "worker/certificate.h"
#include "worker/clock.h"
#include "worker/diagnosis.h"
#include "worker/key.h"
#include "worker/options.h"
#include "worker/plugin-loader.h"
#include "worker/serial.h"
#include "worker/staged.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define SOON_S (30 * 86400)

void diagnosis_method_row(const char *method, char row[DIAGNOSIS_WHAT_MAX]) {
    snprintf(row, DIAGNOSIS_WHAT_MAX, "method %s", method);
}

/* What an enrolment needs may be gone where there is an identity already, and where another method may do. */
static enum diagnosis_verdict verdict_of(const struct diagnosis_subject *subject) {
    return subject->provisioned || subject->settings->method_count > 1 ? DIAGNOSIS_WARNING : DIAGNOSIS_WRONG;
}

static void add_dates(struct diagnosis *diagnosis, const struct diagnosis_subject *subject, const char *row,
                      const char *what, const struct certificate *certificate, const char *advice) {
    int64_t now = (int64_t)time(NULL);
    char date[CLOCK_TEXT_SIZE];
    clock_print(now < certificate->not_before ? certificate->not_before : certificate->not_after, date);
    if (now > certificate->not_after)
        diagnosis_add(diagnosis, row, verdict_of(subject), advice, "%s expired on %s", what, date);
    else if (now < certificate->not_before)
        diagnosis_add(diagnosis, row, verdict_of(subject), "is the clock right?", "%s is not valid before %s", what,
                      date);
    else if (certificate->not_after - now < SOON_S)
        diagnosis_add(diagnosis, row, DIAGNOSIS_WARNING, advice, "%s is there and expires soon, on %s", what, date);
    else
        diagnosis_add(diagnosis, row, DIAGNOSIS_OK, "", "%s is there, valid to %s, id %.16s...", what, date,
                      certificate->id);
}

/* A key that others on the device may read is no secret of the batch. */
static void judge_permission(struct diagnosis *diagnosis, const struct diagnosis_subject *subject, const char *row) {
    const struct configuration_entry *entry = configuration_find(subject->configuration, subject->method, "PrivateKey");
    struct stat status;
    if (entry == NULL || entry->value[0] != '/' || stat(entry->value, &status) < 0 || (status.st_mode & S_IROTH) == 0)
        return;
    diagnosis_add(diagnosis, row, DIAGNOSIS_WARNING, "chmod o= it, and give it to the group enrolld-worker",
                  "everybody on this device may read PrivateKey=%.200s", entry->value);
}

static void judge_claim(struct diagnosis *diagnosis, const struct diagnosis_subject *subject, const char *row,
                        const struct options *options) {
    const struct key_settings file = {.backend = KEY_BACKEND_FILE};
    const char *chain = options_get(options, "Certificate"), *pem = options_get(options, "PrivateKey");
    static struct certificate certificate;
    struct key *key = NULL;
    struct failure failure;
    bool lost;
    size_t size = 0;
    if (certificate_parse(chain, strlen(chain), STEP_CLAIM, &certificate, &failure) < 0) {
        diagnosis_add(diagnosis, row, verdict_of(subject), "is it PEM, and the certificate and not the key?",
                      "Certificate=: %s", failure.message);
        return;
    }
    if (strstr(pem, "TSS2 PRIVATE KEY") != NULL || key_load(&file, pem, strlen(pem), &key, &lost, &failure) < 0) {
        diagnosis_add(diagnosis, row, verdict_of(subject), "is it PEM, and not encrypted?", "PrivateKey=: %s",
                      strstr(pem, "TSS2 PRIVATE KEY") != NULL ? "a key of a TPM" : failure.message);
        return;
    }
    const uint8_t *public_key = key_public_der(key, &size);
    if (!certificate_has_key(&certificate, public_key, size))
        diagnosis_add(diagnosis, row, verdict_of(subject), "one of the two is of another pair",
                      "PrivateKey= does not belong to Certificate=");
    else {
        add_dates(diagnosis, subject, row, "the claim", &certificate, "have a new claim made and put in its place");
        judge_permission(diagnosis, subject, row);
    }
    key_free(key);
}

static void judge_import(struct diagnosis *diagnosis, const struct diagnosis_subject *subject, const char *row) {
    static const char advice[] = "`enrollctl request`, have it signed, `enrollctl import`";
    struct staged staged = {0};
    static struct certificate certificate;
    struct failure failure;
    if (subject->staged == NULL && subject->provisioned) {
        diagnosis_add(diagnosis, row, DIAGNOSIS_SKIPPED, "", "nothing was imported since the identity is in use");
        return;
    }
    if (subject->staged == NULL) {
        diagnosis_add(diagnosis, row, verdict_of(subject), advice, "no certificate was imported");
        return;
    }
    const char *wrong = staged_parse(subject->staged, subject->staged_size, &staged);
    if (wrong != NULL || staged.certificate_pem == NULL)
        diagnosis_add(diagnosis, row, verdict_of(subject), advice, "%s",
                      wrong != NULL ? wrong : "a request waits for its certificate");
    else if (certificate_parse(staged.certificate_pem, strlen(staged.certificate_pem), STEP_CERTIFICATE, &certificate,
                               &failure) < 0)
        diagnosis_add_failure(diagnosis, row, &failure, advice);
    else
        add_dates(diagnosis, subject, row, "the imported certificate", &certificate,
                  "have another one issued for the same request, and `enrollctl import` it");
    staged_clear(&staged);
}

/* Of options that cannot be read: what they name, or they themselves. */
static const char *options_advice(const struct failure *failure) {
    return failure->unusable
               ? "a credential belongs into /etc/credstore, 0600 root, see docs/credentials.md; another file "
                 "must be there, and the group enrolld-worker must be able to read it"
               : "enrolld.conf(5), `enrollctl plugins METHOD`";
}

static bool has_claim(const struct enrolld_plugin *plugin, const struct enrolld_method *method,
                      const struct options *options) {
    unsigned found = 0;
    for (const struct enrolld_option *option = method->options; option->name != NULL;
         option = plugin_next_option(plugin, option))
        if (option->type == ENROLLD_OPTION_FILE &&
            (strcmp(option->name, "Certificate") == 0 || strcmp(option->name, "PrivateKey") == 0))
            found += options_get(options, option->name) != NULL;
    return found == 2;
}

void diagnose_method(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    const struct enrolld_plugin *plugin = NULL;
    /* Whatever the serial number is: its own row says. */
    const struct specifier_values values = {.serial_number = "0"};
    struct options *options = NULL;
    struct failure failure;
    char row[DIAGNOSIS_WHAT_MAX];
    diagnosis_method_row(subject->method, row);
    if (plugin_load(subject->method, configuration_find(subject->configuration, "Agent", "Methods"), &plugin,
                    &failure) < 0) {
        diagnosis_add_failure(diagnosis, row, &failure, "`enrollctl plugins` lists what is installed");
        return;
    }
    if (options_read(subject->configuration, plugin, subject->method, ENROLLD_USE_ENROLL, &values, &options, &failure) <
        0) {
        bool gone = failure.unusable && !subject->settings->keep_claim, destroyed = gone && subject->provisioned;
        diagnosis_add(diagnosis, row, destroyed ? DIAGNOSIS_SKIPPED : verdict_of(subject),
                      destroyed ? "" : options_advice(&failure), "%s%s", failure.message,
                      destroyed ? ", as KeepClaim=no says"
                      : gone    ? OPTIONS_CLAIM_GONE
                                : "");
        return;
    }
    const struct enrolld_method *method = plugin_method(plugin, subject->method);
    if (method->imports)
        judge_import(diagnosis, subject, row);
    else if (has_claim(plugin, method, options))
        judge_claim(diagnosis, subject, row, options);
    else
        diagnosis_add(diagnosis, row, DIAGNOSIS_OK, "", "its settings can be used");
    options_free(options);
}
