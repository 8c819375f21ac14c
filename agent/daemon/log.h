/* Messages, one line each: to the journal when standard error is the journal, else to standard error. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>
#include <syslog.h>

/* What an operator may have to act on: each has a MESSAGE_ID= and a text in systemd/enrolld.catalog. */
enum log_event {
    LOG_EVENT_NONE,
    LOG_EVENT_PROVISIONED,
    LOG_EVENT_LOST,
    LOG_EVENT_ATTEMPT_FAILED, /* repeated, for a reason that may pass */
    LOG_EVENT_NEEDS_OPERATOR, /* repeated, for a reason that hardly passes */
    LOG_EVENT_CONFIGURATION_REFUSED,
    LOG_EVENT_CLOCK_NOT_SET,  /* an enrolment waits until somebody sets it */
    LOG_EVENT_VOLATILE_STATE, /* what is in the state directory will be lost */
    LOG_EVENT_FORGOTTEN,      /* on request */
    LOG_EVENT_RENEWAL_FAILED, /* repeated; the certificate stays in use */
    LOG_EVENT_EXPIRES,        /* the certificate does soon, and nothing will renew it */
    LOG_EVENT_REFUSED,        /* the cloud refuses the identity in use */
    LOG_EVENT_NOT_RETIRED,    /* the cloud was not told that a certificate is replaced; repeated */
};

enum log_target { LOG_TARGET_CONSOLE, LOG_TARGET_JOURNAL };

/* Takes the journal for the target if standard error is connected to it (JOURNAL_STREAM of systemd.exec(5)). */
void log_open(void);

void log_set_target(enum log_target target);
enum log_target log_get_target(void);

/* What is less important than this is dropped: LOG_EMERG to LOG_DEBUG, LOG_INFO at first. */
void log_set_level(int level);
int log_get_level(void);

/* Writes one line; control characters in it become blanks. priority: LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO. */
void log_message(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for an event. failure: what it is about, for ENROLLD_CLASS= and ENROLLD_STEP=, or NULL. */
void log_event(enum log_event event, const struct failure *failure, int priority, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
