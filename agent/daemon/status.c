#include "daemon/status.h"

#include <stdio.h>
#include <string.h>

const char *status_state_name(enum agent_state state) {
    switch (state) {
    case STATE_CHECKING:
        return "checking";
    case STATE_WAITING_CLOCK:
        return "waiting-clock";
    case STATE_ENROLLING:
        return "enrolling";
    case STATE_BACKOFF:
        return "backoff";
    case STATE_FAILED:
        return "failed";
    case STATE_PROVISIONED:
        return "provisioned";
    case STATE_RENEWING:
        return "renewing";
    }
    return "";
}

void status_make_good(struct status *status, uint64_t error_time_usec) {
    if (status->error.time_usec == error_time_usec)
        memset(&status->error, 0, sizeof status->error);
}

void status_set_text(char *member, size_t size, const char *text) {
    memset(member, 0, size);
    snprintf(member, size, "%s", text);
}
