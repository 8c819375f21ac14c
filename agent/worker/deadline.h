/* A deadline for one host call that may block inside a library, such as a TPM command. When it passes, the worker
 * reports the failure from the signal handler and ends: its end is a handled event, being stuck is not. */
#pragma once

#include "common/failure.h"

void deadline_start(unsigned seconds, enum failure_class class, const char *step, const char *what);
void deadline_stop(void);
