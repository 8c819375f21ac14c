/* enrolld on the system bus, seen from a client, and the exit codes that follow from what the bus says. */
#pragma once

#include "common/cleanup.h"
#include "ctl/properties.h"

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-bus.h>

#define BUS_NAME "org.enrolld1"
#define BUS_PATH "/org/enrolld1"
#define BUS_INTERFACE "org.enrolld1.Agent"

/* What to do about a daemon that is not there, or does not answer. */
#define BUS_HOW_TO_START "systemctl start enrolld; `journalctl -u enrolld` says why it has ended"
#define BUS_WHAT_IT_DOES "`journalctl -u enrolld` shows what it does"

/* Documented in --help. */
enum exit_code {
    EXIT_CODE_DONE = 0,
    EXIT_CODE_FAILED = 1,
    EXIT_CODE_USAGE = 2,
    EXIT_CODE_NOT_PROVISIONED = 3,
    EXIT_CODE_TIMED_OUT = 4,
    EXIT_CODE_NO_DAEMON = 5, /* or it does not answer */
};

#define AUTO_BUS CLEANUP(sd_bus_flush_close_unrefp)
#define AUTO_MESSAGE CLEANUP(sd_bus_message_unrefp)
#define AUTO_BUS_ERROR CLEANUP(sd_bus_error_free)

/* Connects to the system bus (DBUS_SYSTEM_BUS_ADDRESS). Returns EXIT_CODE_DONE; otherwise it has said why not. */
enum exit_code bus_open(sd_bus **ret);

/* How long the daemon may take to answer, in microseconds: what the library takes unless told otherwise, 25 s. */
#define BUS_USUAL_TIMEOUT UINT64_C(0)

/* Reads all properties of the agent. It does not start the daemon: looking changes nothing. timeout: microseconds,
 * BUS_USUAL_TIMEOUT or UINT64_MAX for none. Returns 0 or a negative errno, with the details in *error. */
int bus_get_properties(sd_bus *bus, uint64_t timeout, struct properties *properties, sd_bus_error *error);

/* Calls a method of the agent, with these arguments (sd_bus_message_append(3)). It does not start the daemon: what this
 * is for looks, or is about something that runs. ret_reply: NULL where nothing comes back. Otherwise as above. */
int bus_call(sd_bus *bus, uint64_t timeout, sd_bus_message **ret_reply, sd_bus_error *error, const char *method,
             const char *types, ...);

/* Calls a method that starts a job, with these arguments (sd_bus_message_append(3)): gives the number of the job.
 * Starts the daemon where it is bus-activated. */
int bus_start_job(sd_bus *bus, uint32_t *ret_job, sd_bus_error *error, const char *method, const char *types, ...);

/* True if the error means that nobody holds the name, or that its holder has just gone. */
bool bus_daemon_is_absent(int r, const sd_bus_error *error);

/* True if the daemon is there and has not answered in time. */
bool bus_daemon_is_silent(int r, const sd_bus_error *error);

/* What the error says, for people. Borrowed from the error, or static. */
const char *bus_error_text(int r, const sd_bus_error *error);

/* Says on stderr what failed and what to do; returns the exit code that fits. */
enum exit_code bus_complain(const char *what, int r, const sd_bus_error *error);
