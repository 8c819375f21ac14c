#include "common/synchronisation.h"

#include <limits.h>
#include <stdio.h>
#include <sys/timex.h>
#include <unistd.h>

#define TIMESYNC_DIRECTORY "/run/systemd/timesync"

static bool has_file(const char *directory) {
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/synchronized", directory);
    return length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0;
}

static bool kernel_is_told(void) {
    struct timex clock = {0};
    return adjtimex(&clock) >= 0 && (clock.status & STA_UNSYNC) == 0;
}

bool synchronisation_is_there(const char *directory) {
    return directory != NULL ? has_file(directory) : has_file(TIMESYNC_DIRECTORY) || kernel_is_told();
}
