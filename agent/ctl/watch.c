#include "ctl/watch.h"

#include "common/text.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define CALL_TIMEOUT_MIN 1000000 /* microseconds */

static void copy_text(char *target, size_t size, const char *text) {
    size_t length = strnlen(text, size - 1);
    memcpy(target, text, length);
    target[length] = '\0';
    text_make_printable(target);
}

static int on_properties_changed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error) {
    struct watch *watch = userdata;
    const char *interface;
    (void)ret_error;
    int r = sd_bus_message_read(message, "s", &interface);
    if (r < 0 || strcmp(interface, BUS_INTERFACE) != 0)
        return r < 0 ? r : 0;
    r = properties_read(&watch->properties, message, &watch->event.changed);
    if (r < 0)
        return r;
    watch->event.type = WATCH_CHANGED;
    return 0;
}

static int on_job_removed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error) {
    struct watch_event *event = &((struct watch *)userdata)->event;
    const char *verb, *result, *detail;
    (void)ret_error;
    int r = sd_bus_message_read(message, "usss", &event->number, &verb, &result, &detail);
    if (r < 0)
        return r;
    copy_text(event->verb, sizeof event->verb, verb);
    copy_text(event->result, sizeof event->result, result);
    copy_text(event->detail, sizeof event->detail, detail);
    event->type = WATCH_JOB_REMOVED;
    return 0;
}

static int on_identity_changed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error) {
    struct watch_event *event = &((struct watch *)userdata)->event;
    (void)ret_error;
    int r = sd_bus_message_read(message, "u", &event->number);
    if (r < 0)
        return r;
    event->type = WATCH_IDENTITY_CHANGED;
    return 0;
}

static int on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error) {
    struct watch *watch = userdata;
    const char *name, *old_owner, *new_owner;
    (void)ret_error;
    int r = sd_bus_message_read(message, "sss", &name, &old_owner, &new_owner);
    if (r < 0)
        return r;
    properties_clear(&watch->properties);
    watch->event.type = new_owner[0] != '\0' ? WATCH_APPEARED : WATCH_VANISHED;
    return 0;
}

/* The time that is left to ask the daemon something; a moment also at the very end, so that what is known then is not
 * nothing. */
static uint64_t call_timeout(const struct watch *watch) {
    if (watch->patience == WATCH_USUAL_PATIENCE)
        return BUS_USUAL_TIMEOUT;
    if (watch->patience == WATCH_FOREVER)
        return WATCH_FOREVER;
    uint64_t now = watch_now();
    return watch->patience > now + CALL_TIMEOUT_MIN ? watch->patience - now : CALL_TIMEOUT_MIN;
}

/* The properties of a daemon that may be absent, or go while it is asked. */
static int refresh(struct watch *watch, sd_bus_error *error) {
    int r = bus_get_properties(watch->bus, call_timeout(watch), &watch->properties, error);
    watch->present = r >= 0;
    if (r >= 0 || !bus_daemon_is_absent(r, error))
        return r;
    sd_bus_error_free(error);
    return 0;
}

int watch_init(struct watch *watch, sd_bus *bus, uint64_t patience, sd_bus_error *error) {
    int r;
    *watch = (struct watch){.bus = bus, .patience = patience};
    if ((r = sd_bus_match_signal(bus, NULL, BUS_NAME, BUS_PATH, "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                 on_properties_changed, watch)) < 0 ||
        (r = sd_bus_match_signal(bus, NULL, BUS_NAME, BUS_PATH, BUS_INTERFACE, "JobRemoved", on_job_removed, watch)) <
            0 ||
        (r = sd_bus_match_signal(bus, NULL, BUS_NAME, BUS_PATH, BUS_INTERFACE, "IdentityChanged", on_identity_changed,
                                 watch)) < 0 ||
        (r = sd_bus_add_match(bus, NULL,
                              "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                              "member='NameOwnerChanged',arg0='" BUS_NAME "'",
                              on_owner_changed, watch)) < 0)
        return r;
    return refresh(watch, error);
}

void watch_clear(struct watch *watch) {
    properties_clear(&watch->properties);
}

uint64_t watch_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int watch_next(struct watch *watch, uint64_t deadline, sd_bus_error *error) {
    watch->event = (struct watch_event){.type = WATCH_NOTHING};
    for (;;) {
        /* One message is dispatched at a time, so there is one event at most. */
        int r = sd_bus_process(watch->bus, NULL);
        if (r < 0)
            return r;
        if (watch->event.type == WATCH_VANISHED)
            watch->present = false;
        if (watch->event.type == WATCH_APPEARED)
            r = refresh(watch, error);
        if (watch->event.type != WATCH_NOTHING)
            return r < 0 ? r : 1;
        if (r > 0)
            continue;
        uint64_t now = watch_now();
        if (now >= deadline)
            return 0;
        r = sd_bus_wait(watch->bus, deadline == WATCH_FOREVER ? WATCH_FOREVER : deadline - now);
        if (r < 0 && r != -EINTR)
            return r;
    }
}
