#include "ctl/bus.h"

#include "common/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum exit_code bus_open(sd_bus **ret) {
    int r = sd_bus_open_system(ret);
    if (r >= 0)
        return EXIT_CODE_DONE;
    fprintf(stderr,
            "enrollctl: cannot connect to the system bus: %s. Is dbus running, is DBUS_SYSTEM_BUS_ADDRESS right?\n",
            strerror(-r));
    return EXIT_CODE_NO_DAEMON;
}

int bus_get_properties(sd_bus *bus, uint64_t timeout, struct properties *properties, sd_bus_error *error) {
    AUTO_MESSAGE sd_bus_message *call = NULL, *reply = NULL;
    uint32_t changed;
    int r = sd_bus_message_new_method_call(bus, &call, BUS_NAME, BUS_PATH, "org.freedesktop.DBus.Properties", "GetAll");
    if (r < 0 || (r = sd_bus_message_append(call, "s", BUS_INTERFACE)) < 0 ||
        (r = sd_bus_message_set_auto_start(call, 0)) < 0 || (r = sd_bus_call(bus, call, timeout, error, &reply)) < 0)
        return r;
    return properties_read(properties, reply, &changed);
}

int bus_call(sd_bus *bus, uint64_t timeout, sd_bus_message **ret_reply, sd_bus_error *error, const char *method,
             const char *types, ...) {
    AUTO_MESSAGE sd_bus_message *call = NULL;
    va_list arguments;
    int r = sd_bus_message_new_method_call(bus, &call, BUS_NAME, BUS_PATH, BUS_INTERFACE, method);
    va_start(arguments, types);
    if (r >= 0)
        r = sd_bus_message_appendv(call, types, arguments);
    va_end(arguments);
    if (r >= 0)
        r = sd_bus_message_set_auto_start(call, 0);
    return r < 0 ? r : sd_bus_call(bus, call, timeout, error, ret_reply);
}

int bus_start_job(sd_bus *bus, uint32_t *ret_job, sd_bus_error *error, const char *method, const char *types, ...) {
    AUTO_MESSAGE sd_bus_message *reply = NULL;
    va_list arguments;
    va_start(arguments, types);
    int r = sd_bus_call_methodv(bus, BUS_NAME, BUS_PATH, BUS_INTERFACE, method, error, &reply, types, arguments);
    va_end(arguments);
    return r < 0 ? r : sd_bus_message_read(reply, "u", ret_job);
}

bool bus_daemon_is_absent(int r, const sd_bus_error *error) {
    static const char *const names[] = {
        SD_BUS_ERROR_SERVICE_UNKNOWN,
        SD_BUS_ERROR_NAME_HAS_NO_OWNER,
        SD_BUS_ERROR_NO_REPLY, /* the bus says so when the holder of the name goes away without an answer */
        SD_BUS_ERROR_DISCONNECTED,
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sd_bus_error_has_name(error, names[i]))
            return true;
    return r == -ENOTCONN || r == -ECONNRESET;
}

bool bus_daemon_is_silent(int r, const sd_bus_error *error) {
    return r == -ETIMEDOUT || sd_bus_error_has_name(error, SD_BUS_ERROR_TIMEOUT);
}

/* The daemon itself names the group when it refuses; dbus-daemon and dbus-broker, by a policy, name rules or nothing.
 */
static bool is_policy(const sd_bus_error *error) {
    static const char *const beginnings[] = {"Rejected send message", "Sender is not authorized"};
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (strncmp(error->message, beginnings[i], strlen(beginnings[i])) == 0)
            return sd_bus_error_has_name(error, SD_BUS_ERROR_ACCESS_DENIED);
    return false;
}

const char *bus_error_text(int r, const sd_bus_error *error) {
    if (error->message == NULL)
        return strerror(-r);
    return is_policy(error) ? "this is for root and members of the group enrolld-admin" : error->message;
}

static const char *advice(const sd_bus_error *error) {
    if (sd_bus_error_has_name(error, BUS_NAME ".Error.AlreadyProvisioned"))
        return " `enrollctl status` shows it, `enrollctl renew` replaces it, `enrollctl forget` starts over.";
    if (sd_bus_error_has_name(error, BUS_NAME ".Error.Busy"))
        return " Try again after `enrollctl wait --timeout=60`.";
    return "";
}

enum exit_code bus_complain(const char *what, int r, const sd_bus_error *error) {
    if (bus_daemon_is_absent(r, error)) {
        fprintf(stderr, "enrollctl: %s: enrolld is not running: " BUS_HOW_TO_START "\n", what);
        return EXIT_CODE_NO_DAEMON;
    }
    if (bus_daemon_is_silent(r, error)) {
        fprintf(stderr, "enrollctl: %s: enrolld does not answer: " BUS_WHAT_IT_DOES "\n", what);
        return EXIT_CODE_NO_DAEMON;
    }
    AUTO_FREE char *message = strdup(bus_error_text(r, error));
    if (message == NULL) {
        fprintf(stderr, "enrollctl: %s: out of memory.\n", what);
        return EXIT_CODE_FAILED;
    }
    text_make_printable(message);
    fprintf(stderr, "enrollctl: %s: %s.%s\n", what, message, advice(error));
    return EXIT_CODE_FAILED;
}
