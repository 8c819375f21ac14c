#include "ctl/moment.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define USEC_PER_SEC UINT64_C(1000000)

uint64_t moment_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

const char *moment_format(uint64_t moment, char *text, size_t size) {
    time_t seconds = (time_t)(moment / USEC_PER_SEC);
    struct tm local;
    if (localtime_r(&seconds, &local) == NULL || strftime(text, size, "%Y-%m-%d %H:%M:%S %Z", &local) == 0)
        snprintf(text, size, "an unknown time");
    return text;
}

const char *moment_distance(uint64_t moment, uint64_t now, char *text, size_t size) {
    static const struct {
        uint64_t seconds;
        const char *one, *many;
    } units[] = {
        {365 * 86400, "year", "years"}, {86400, "day", "days"}, {3600, "h", "h"}, {60, "min", "min"}, {1, "s", "s"}};
    uint64_t seconds = (moment > now ? moment - now : now - moment) / USEC_PER_SEC;
    size_t i = 0;
    /* Two of a unit at least: "90 s" says more than "1 min". */
    while (units[i].seconds > 1 && seconds < 2 * units[i].seconds)
        i++;
    uint64_t count = seconds / units[i].seconds;
    snprintf(text, size, "%s%" PRIu64 " %s%s", moment > now ? "in " : "", count,
             count == 1 ? units[i].one : units[i].many, moment > now ? "" : " ago");
    return text;
}
