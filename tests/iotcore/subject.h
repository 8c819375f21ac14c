/* The attributes of a certificate's names, for policy variables and for the parameters of JITP templates. Pure
 * functions.
 */
#pragma once

#include "rejection.h"

#include <json-c/json.h>
#include <openssl/x509.h>

/* The first value of the attribute as UTF-8 from malloc(); NULL if the name has none, or one with a NUL in it. */
char *subject_value(const X509_NAME *name, int identifier);

/* The parameters that just-in-time provisioning takes from the certificate for a template that declares them:
 * AWS::IoT::Certificate::Country, ::Organization, ::OrganizationalUnit, ::DistinguishedNameQualifier, ::StateName,
 * ::CommonName, ::SerialNumber (the attributes of its subject) and ::Id ("Just-in-time provisioning"). declared may be
 * NULL. Returns 0 with a map that the caller owns; or -1 if a declared one is none of these, or the certificate lacks
 * it: provisioning fails then. A Default does not help. */
int subject_parameters(const X509 *certificate, const char *certificate_id, struct json_object *declared,
                       struct json_object **ret, struct rejection *rejection);
