/* What the world sees of the daemon: the properties of org.enrolld1.Agent. The agent writes it, the bus compares it
 * with what it published last and signals the differences, so text is padded with zeros. */
#pragma once

#include "common/failure.h"
#include "common/settings.h"
#include "common/volatile.h"
#include "daemon/identity.h"
#include "daemon/methods.h"
#include "daemon/retired.h"

enum agent_state {
    STATE_CHECKING,      /* a worker without network looks at the identity that is there */
    STATE_WAITING_CLOCK, /* an enrolment begins when the clock can be believed, at next_attempt_usec at the latest if
                          * that is set */
    STATE_ENROLLING,     /* a worker gets a new one */
    STATE_BACKOFF,       /* a transient failure: the next attempt comes at next_attempt_usec */
    STATE_FAILED,        /* needs an operator; attempted again all the same, slowly */
    STATE_PROVISIONED,   /* the identity in use is good */
    STATE_RENEWING,      /* the same, and a worker gets its successor */
};

struct status_error {
    char class[16];
    char step[FAILURE_STEP_MAX];
    char message[FAILURE_MESSAGE_MAX];
    uint64_t time_usec;
};

struct status {
    enum agent_state state;
    char method[SETTINGS_METHOD_MAX]; /* of the identity, or of the attempts */
    struct method_state methods[SETTINGS_METHODS_MAX];
    size_t method_count;
    char step[FAILURE_STEP_MAX]; /* while a job runs */
    uint32_t attempt;            /* begun in a row without success */
    uint64_t next_attempt_usec;  /* since the epoch, 0 for none */
    struct status_error error;   /* the last failure until the next success */
    uint32_t generation;         /* with identity and directory: while provisioned */
    struct identity identity;
    uint64_t renew_after_usec; /* while provisioned: its successor is due then, by this rule; 0 for never */
    char renew_rule[16];
    char renew_hindrance[FAILURE_MESSAGE_MAX]; /* why it is never due, for people; or "" */
    struct retired retired;                    /* certificates that were replaced, and may still be active */
    uint64_t refused_since_usec;               /* the cloud refuses the identity in use; 0: not that it is known */
    const char *credential_directory;          /* never NULL */
    enum volatility volatile_state;            /* whether all of it is gone after the next boot; it never changes */
};

/* "checking" ... */
const char *status_state_name(enum agent_state state);

/* What this error told of, by its time, is good now: it is cleared if it still stands. */
void status_make_good(struct status *status, uint64_t error_time_usec);

/* Sets a text member. */
void status_set_text(char *member, size_t size, const char *text);
