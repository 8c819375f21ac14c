#include "ctl/follow.h"

#include "ctl/status.h"
#include "ctl/steps.h"
#include "ctl/terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define BUSY_PATIENCE_USEC (60 * UINT64_C(1000000))
#define BUSY_AGAIN_USEC UINT64_C(1000000)
/* Above the second that the daemon leaves between two connections. */
#define SLOW_USEC (3 * UINT64_C(1000000))

static enum exit_code complain_about_wait(const struct watch *watch) {
    const struct property_error *error = &watch->properties.values[PROPERTY_LAST_ERROR].error;
    if (!watch->present) {
        fputs("enrollctl: timed out: enrolld is not running: " BUS_HOW_TO_START "\n", stderr);
        return EXIT_CODE_TIMED_OUT;
    }
    fprintf(stderr, "enrollctl: timed out: not provisioned yet, the state is %s",
            properties_text(&watch->properties, PROPERTY_STATE));
    if (error->class != NULL && error->class[0] != '\0')
        fprintf(stderr, " after %s: %s: %s", error->class, error->step, error->message);
    fputc('\n', stderr);
    return EXIT_CODE_TIMED_OUT;
}

enum exit_code follow_wait(sd_bus *bus, uint64_t timeout) {
    AUTO_WATCH struct watch watch = {0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    uint64_t now = watch_now();
    uint64_t deadline = timeout < WATCH_FOREVER - now ? now + timeout : WATCH_FOREVER;
    int r = watch_init(&watch, bus, deadline, &error);
    while (r >= 0) {
        if (watch.present && properties_provisioned(&watch.properties))
            return EXIT_CODE_DONE;
        r = watch_next(&watch, deadline, &error);
        if (r == 0)
            return complain_about_wait(&watch);
    }
    if (!bus_daemon_is_silent(r, &error))
        return bus_complain("cannot wait for the identity", r, &error);
    fputs("enrollctl: timed out: enrolld does not answer: " BUS_WHAT_IT_DOES "\n", stderr);
    return EXIT_CODE_TIMED_OUT;
}

static enum exit_code complain_about_job(const struct watch_event *event) {
    fprintf(stderr, "enrollctl: %s %s%s%s\n", event->verb, event->result, event->detail[0] != '\0' ? ": " : "",
            event->detail);
    return EXIT_CODE_FAILED;
}

static bool has_changed(const struct watch_event *event, enum property property) {
    return (event->changed & UINT32_C(1) << property) != 0;
}

/* And the method, where one takes the place of another. */
static void print_step(FILE *stream, const struct watch *watch) {
    const char *step = properties_text(&watch->properties, PROPERTY_STEP), *words = step_describe(step);
    const char *method = properties_text(&watch->properties, PROPERTY_METHOD);
    if (has_changed(&watch->event, PROPERTY_METHOD) && method[0] != '\0')
        fprintf(stream, "method %s\n", method);
    if (has_changed(&watch->event, PROPERTY_STEP) && step[0] != '\0')
        fprintf(stream, "step %s%s%s%s%s\n", step, terminal_colour(TERMINAL_FAINT), words != NULL ? ": " : "",
                words != NULL ? words : "", terminal_plain());
}

/* Says `slow`, and that once, where nothing comes for a while; NULL: nothing. */
static int next_event(struct watch *watch, const char **slow, sd_bus_error *error) {
    const char *text = *slow;
    *slow = NULL;
    int r = watch_next(watch, text != NULL ? watch_now() + SLOW_USEC : WATCH_FOREVER, error);
    if (r != 0)
        return r;
    fprintf(stderr, "enrollctl: waiting: %s.\n", text);
    return watch_next(watch, WATCH_FOREVER, error);
}

static enum exit_code follow(struct watch *watch, uint32_t job, const char *what, FILE *steps, const char *slow) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    const struct watch_event *event = &watch->event;
    int r;
    while ((r = next_event(watch, &slow, &error)) > 0) {
        if (event->type == WATCH_VANISHED) {
            fprintf(stderr, "enrollctl: %s: enrolld has ended meanwhile. %s\n", what,
                    steps != NULL ? "It goes on at its next start: `enrollctl wait`." : "Call again once it runs.");
            return EXIT_CODE_NO_DAEMON;
        }
        if (event->type == WATCH_JOB_REMOVED && event->number == job)
            return strcmp(event->result, "done") == 0 ? EXIT_CODE_DONE : complain_about_job(event);
        if (event->type == WATCH_CHANGED && steps != NULL)
            print_step(steps, watch);
    }
    return bus_complain(what, r, &error);
}

enum exit_code follow_job(struct watch *watch, uint32_t job, const char *what, FILE *steps) {
    return follow(watch, job, what, steps, NULL);
}

static enum exit_code print_identity(struct watch *watch) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    printf("%sdone%s", terminal_colour(TERMINAL_GREEN), terminal_plain());
    if (bus_get_properties(watch->bus, BUS_USUAL_TIMEOUT, &watch->properties, &error) >= 0)
        printf(": thing %s, certificate %s, generation %" PRIu32,
               properties_text(&watch->properties, PROPERTY_THING_NAME),
               properties_text(&watch->properties, PROPERTY_CERTIFICATE_ID),
               watch->properties.values[PROPERTY_GENERATION].number);
    puts("");
    return EXIT_CODE_DONE;
}

