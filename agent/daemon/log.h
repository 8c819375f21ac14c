/* Messages to standard error, one line each; with the priority prefixes of sd-daemon(3) when that is the journal. */
#pragma once

#include <syslog.h>

/* Finds out whether standard error is the journal (JOURNAL_STREAM of systemd.exec(5)). */
void log_open(void);

/* Writes one line; control characters in it become blanks. priority: LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO. */
void log_message(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));
