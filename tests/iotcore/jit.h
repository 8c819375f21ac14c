/* Just-in-time registration (JITR) and provisioning (JITP): what a CONNECT with a certificate sets going that a
 * registered authority has signed. Source: AWS IoT Core Developer Guide, "Just-in-time provisioning" and "Automatic
 * registration of device certificates". */
#pragma once

#include "arrival.h"
#include "standin.h"

/* Registers an unknown certificate as PENDING_ACTIVATION, or meets it once more in that state: tells subscribers, and,
 * if the authority has a template, provisions after jitp_delay. Such a connection is refused in any case. Returns
 * NULL, or why one that is unknown or PENDING_ACTIVATION sets nothing going. */
const char *jit_connect(struct standin *standin, const struct arrival *arrival);

/* Provisions what is due. */
void jit_tick(struct standin *standin);
void jit_clear(struct standin *standin);
