/* The record of attempts that outlives a reboot, so that a boot loop does not hammer the cloud: the content of the
 * file `retry` in the state directory, see record.h. Pure functions. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>
#include <stdint.h>

#define RETRY_TEXT_MAX 256 /* bytes, with the NUL */

struct retry {
    uint32_t attempts; /* begun in a row without success */
    bool begun;        /* the last of them has not ended yet */
    enum failure_class class;
    uint64_t next_usec; /* CLOCK_REALTIME: not before that */
};

void retry_format(const struct retry *retry, char text[RETRY_TEXT_MAX]);

/* -EBADMSG if a line is missing or wrong, *ret is then untouched. */
int retry_parse(const char *text, struct retry *ret);
