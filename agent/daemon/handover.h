/* Handing the configuration over to a worker: it goes as one file, so its size has a limit. */
#pragma once

#include "common/configuration.h"
#include "common/failure.h"

/* Makes a sealed memfd with the whole configuration, which the caller closes. Class `invalid`, step `configuration`, if
 * it is larger than a file on the channel may be (MEMFD_SIZE_MAX); class `internal`, step `worker`, for anything else.
 */
int handover_configuration(const struct configuration *configuration, int *ret_file, struct failure *failure);
