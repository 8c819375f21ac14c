/* `enrollctl cancel` and `enrollctl reload`. */
#pragma once

#include "ctl/bus.h"

/* job: its number, 0 for the one that runs. */
enum exit_code control_cancel(sd_bus *bus, uint32_t job);
enum exit_code control_reload(sd_bus *bus);
