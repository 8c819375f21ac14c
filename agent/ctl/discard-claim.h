/* The verb discard-claim: destroys the secrets that this device enrolls by. */
#pragma once

#include "ctl/bus.h"

#include <stdbool.h>

/* Overwrites and removes the files that the methods of Methods= name for an enrolment: those of options that are files,
 * /PATH, and credential:ID in the credential stores of /etc. Which files these are is read from root's configuration,
 * `path` or NULL for configuration_load_of_root(); the daemon only tells which options are files. Only for root, only
 * while there is an identity in use, and without KeepClaim=no only with `yes`. Says of each what became of it.
 * EXIT_CODE_DONE: none of them is there any more. */
enum exit_code discard_claim_run(sd_bus *bus, const char *path, bool yes);
