/* `enrollctl export`. */
#pragma once

#include "ctl/bus.h"

#include <stdbool.h>

/* Prints the certificate with its chain in PEM, or with `json` one line for bulk registration (AWS IoT Developer Guide,
 * "Bulk registration"), for which a request that waits will do. EXIT_CODE_NOT_PROVISIONED if there is none. */
enum exit_code export_run(sd_bus *bus, bool json);
