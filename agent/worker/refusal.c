#include "worker/refusal.h"

bool refusal_is_beyond_doubt(const struct failure *failure, bool was_accepted) {
    return was_accepted && failure->class == FAILURE_DENIED && failure->reached && !failure->wordless;
}
