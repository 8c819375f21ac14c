/* Changes that an operator makes while the stand-in runs. Each is one JSON object in a file NAME.json that is put into
 * the folder `edits` by rename; it is applied within a tenth of a second, removed, and told in the event "edit":
 *   {"certificate": ID, "status": "ACTIVE", "INACTIVE" or "REVOKED"}
 *   {"deleteThing": NAME}
 *   {"clockOffset": SECONDS}      moves the clock of tokens, pending certificates and expiry
 *   {"fault": {...}}              see fault.h
 *   {"faults": "clear"}           removes all
 *   {"options": {NAME: VALUE}}    see option.h; as long as the broker runs
 *   {"template": NAME, "body": {...} or its text, "enabled": BOOLEAN, "type": "FLEET_PROVISIONING" or "JITP"}
 *                                 body, enabled and type may be absent
 *   {"function": NAME, "file": PATH, "policy": PATH, "environment": {NAME: TEXT}}
 *                                 see function.h; policy and environment may be absent
 *   {"policy": NAME, "document": {...}}
 *   {"registerAuthority": PEM, "status": "ACTIVE" or "INACTIVE", "autoRegistrationStatus": "ENABLE" or "DISABLE",
 *    "certificateMode": "DEFAULT" or "SNI_ONLY", "registrationConfig": {"templateBody": TEXT} or {"templateName":
 * NAME}} all but the first may be absent: ACTIVE, ENABLE, DEFAULT, no template. There is no proof of possession of the
 * key; that is for the control plane
 *   {"authority": ID, ...}        changes status, autoRegistrationStatus and registrationConfig as far as they are
 * there
 *   {"deleteAuthority": ID} */
#pragma once

#include "standin.h"

/* Applies what is in the folder, in the order of the names. */
void edit_tick(struct standin *standin);
