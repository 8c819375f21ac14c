#include "common/configuration.h"
#include "common/job.h"
#include "common/step.h"
#include "worker/job-staged.h"
#include "worker/jobs.h"
#include "worker/options.h"
#include "worker/plugin-loader.h"
#include "worker/report.h"

#include <string.h>

static int check_methods(const struct configuration *configuration, const struct settings *settings,
                         struct failure *failure) {
    const struct configuration_entry *methods = configuration_find(configuration, "Agent", "Methods");
    const struct enrolld_plugin *plugin = NULL;
    for (size_t i = 0; i < settings->method_count; i++) {
        if (plugin_load(settings->methods[i], methods, &plugin, failure) < 0 ||
            options_check(configuration, plugin, settings->methods[i], ENROLLD_USE_ENROLL, failure) < 0)
            return -1;
        if (!report_has_channel())
            options_print_unset(configuration, plugin, settings->methods[i]);
    }
    return 0;
}

/* Only of a method that is named: that of an identity may be any, and whoever lets it renew as it can is told by its
 * hindrance. */
static int check_renewals(const struct configuration *configuration, const struct settings *settings,
                          struct failure *failure) {
    const struct configuration_entry *entry = configuration_find(configuration, "Renewal", "RenewMethod");
    const char *method = settings->renew_method;
    const struct enrolld_plugin *plugin = NULL;
    if (method[0] == '\0' || strcmp(method, "none") == 0)
        return 0;
    if (plugin_load(method, entry, &plugin, failure) < 0)
        return -1;
    if (!plugin_can_renew(plugin))
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s:%u: RenewMethod=%s cannot renew anything",
                           entry->file, entry->line, method);
    return options_check(configuration, plugin, method, ENROLLD_USE_RENEW, failure);
}

int job_check_configuration(struct message *job, struct message *result, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    const struct specifier_values values = {.serial_number = "0"}; /* in the place of one */
    struct subject subject;
    struct settings settings;
    if (job_read_configuration(job, &configuration, &settings, failure) < 0 ||
        subject_parse(settings.subject, &values, &subject, failure) < 0 ||
        staged_check_names(&settings, &subject, failure) < 0)
        return -1;
    if (check_methods(configuration, &settings, failure) < 0 || check_renewals(configuration, &settings, failure) < 0)
        return -1;
    (void)message_add(result, JOB_KEY_METHOD, settings.methods[0]);
    return 0;
}
