/* `enrollctl config`: the configuration in force, with the place that each value comes from. */
#pragma once

#include "ctl/bus.h"

/* Prints what enrolld.conf would say: sections, KEY=VALUE, and the origin as a comment behind it. */
enum exit_code configuration_run(sd_bus *bus);
