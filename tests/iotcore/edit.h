/* Changes that an operator makes while the stand-in runs. Each is one JSON object in a file NAME.json that is put into
 * the folder `edits` by rename; it is applied within a tenth of a second, removed, and told in the event "edit":
 *   {"certificate": ID, "status": "ACTIVE", "INACTIVE" or "REVOKED"}
 *   {"deleteThing": NAME}
 *   {"clockOffset": SECONDS}      moves the clock of tokens, pending certificates and expiry
 *   {"fault": {...}}              see fault.h
 *   {"faults": "clear"}           removes all
 *   {"options": {NAME: VALUE}}    see option.h; as long as the broker runs
 *   {"template": NAME, "body": {...} or its text, "enabled": BOOLEAN}   body or enabled may be absent
 *   {"policy": NAME, "document": {...}} */
#pragma once

#include "standin.h"

/* Applies what is in the folder, in the order of the names. */
void edit_tick(struct standin *standin);
