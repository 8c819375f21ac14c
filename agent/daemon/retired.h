/* The certificates that this device has replaced, and that the cloud has not been told of yet: the content of the file
 * `retire` in the state directory, a line with its id for each, the oldest first. Pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define RETIRED_MAX 16 /* more than that would be one that is never told: the oldest goes */
#define RETIRED_ID_SIZE 65
#define RETIRED_TEXT_MAX (RETIRED_MAX * RETIRED_ID_SIZE + 1) /* with the NUL */

/* Text is padded with zeros to the end, so that two lists may be compared as memory. */
struct retired {
    size_t count;
    char ids[RETIRED_MAX][RETIRED_ID_SIZE];
};

void retired_format(const struct retired *retired, char text[RETIRED_TEXT_MAX]);
/* -EBADMSG for anything but lines with ids (AWS IoT DescribeCertificate: 64 hexadecimal digits), *ret is then
 * untouched. */
int retired_parse(const char *text, struct retired *ret);

/* Adds one that is not there yet, in place of the oldest if it is full: dropped gets that, or "". False if this is no
 * id. */
bool retired_add(struct retired *retired, const char *id, char dropped[RETIRED_ID_SIZE]);
/* True if it was there. */
bool retired_remove(struct retired *retired, const char *id);
