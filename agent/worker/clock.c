#include "worker/clock.h"

#include <stdio.h>
#include <sys/timex.h>
#include <time.h>

bool clock_is_synchronised(void) {
    struct timex clock = {0};
    return adjtimex(&clock) >= 0 && (clock.status & STA_UNSYNC) == 0;
}

void clock_print(int64_t seconds, char text[CLOCK_TEXT_SIZE]) {
    struct tm parts;
    time_t time = (time_t)seconds;
    if (gmtime_r(&time, &parts) == NULL || strftime(text, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(text, CLOCK_TEXT_SIZE, "%lld", (long long)seconds);
}
