/* What is said about the retirement of a certificate, on RetireTopic= and the topics of its acknowledgement. Pure: text
 * in, text out; what is read is hostile. */
#pragma once

#include "worker/certificate.h"

#include <stdbool.h>
#include <stddef.h>

#define RETIREMENT_SIZE (2 * CERTIFICATE_ID_SIZE + 32)
#define RETIREMENT_REASON_SIZE 256

/* {"old": ..., "new": ...} */
void retirement_print(const char *old_id, const char *new_id, char text[RETIREMENT_SIZE]);

/* True if an answer, {"old": ID} or {"old": ID, "message": TEXT}, is about this certificate: where devices share a
 * topic, or an answer comes late, it may be about another one. reason: what it says, made printable and cut to fit; ""
 * for nothing. */
bool retirement_is_about(const char *payload, size_t size, const char *old_id, char reason[RETIREMENT_REASON_SIZE]);

/* Takes the next id of a list with blanks between. Returns 1, 0 at its end, -1 if it is no id of a certificate. */
int retirement_next(const char **list, char id[CERTIFICATE_ID_SIZE]);
