/* D-Bus: the interface org.freedesktop.LogControl1 at /org/freedesktop/LogControl1 (org.freedesktop.LogControl1(5)), by
 * which `systemctl service-log-level enrolld debug` works. */
#pragma once

#include <systemd/sd-bus.h>

/* 0 for callers who may change something, else an error that is set. */
typedef int log_control_authorize(sd_bus_message *message, sd_bus_error *error);

int log_control_open(sd_bus *bus, log_control_authorize *authorize);
