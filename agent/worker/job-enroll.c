#include "common/configuration.h"
#include "common/job.h"
#include "worker/enrollment.h"
#include "worker/jobs.h"

int job_enroll(struct message *job, struct message *result, bool *resume, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    struct settings settings;
    struct enrollment enrollment = {.settings = &settings, .failure = failure};
    if (job_read_configuration(job, &configuration, &settings, failure) < 0)
        return -1;
    enrollment.method =
        message_get(job, JOB_KEY_METHOD) != NULL ? message_get(job, JOB_KEY_METHOD) : settings.methods[0];
    return enrollment_run(&enrollment, configuration, job, result, resume);
}
