/* The record of attempts that outlives a reboot, so that a boot loop does not hammer the cloud: the content of the
 * file `retry` in the state directory, see record.h. Pure functions. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>
#include <stdint.h>

#define RETRY_TEXT_MAX 256 /* bytes, with the NUL */
/* A server may ask for any pause; a worker or a file that lies must not put the device off for years. */
#define RETRY_AFTER_MAX_S 86400

struct retry {
    uint32_t attempts; /* begun in a row without success */
    bool begun;        /* the last of them has not ended yet */
    enum failure_class class;
    uint64_t next_usec; /* CLOCK_REALTIME: not before that */
    uint32_t asked_s;   /* as the server asked for at least that, 0: it did not */
};

void retry_format(const struct retry *retry, char text[RETRY_TEXT_MAX]);

/* -EBADMSG if a line is missing or wrong, *ret is then untouched; but for asked=, which is 0 then: an older version has
 * written none. */
int retry_parse(const char *text, struct retry *ret);
