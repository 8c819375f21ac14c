#include "worker/renewal.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "worker/child.h"
#include "worker/clock.h"
#include "worker/job-staged.h"
#include "worker/options.h"
#include "worker/plugin-loader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* Reading a module from a slow flash, no more. */
#define LOAD_TIMEOUT_S 20

/* In memory that is shared with the process that loads the method. */
struct judgement {
    const char *method;
    const struct configuration *configuration;
    bool ended;   /* it was judged to the end */
    bool imports; /* it takes what was imported, and that is still to be looked at */
    char hindrance[FAILURE_MESSAGE_MAX];
};

const char *renewal_method(const struct settings *settings, const struct identity *identity) {
    if (strcmp(settings->renew_method, "none") == 0)
        return "";
    return settings->renew_method[0] != '\0' ? settings->renew_method : identity->method;
}

/* In a process of its own. */
static void judge_method(void *data) {
    struct judgement *judgement = data;
    const struct enrolld_plugin *plugin = NULL;
    struct failure failure = {0};
    if (plugin_load(judgement->method, NULL, &plugin, &failure) == 0) {
        judgement->imports = plugin_method(plugin, judgement->method)->imports;
        if (!plugin_can_renew(plugin))
            (void)failure_set(&failure, FAILURE_INVALID, STEP_CONFIGURATION,
                              "the method %s cannot renew anything: name another one by RenewMethod= in [Renewal]",
                              judgement->method);
        else
            (void)options_check(judgement->configuration, plugin, judgement->method, ENROLLD_USE_RENEW, &failure);
    }
    memcpy(judgement->hindrance, failure.message, sizeof judgement->hindrance);
    judgement->ended = true;
}

__attribute__((format(printf, 2, 3))) static void set(char hindrance[FAILURE_MESSAGE_MAX], const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(hindrance, FAILURE_MESSAGE_MAX, format, arguments);
    va_end(arguments);
}

static void judge_in_child(struct judgement *judgement) {
    int r = child_run(judge_method, judgement, LOAD_TIMEOUT_S);
    if (r == 0 && judgement->ended)
        return;
    if (r > 0)
        set(judgement->hindrance, "the plugin of the method %s crashes when it is loaded (%s): install it again",
            judgement->method, strsignal(r));
    else
        set(judgement->hindrance, "the plugin of the method %s cannot be loaded: %s", judgement->method,
            r < 0 ? strerror(-r) : "it ends its process");
}

/* What is staged is for a renewal only if it is another certificate, and a newer one. */
static void judge_imported(const struct message *job, const struct current *current, const char *method,
                           char hindrance[FAILURE_MESSAGE_MAX]) {
    CLEANUP(staged_clear) struct staged staged = {.private_pem = NULL};
    const struct certificate *used = &current->certificate;
    struct certificate certificate;
    struct failure failure;
    char date[CLOCK_TEXT_SIZE];
    if (staged_read(job, &staged, &failure) < 0)
        set(hindrance, "%s", failure.message);
    else if (staged.certificate_pem == NULL)
        set(hindrance, "%s needs a new certificate: %s", method,
            staged.request_pem != NULL ? "have the request signed and `enrollctl import` what comes back"
                                       : "`enrollctl request`, then `enrollctl import` what comes back");
    else if (certificate_parse(staged.certificate_pem, strlen(staged.certificate_pem), STEP_CERTIFICATE, &certificate,
                               &failure) < 0)
        set(hindrance, "the imported certificate cannot be used: %s", failure.message);
    else if (strcmp(certificate.id, used->id) == 0 || certificate.not_before < used->not_before)
        set(hindrance,
            "the imported certificate %.16s... is not newer than the one in use: `enrollctl import` a new one",
            certificate.id);
    else if (clock_is_synchronised(job) && (int64_t)time(NULL) > certificate.not_after) {
        clock_print(certificate.not_after, date);
        set(hindrance, "the imported certificate expired on %s: `enrollctl import` a new one", date);
    }
}

bool renewal_judge(const struct message *job, const struct configuration *configuration,
                   const struct settings *settings, const struct current *current,
                   char hindrance[FAILURE_MESSAGE_MAX]) {
    const char *method = renewal_method(settings, &current->identity);
    hindrance[0] = '\0';
    if (method[0] == '\0') {
        set(hindrance, "RenewMethod=none in [Renewal]");
        return false;
    }
    struct judgement *judgement =
        mmap(NULL, sizeof *judgement, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (judgement == MAP_FAILED) {
        set(hindrance, "the method %s cannot be looked at: %s", method, strerror(errno));
        return false;
    }
    judgement->method = method;
    judgement->configuration = configuration;
    judge_in_child(judgement);
    if (judgement->hindrance[0] != '\0')
        set(hindrance, "%s", judgement->hindrance);
    else if (judgement->imports)
        judge_imported(job, current, method, hindrance);
    bool imported = judgement->imports && hindrance[0] == '\0';
    munmap(judgement, sizeof *judgement);
    return imported;
}
