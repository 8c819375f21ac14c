#include "daemon/log-control.h"

#include "daemon/log.h"

#include <string.h>

static const char *const level_names[] = {
    [LOG_EMERG] = "emerg",     [LOG_ALERT] = "alert",   [LOG_CRIT] = "crit", [LOG_ERR] = "err",
    [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice", [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};
#define LEVEL_COUNT ((int)(sizeof level_names / sizeof *level_names))

static log_control_authorize *authorize;

static int get_level(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                     void *data, sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)property, (void)data, (void)error;
    return sd_bus_message_append(reply, "s", level_names[log_get_level()]);
}

static int set_level(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *value,
                     void *data, sd_bus_error *error) {
    const char *name = NULL;
    (void)bus, (void)path, (void)interface, (void)property, (void)data;
    int r = authorize(value, error);
    if (r >= 0)
        r = sd_bus_message_read(value, "s", &name);
    if (r < 0)
        return r;
    for (int level = 0; level < LEVEL_COUNT; level++)
        if (strcmp(name, level_names[level]) == 0) {
            log_set_level(level);
            return 0;
        }
    return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                            "The level must be emerg, alert, crit, err, warning, notice, info or debug");
}

static int get_target(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                      void *data, sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)property, (void)data, (void)error;
    return sd_bus_message_append(reply, "s", log_get_target() == LOG_TARGET_JOURNAL ? "journal" : "console");
}

static int set_target(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *value,
                      void *data, sd_bus_error *error) {
    const char *name = NULL;
    (void)bus, (void)path, (void)interface, (void)property, (void)data;
    int r = authorize(value, error);
    if (r >= 0)
        r = sd_bus_message_read(value, "s", &name);
    if (r < 0)
        return r;
    if (strcmp(name, "auto") == 0)
        log_open();
    else if (strcmp(name, "journal") == 0)
        log_set_target(LOG_TARGET_JOURNAL);
    else if (strcmp(name, "console") == 0)
        log_set_target(LOG_TARGET_CONSOLE);
    else
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, "The target must be auto, journal or console");
    return 0;
}

static int get_identifier(sd_bus *bus, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *data, sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)property, (void)data, (void)error;
    return sd_bus_message_append(reply, "s", "enrolld");
}

/* Callers are judged by authorize(); the flag only switches off the library's own rule. */
static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_WRITABLE_PROPERTY("LogLevel", "s", get_level, set_level, 0, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_WRITABLE_PROPERTY("LogTarget", "s", get_target, set_target, 0, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("SyslogIdentifier", "s", get_identifier, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_VTABLE_END,
};

int log_control_open(sd_bus *bus, log_control_authorize *judge) {
    authorize = judge;
    return sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1", vtable,
                                    NULL);
}
