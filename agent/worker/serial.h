/* The device's serial number: where it comes from, and what may not pass as one. */
#pragma once

#include "common/failure.h"
#include "common/settings.h"
#include "worker/tpm-endorsement.h"

#include <stddef.h>

#define SERIAL_MAX 64 /* with its NUL; a common name takes 64 characters (RFC 5280, ub-common-name) */

/* Pure: NULL if the text can be a serial number, else what is wrong with it: empty, too long, an OEM placeholder,
 * or characters that AWS IoT refuses in a thing name ([a-zA-Z0-9:_-], API reference, ThingName). */
const char *serial_judge(const char *serial);

/* Pure: puts the replacement in the place of each character that AWS IoT refuses (of each byte, if the text is not
 * UTF-8). */
void serial_replace(char *serial, char replacement);

/* Finds the serial number by SerialNumber=: auto (the first that is there of device tree, DMI and the TPM's endorsement
 * key), devicetree, dmi, tpm-ek, machine-id, file:PATH or literal:TEXT; with SerialNumberReplacement= applied.
 * *endorsement is filled when it was needed. Class `invalid`, step STEP_CONFIGURATION; the message names the source and
 * what was found there; class `tpm`, step STEP_KEY, for a TPM that does not tell. */
int serial_resolve(const struct settings *settings, struct tpm_endorsement *endorsement, char ret[SERIAL_MAX],
                   struct failure *failure);
