/* `enrollctl plugins`. */
#pragma once

#include "ctl/bus.h"

/* Lists the provisioning methods with the first line of their help, or prints the whole help of one (NULL: list). */
enum exit_code plugins_run(sd_bus *bus, const char *method);
