/* What becomes of the identity in use: will it be renewed, are those before it retired, does the cloud still take it?
 */
#pragma once

#include "ctl/bus.h"
#include "ctl/findings.h"
#include "ctl/properties.h"

/* Adds the rows renewal, retirement and refusal, as far as there is something to say. Nothing without an identity. */
void doctor_look_at_renewal(sd_bus *bus, const struct properties *properties, struct findings *findings);
