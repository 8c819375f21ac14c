/* `enrollctl status --json`: one object on one line. Its members are named as the D-Bus properties are:
 *
 *     s        a string, "" for none: Version, State, Method, Step, ThingName, SerialNumber, CertificateId, KeyBackend,
 *              KeyAlgorithm, KeyOrigin, CredentialDirectory
 *     u        an integer: Attempt, Generation
 *     t        an integer, microseconds since the epoch, 0 for none: NextAttempt, NotBefore, NotAfter, RenewAfter
 *     as       an array of strings: Endpoints
 *     a(sss)   Methods: an array of objects of Name, Outcome, Message (strings); Outcome is "" (not tried), "trying",
 *              "done", "unusable", or the class of the failure
 *     (ssst)   LastError: an object of Class, Step, Message (strings) and
 * Time (as above); null for none
 *
 * Members may be added; the ones above stay. */
#pragma once

#include "ctl/properties.h"

/* Prints it to stdout. Returns 0 or -ENOMEM. */
int status_json_print(const struct properties *properties);
