#include "worker/clock.h"

#include "common/job.h"
#include "common/synchronisation.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

bool clock_is_synchronised(const struct message *job) {
    const char *told = message_get(job, JOB_KEY_SYNCHRONISED);
    return told != NULL ? strcmp(told, "yes") == 0 : synchronisation_is_there(NULL);
}

void clock_print(int64_t seconds, char text[CLOCK_TEXT_SIZE]) {
    struct tm parts;
    time_t time = (time_t)seconds;
    if (gmtime_r(&time, &parts) == NULL || strftime(text, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(text, CLOCK_TEXT_SIZE, "%lld", (long long)seconds);
}
