#include "common/cleanup.h"
#include "common/configuration.h"
#include "common/job.h"
#include "common/step.h"
#include "worker/current.h"
#include "worker/enrollment.h"
#include "worker/jobs.h"
#include "worker/renewal.h"

static int renew(struct enrollment *enrollment, struct current *current, const struct configuration *configuration,
                 struct message *job, struct message *result, bool *resume) {
    const char *method = message_get(job, JOB_KEY_METHOD);
    struct failure *failure = enrollment->failure;
    /* Before the first byte that others have made: the certificate in use is such. */
    if (enrollment_lock_down(enrollment) < 0)
        return -1;
    if (current_read(job, current, failure) < 0 || current_judge(current, failure) < 0)
        return -1;
    enrollment->method = method != NULL ? method : renewal_method(enrollment->settings, &current->identity);
    if (enrollment->method[0] == '\0')
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "RenewMethod=none in [Renewal]");
    return enrollment_run(enrollment, configuration, job, result, resume);
}

int job_renew(struct message *job, struct message *result, bool *resume, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    CLEANUP(current_clear) struct current current = {.key = NULL};
    struct settings settings;
    struct enrollment enrollment = {.settings = &settings, .failure = failure, .current = &current};
    if (job_read_configuration(job, &configuration, &settings, failure) < 0)
        return -1;
    return renew(&enrollment, &current, configuration, job, result, resume);
}
