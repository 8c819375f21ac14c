/* Records that outlive a reboot: text of lines NAME=VALUE, each ended by a newline, in any order. Pure functions. */
#pragma once

#include <stdint.h>

#define RECORD_VALUE_SIZE 24 /* with the NUL: a number of 64 bits has 20 digits */

/* The value of the one line that has this name; lines with other names, those of a newer version, are skipped.
 * -EBADMSG if there is none or more than one, if the value is too long, or if anything in the text is no such line;
 * value is then untouched. */
int record_value(const char *text, const char *name, char value[RECORD_VALUE_SIZE]);
/* The same of a decimal number of at most `max`. */
int record_number(const char *text, const char *name, uint64_t max, uint64_t *ret);
