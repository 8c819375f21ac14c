/* `enrollctl doctor`. */
#pragma once

#include "ctl/bus.h"

#include <stdbool.h>

/* Has the daemon look at all that an enrolment needs, looks at the units itself, and prints what is wrong and what to
 * do, or with `json` one object. EXIT_CODE_DONE if nothing is wrong, else EXIT_CODE_FAILED. */
enum exit_code doctor_run(sd_bus *bus, bool json);
