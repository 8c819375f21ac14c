/* The units of enrolld, as PID 1 sees them. */
#pragma once

#include "ctl/findings.h"

#include <systemd/sd-bus.h>

void doctor_look_at_units(sd_bus *bus, struct findings *findings);
