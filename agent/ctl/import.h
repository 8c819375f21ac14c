/* `enrollctl import`. */
#pragma once

#include "ctl/bus.h"

#include <stdbool.h>

/* Hands over the certificate with its chain, and the private key if there is one in `chain` or in `key` (NULL: none
 * named); each a path, or "-" for standard input. Prints the certificateId once it is staged. wipe: then destroys the
 * files that held the private key. */
enum exit_code import_run(sd_bus *bus, const char *chain, const char *key, bool wipe);
