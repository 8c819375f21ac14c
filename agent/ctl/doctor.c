#include "ctl/doctor.h"

#include "ctl/doctor-renewal.h"
#include "ctl/doctor-units.h"
#include "ctl/findings.h"
#include "ctl/follow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Above the longest that two of the daemon's diagnoses can take, each with two workers. */
#define PATIENCE_USEC (800 * UINT64_C(1000000))

static int read_rows(sd_bus *bus, struct findings *findings, sd_bus_error *error) {
    AUTO_MESSAGE sd_bus_message *reply = NULL;
    const char *what, *verdict, *text, *advice;
    int r = bus_call(bus, BUS_USUAL_TIMEOUT, &reply, error, "GetDiagnosis", "");
    if (r >= 0)
        r = sd_bus_message_enter_container(reply, 'a', "(ssss)");
    while (r >= 0 && (r = sd_bus_message_read(reply, "(ssss)", &what, &verdict, &text, &advice)) > 0)
        findings_add(findings, what, verdict, text, advice);
    return r;
}

/* Until the job has ended, however; 0: the diagnosis that runs. */
static int wait_for_end(struct watch *watch, uint32_t job, uint64_t deadline, sd_bus_error *error) {
    const struct watch_event *event = &watch->event;
    int r;
    while ((r = watch_next(watch, deadline, error)) > 0) {
        if (event->type == WATCH_VANISHED)
            return -ENOTCONN;
        if (event->type == WATCH_JOB_REMOVED &&
            (job != 0 ? event->number == job : strcmp(event->verb, "diagnose") == 0))
            return 0;
    }
    return r < 0 ? r : -ETIMEDOUT;
}

/* Behind one that somebody has begun and left, as by Ctrl-C: that one may have looked at what was mended since. */
static int start(struct watch *watch, uint64_t deadline, uint32_t *ret_job, sd_bus_error *error) {
    for (;;) {
        int r = bus_start_job(watch->bus, ret_job, error, "Diagnose", "");
        if (r >= 0 || !sd_bus_error_has_name(error, BUS_NAME ".Error.Busy"))
            return r;
        sd_bus_error_free(error);
        r = wait_for_end(watch, 0, deadline, error);
        if (r < 0)
            return r;
    }
}

/* The daemon's own words where it did not end well. */
static int diagnose(sd_bus *bus, struct findings *findings, sd_bus_error *error) {
    AUTO_WATCH struct watch watch = {0};
    uint64_t deadline = watch_now() + PATIENCE_USEC;
    uint32_t job = 0;
    int r = watch_init(&watch, bus, WATCH_USUAL_PATIENCE, error);
    if (r >= 0 && !watch.present) /* looking changes nothing: it is not started */
        return -ENOTCONN;
    if (r >= 0)
        r = start(&watch, deadline, &job, error);
    if (r >= 0)
        r = wait_for_end(&watch, job, deadline, error);
    if (r >= 0 && strcmp(watch.event.result, "done") != 0)
        findings_add(findings, "diagnosis", "wrong", watch.event.detail, "call it again");
    if (r >= 0)
        r = read_rows(bus, findings, error);
    if (r >= 0)
        doctor_look_at_renewal(bus, &watch.properties, findings);
    return r;
}

/* What keeps the daemon from a diagnosis is one. */
static void add_failure(struct findings *findings, int r, const sd_bus_error *error) {
    const char *message = bus_error_text(r, error);
    if (bus_daemon_is_absent(r, error))
        findings_add(findings, "daemon", "wrong", "enrolld is not running", BUS_HOW_TO_START);
    else if (bus_daemon_is_silent(r, error))
        findings_add(findings, "daemon", "wrong", "enrolld does not answer", BUS_WHAT_IT_DOES);
    else if (sd_bus_error_has_name(error, BUS_NAME ".Error.InvalidConfiguration"))
        findings_add(findings, "configuration", "wrong", message,
                     "correct it (`enrolld --check-config`), then `enrollctl reload`");
    else if (sd_bus_error_has_name(error, SD_BUS_ERROR_ACCESS_DENIED))
        findings_add(findings, "access", "wrong", message, "call it as one of them");
    else
        findings_add(findings, "diagnosis", "wrong", message, "");
}

enum exit_code doctor_run(sd_bus *bus, bool json) {
    AUTO_FINDINGS struct findings findings = {.count = 0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    doctor_look_at_units(bus, &findings);
    if (!json && isatty(STDERR_FILENO) && isatty(STDOUT_FILENO))
        fputs("Looking...\r", stderr); /* the first row covers it */
    int r = diagnose(bus, &findings, &error);
    if (r < 0)
        add_failure(&findings, r, &error);
    if (!json)
        findings_print(&findings);
    else if (findings_print_json(&findings) < 0) {
        fputs("enrollctl: out of memory.\n", stderr);
        return EXIT_CODE_FAILED;
    }
    return findings_count(&findings, "wrong") == 0 ? EXIT_CODE_DONE : EXIT_CODE_FAILED;
}
