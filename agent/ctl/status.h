/* `enrollctl status`. */
#pragma once

#include "ctl/bus.h"
#include "ctl/terminal.h"

#include <stdbool.h>

#include <systemd/sd-bus.h>

/* Prints the state for people, or with `json` for programs. EXIT_CODE_DONE if the device is provisioned,
 * EXIT_CODE_NOT_PROVISIONED if it is not. */
enum exit_code status_run(sd_bus *bus, bool json);

/* Of the state, for people. */
enum terminal_colour status_colour(const struct properties *properties);
