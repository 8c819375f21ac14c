/* Follows the daemon: its properties, its signals, its coming and going. Events are pulled one by one, so that the
 * verbs which wait for something are straight-line code. */
#pragma once

#include "ctl/bus.h"
#include "ctl/properties.h"

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-bus.h>

#define WATCH_TEXT_MAX 1024
#define WATCH_FOREVER UINT64_MAX
#define WATCH_USUAL_PATIENCE UINT64_C(0)

enum watch_event_type {
    WATCH_NOTHING,
    WATCH_APPEARED,         /* the daemon took its name; the properties are new */
    WATCH_VANISHED,         /* it is gone; the properties are empty */
    WATCH_CHANGED,          /* properties changed */
    WATCH_JOB_REMOVED,      /* JobRemoved */
    WATCH_IDENTITY_CHANGED, /* IdentityChanged */
};

struct watch_event {
    enum watch_event_type type;
    uint32_t changed;            /* bits 1 << property */
    uint32_t number;             /* the job, or the generation */
    char verb[32];               /* of the job */
    char result[32];             /* "done", "failed", "canceled" */
    char detail[WATCH_TEXT_MAX]; /* "class: step: message" */
};

struct watch {
    sd_bus *bus;
    uint64_t patience;
    bool present; /* the daemon holds its name */
    struct properties properties;
    struct watch_event event;
};

/* Subscribes, then reads the properties; a daemon that is absent is not an error, one that is silent is. patience:
 * until when a daemon that is there may leave a question unanswered (watch_now(), WATCH_FOREVER), now and at each
 * return of it; WATCH_USUAL_PATIENCE: BUS_USUAL_TIMEOUT each. Returns 0 or a negative errno with details in *error. The
 * bus is borrowed. */
int watch_init(struct watch *watch, sd_bus *bus, uint64_t patience, sd_bus_error *error);

void watch_clear(struct watch *watch);
#define AUTO_WATCH __attribute__((cleanup(watch_clear)))

/* Waits for the next event until the deadline (watch_now(), WATCH_FOREVER). 1: watch->event holds one; 0: the deadline
 * is over; or a negative errno, with details in *error. */
int watch_next(struct watch *watch, uint64_t deadline, sd_bus_error *error);

/* Microseconds of CLOCK_MONOTONIC. */
uint64_t watch_now(void);
