#include "daemon/handover.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"

#include <errno.h>
#include <string.h>

int handover_configuration(const struct configuration *configuration, int *ret_file, struct failure *failure) {
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    int file = configuration_serialize(configuration, &text, &size);
    if (file == 0)
        file = memfd_create_sealed("configuration", text, size);
    if (file == -EFBIG)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "the configuration is too large: %zu bytes with the path and the section of each setting, "
                           "at most %d KiB",
                           size, MEMFD_SIZE_MAX / 1024);
    if (file < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "cannot hand over the configuration: %s",
                           strerror(-file));
    *ret_file = file;
    return 0;
}