enum exit_code follow_enroll(sd_bus *bus) {
    static const char what[] = "cannot enroll";
    AUTO_WATCH struct watch watch = {0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    uint32_t job = 0;
    int r = watch_init(&watch, bus, WATCH_USUAL_PATIENCE, &error);
    if (r >= 0)
        r = bus_start_job(bus, &job, &error, "Enroll", "");
    if (r < 0)
        return bus_complain(what, r, &error);
    enum exit_code code = follow_job(&watch, job, what, stdout);
    return code == EXIT_CODE_DONE ? print_identity(&watch) : code;
}

/* Behind what the daemon does just now, as after a reload, where it looks at the identity first. */
static int start_in_turn(struct watch *watch, const char *method, uint32_t *ret_job, sd_bus_error *error) {
    uint64_t deadline = watch_now() + BUSY_PATIENCE_USEC;
    for (;;) {
        int r = bus_start_job(watch->bus, ret_job, error, method, "");
        if (r >= 0 || !sd_bus_error_has_name(error, BUS_NAME ".Error.Busy") || watch_now() >= deadline)
            return r;
        sd_bus_error_free(error);
        uint64_t again = watch_now() + BUSY_AGAIN_USEC;
        while ((r = watch_next(watch, again, error)) > 0 && watch->event.type != WATCH_JOB_REMOVED)
            if (watch->event.type == WATCH_VANISHED)
                return -ENOTCONN;
        if (r < 0)
            return r;
    }
}

/* What is done with an identity that is there. A daemon that does not run is not started for it: one that has just
 * begun has no identity yet that it has looked at. */
static enum exit_code follow_use(struct watch *watch, sd_bus *bus, const char *method, const char *what,
                                 const char *slow) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    uint32_t job = 0;
    int r = watch_init(watch, bus, WATCH_USUAL_PATIENCE, &error);
    if (r >= 0)
        r = watch->present ? start_in_turn(watch, method, &job, &error) : -ENOTCONN;
    if (r >= 0)
        return follow(watch, job, what, stdout, slow);
    enum exit_code code = bus_complain(what, r, &error);
    return sd_bus_error_has_name(&error, BUS_NAME ".Error.NoIdentity") ? EXIT_CODE_NOT_PROVISIONED : code;
}

enum exit_code follow_renew(sd_bus *bus) {
    AUTO_WATCH struct watch watch = {0};
    enum exit_code code = follow_use(&watch, bus, "Renew", "cannot renew the identity", NULL);
    if (code == EXIT_CODE_FAILED && watch.event.type == WATCH_JOB_REMOVED)
        fputs("The identity of before stays in use; `enrollctl status` says when it is tried again.\n", stderr);
    return code == EXIT_CODE_DONE ? print_identity(&watch) : code;
}

enum exit_code follow_check(sd_bus *bus) {
    AUTO_WATCH struct watch watch = {0};
    enum exit_code code = follow_use(&watch, bus, "Check", "cannot check the identity",
                                     "looks are 30 seconds apart, and come after what runs");
    return code == EXIT_CODE_DONE ? print_identity(&watch) : code;
}

/* Local time of day with milliseconds: steps take a few of them. */
static void print_time(void) {
    struct timespec now;
    struct tm local;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    printf("%s%02d:%02d:%02d.%03d%s ", terminal_colour(TERMINAL_FAINT), local.tm_hour, local.tm_min, local.tm_sec,
           (int)(now.tv_nsec / 1000000), terminal_plain());
}

static const char *colour_of(const struct properties *properties, enum property property) {
    if (property == PROPERTY_STATE)
        return terminal_colour(status_colour(properties));
    bool is_bad = property == PROPERTY_LAST_ERROR && property_is_set(properties, property);
    return is_bad ? terminal_colour(TERMINAL_RED) : "";
}

static void print_changed(const struct properties *properties, uint32_t changed) {
    for (enum property property = 0; property < PROPERTY_COUNT; property++)
        if (changed & UINT32_C(1) << property) {
            const char *colour = colour_of(properties, property);
            print_time();
            printf("%s=%s", property_name(property), colour);
            property_print(stdout, properties, property);
            puts(colour[0] != '\0' ? terminal_plain() : "");
        }
}

static void print_presence(const struct watch *watch) {
    uint32_t set = 0;
    print_time();
    puts(watch->present ? "enrolld is running" : "enrolld is not running");
    for (enum property property = 0; property < PROPERTY_COUNT; property++)
        if (property_is_set(&watch->properties, property))
            set |= UINT32_C(1) << property;
    if (watch->present)
        print_changed(&watch->properties, set);
}

static void print_event(const struct watch *watch) {
    const struct watch_event *event = &watch->event;
    switch (event->type) {
    case WATCH_NOTHING:
        break;
    case WATCH_APPEARED:
    case WATCH_VANISHED:
        print_presence(watch);
        break;
    case WATCH_CHANGED:
        print_changed(&watch->properties, event->changed);
        break;
    case WATCH_JOB_REMOVED:
        print_time();
        printf("JobRemoved %" PRIu32 " %s %s %s\n", event->number, event->verb, event->result, event->detail);
        break;
    case WATCH_IDENTITY_CHANGED:
        print_time();
        printf("IdentityChanged %" PRIu32 "\n", event->number);
        break;
    }
}

enum exit_code follow_monitor(sd_bus *bus) {
    AUTO_WATCH struct watch watch = {0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = watch_init(&watch, bus, WATCH_USUAL_PATIENCE, &error);
    if (r >= 0)
        print_presence(&watch);
    while (r >= 0 && (r = watch_next(&watch, WATCH_FOREVER, &error)) > 0)
        print_event(&watch);
    return bus_complain("cannot follow enrolld", r, &error);
}
