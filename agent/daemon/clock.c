#include "daemon/clock.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "common/synchronisation.h"
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>

#define USEC_PER_S 1000000ULL
#define EPOCH_DIRECTORY "/usr/lib"
#define DATE_SIZE 24

static uint64_t timespec_usec(const struct timespec *time) {
    return time->tv_sec > 0 ? (uint64_t)time->tv_sec * USEC_PER_S + (uint64_t)time->tv_nsec / 1000 : 0;
}

static uint64_t modification_usec(const char *directory, const char *name) {
    char path[PATH_MAX];
    struct stat status;
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    bool found = length > 0 && (size_t)length < sizeof path && stat(path, &status) == 0;
    return found ? timespec_usec(&status.st_mtim) : 0;
}

struct clock_reading clock_read(const char *directory, uint64_t certificate_usec) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (struct clock_reading){
        .synchronised = synchronisation_is_there(directory),
        .now_usec = timespec_usec(&now),
        .build_usec = BUILD_TIME * USEC_PER_S,
        .epoch_usec = modification_usec(directory != NULL ? directory : EPOCH_DIRECTORY, "clock-epoch"),
        .certificate_usec = certificate_usec,
    };
}

/* --- pure --- */

/* The latest time that is known to have been, and what tells it. */
static uint64_t floor_usec(const struct clock_reading *reading, const char **ret_what) {
    uint64_t latest = reading->build_usec;
    *ret_what = "enrolld was built";
    if (reading->epoch_usec > latest) {
        latest = reading->epoch_usec;
        *ret_what = "this system was made (clock-epoch)";
    }
    if (reading->certificate_usec > latest) {
        latest = reading->certificate_usec;
        *ret_what = "this device got its last certificate";
    }
    return latest;
}

enum clock_trust clock_judge(const struct clock_reading *reading) {
    const char *what;
    if (reading->synchronised)
        return CLOCK_SYNCHRONISED;
    return reading->now_usec >= floor_usec(reading, &what) ? CLOCK_PLAUSIBLE : CLOCK_IMPLAUSIBLE;
}

uint64_t clock_wait_usec(const struct clock_reading *reading, uint64_t up_usec, uint64_t patience_usec) {
    switch (clock_judge(reading)) {
    case CLOCK_SYNCHRONISED:
        return 0;
    case CLOCK_PLAUSIBLE:
        return patience_usec > up_usec ? patience_usec - up_usec : 0;
    case CLOCK_IMPLAUSIBLE:
        break;
    }
    return CLOCK_WITHOUT_END;
}

static void print_date(uint64_t usec, char text[DATE_SIZE]) {
    struct tm parts;
    time_t time = (time_t)(usec / USEC_PER_S);
    if (gmtime_r(&time, &parts) == NULL || strftime(text, DATE_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(text, DATE_SIZE, "%lld", (long long)time);
}

void clock_explain(const struct clock_reading *reading, struct failure *ret) {
    static const char remedy[] = "An enrolment needs the date to judge certificates, and begins by itself as soon "
                                 "as the clock is set: is there a time service, and does it reach its servers "
                                 "(timedatectl, chronyc tracking)? By hand: timedatectl set-time";
    char now[DATE_SIZE], floor[DATE_SIZE];
    const char *what;
    print_date(reading->now_usec, now);
    print_date(floor_usec(reading, &what), floor);
    if (clock_judge(reading) == CLOCK_IMPLAUSIBLE)
        failure_record(ret, FAILURE_CLOCK, STEP_CLOCK, "the clock is not set: it says %s, but on %s %s. %s", now, floor,
                       what, remedy);
    else
        failure_record(ret, FAILURE_CLOCK, STEP_CLOCK,
                       "the clock says %s, and nobody has confirmed that yet. An enrolment begins as soon as it is "
                       "synchronised, without that after ClockWait=; `enrollctl enroll` does not wait",
                       now);
}

/* --- the clock is set --- */

struct clock_watch {
    int fd;
    void (*changed)(void *data);
    void *data;
    sd_event_source *source;
};

/* At the end of all time. ECANCELED: the clock was set in between, and the timer runs all the same. */
static int arm(int fd) {
    const struct itimerspec end = {.it_value.tv_sec =
                                       (time_t)(sizeof(time_t) > 4 ? INT64_MAX / 1000000000 : INT32_MAX)};
    if (timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &end, NULL) < 0 && errno != ECANCELED)
        return -errno;
    return 0;
}

int clock_open(void) {
    AUTO_CLOSE int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    int r = arm(fd);
    return r < 0 ? r : take_fd(&fd);
}

static int on_set(sd_event_source *source, int fd, uint32_t events, void *data) {
    struct clock_watch *watch = data;
    uint64_t ignored;
    (void)source, (void)events;
    ssize_t size = read(fd, &ignored, sizeof ignored);
    if (size < 0 && errno == EAGAIN)
        return 0;
    watch->changed(watch->data);
    return 0;
}

int clock_watch_new(sd_event *event, int fd, void (*changed)(void *data), void *data, struct clock_watch **ret) {
    struct clock_watch *watch = calloc(1, sizeof *watch);
    int r = watch != NULL ? 0 : -ENOMEM;
    if (r == 0) {
        *watch = (struct clock_watch){.fd = fd, .changed = changed, .data = data};
        r = sd_event_add_io(event, &watch->source, fd, EPOLLIN, on_set, watch);
    }
    if (r < 0) {
        if (watch == NULL)
            cleanup_close(&fd);
        clock_watch_free(watch);
        return r;
    }
    *ret = watch;
    return 0;
}

struct clock_watch *clock_watch_free(struct clock_watch *watch) {
    if (watch == NULL)
        return NULL;
    sd_event_source_disable_unref(watch->source);
    cleanup_close(&watch->fd);
    free(watch);
    return NULL;
}
