/* The wall clock. TLS judges certificates by their dates, and a device that keeps no time while it is off starts at the
 * date of its software: so an enrolment waits until the clock can be believed. */
#pragma once

#include "common/failure.h"

#include <systemd/sd-event.h>

#include <stdbool.h>
#include <stdint.h>

/* The longest wait: until something changes. */
#define CLOCK_WITHOUT_END UINT64_MAX

enum clock_trust {
    CLOCK_SYNCHRONISED, /* somebody has set it */
    CLOCK_PLAUSIBLE,    /* nobody has, as far as can be seen, but nothing speaks against it */
    CLOCK_IMPLAUSIBLE,  /* it is earlier than what has happened already */
};

/* Times in microseconds since the epoch. */
struct clock_reading {
    bool synchronised;
    uint64_t now_usec;
    uint64_t build_usec;       /* when enrolld was built */
    uint64_t epoch_usec;       /* the modification time of /usr/lib/clock-epoch (systemd(1)), 0 if that is not there */
    uint64_t certificate_usec; /* from when the newest certificate is valid that was in use here, 0 for none */
};

/* Looks at the clock and at what it is judged by. directory: in place of the system's own places, where the files
 * `synchronized` and `clock-epoch` are looked for; or NULL. */
struct clock_reading clock_read(const char *directory, uint64_t certificate_usec);

/* --- pure --- */

enum clock_trust clock_judge(const struct clock_reading *reading);

/* How long an enrolment still has to wait; 0: it may begin. up_usec: since the start of the daemon, which at boot is
 * about that of whatever will set the clock; patience_usec: ClockWait=. */
uint64_t clock_wait_usec(const struct clock_reading *reading, uint64_t up_usec, uint64_t patience_usec);

/* Why it waits, and what somebody may do: class `clock`, for a clock that is not synchronised. */
void clock_explain(const struct clock_reading *reading, struct failure *ret);

/* --- the clock is set --- */

struct clock_watch;

/* A descriptor that can be read when the clock is set: to another time, not slowly moved there, nor only said to be
 * right (TFD_TIMER_CANCEL_ON_SET in timerfd_create(2); sd-event has no such thing). A negative errno. */
int clock_open(void);

/* Calls `changed` when the clock was set. fd: of clock_open(), its own from now on. */
int clock_watch_new(sd_event *event, int fd, void (*changed)(void *data), void *data, struct clock_watch **ret);
struct clock_watch *clock_watch_free(struct clock_watch *watch);
