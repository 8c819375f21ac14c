/* The verbs that follow the daemon: wait, enroll, renew, check, monitor; and the end of a job, for others. */
#pragma once

#include "ctl/bus.h"
#include "ctl/watch.h"

#include <stdint.h>
#include <stdio.h>

#include <systemd/sd-bus.h>

#define FOLLOW_NO_TIMEOUT UINT64_MAX

/* Returns when the device is provisioned (EXIT_CODE_DONE), whether or not the daemon runs yet, or after the timeout in
 * microseconds (EXIT_CODE_TIMED_OUT). */
enum exit_code follow_wait(sd_bus *bus, uint64_t timeout);

/* Starts an enrolment, or joins the one that runs, prints its steps as they come, and returns its result. An
 * interrupted enrollctl leaves the enrolment running. */
enum exit_code follow_enroll(sd_bus *bus);

/* The same of a renewal of the identity in use, and of a look at it: the files and the key here, then whether the cloud
 * accepts it. EXIT_CODE_NOT_PROVISIONED: there is none. */
enum exit_code follow_renew(sd_bus *bus);
enum exit_code follow_check(sd_bus *bus);

/* Waits for the end of a job that was started while the watch was on. EXIT_CODE_DONE: watch->event is its JobRemoved;
 * otherwise stderr says `what` failed and why. Prints the steps as they come to `steps` (NULL: does not). */
enum exit_code follow_job(struct watch *watch, uint32_t job, const char *what, FILE *steps);

/* Prints all properties, then each change and signal as one line with its time, until it is interrupted or
 * the bus goes. */
enum exit_code follow_monitor(sd_bus *bus);
