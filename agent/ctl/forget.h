/* `enrollctl forget`. */
#pragma once

#include "ctl/bus.h"

#include <stdbool.h>

/* Has the device forget its identity for good, and says what remains to be done in the cloud. Unless `sure`, somebody
 * must say "yes" on the terminal first: EXIT_CODE_USAGE where standard input is none. */
enum exit_code forget_run(sd_bus *bus, bool sure);
