/* That the cloud refuses the identity in use: the content of the file `refused` in the state directory, see record.h.
 * Pure functions.
 *
 * How long it has done so is not the difference of two dates, since a device may learn in between what year it is: it
 * is the time between refusals that were seen, without a start of the daemon between them. */
#pragma once

#include <stdint.h>

#define REFUSAL_TEXT_MAX 128 /* bytes, with the NUL */

struct refusal {
    uint32_t generation;  /* which is refused; 0: none is */
    uint64_t since_usec;  /* CLOCK_REALTIME of the first refusal, for people */
    uint64_t lasted_usec; /* between refusals */
};

void refusal_format(const struct refusal *refusal, char text[REFUSAL_TEXT_MAX]);

/* -EBADMSG if a line is missing or wrong, *ret is then untouched. */
int refusal_parse(const char *text, struct refusal *ret);
