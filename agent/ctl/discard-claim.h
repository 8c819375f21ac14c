/* The verb discard-claim: destroys the secrets that this device enrolls by. */
#pragma once

#include "ctl/bus.h"

/* Overwrites and removes the files that the methods of Methods= name for an enrolment: those of options that are files,
 * /PATH, and credential:ID in the credential stores of /etc. Only for root, and only while there is an identity in use.
 * Says of each what became of it. EXIT_CODE_DONE: none of them is there any more. */
enum exit_code discard_claim_run(sd_bus *bus);
