/* The device's serial number: where it comes from, and what may not pass as one. */
#pragma once

#include "common/failure.h"

#include <stddef.h>

#define SERIAL_MAX 64 /* with its NUL; a common name takes 64 characters (RFC 5280, ub-common-name), wolfSSL 63 */

/* Pure: NULL if the text can be a serial number, else what is wrong with it: empty, too long, an OEM placeholder,
 * or characters that AWS IoT refuses in a thing name ([a-zA-Z0-9:_-], API reference, ThingName). */
const char *serial_judge(const char *serial);

/* Finds the serial number by SerialNumber=: auto (device tree, then DMI), devicetree, dmi, machine-id, file:PATH or
 * literal:TEXT. Class `invalid`, step STEP_CONFIGURATION; the message names the source and what was found there. */
int serial_resolve(const char *source, char ret[SERIAL_MAX], struct failure *failure);
