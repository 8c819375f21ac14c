#include "common/synchronisation.h"

#include <sys/timex.h>

bool synchronisation_is_there(void) {
    struct timex clock = {0};
    return adjtimex(&clock) >= 0 && (clock.status & STA_UNSYNC) == 0;
}
