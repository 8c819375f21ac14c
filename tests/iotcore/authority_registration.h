/* What AWS IoT demands of a certificate before it registers it: of an authority, of the certificate that proves who has
 * the authority's key, and of a client. Rejections are 400 CertificateValidationException and
 * RegistrationCodeValidationException. Pure functions but for OpenSSL.
 * Source: Developer Guide, "Register your CA certificate" and "X.509 client certificates". */
#pragma once

#include "rejection.h"

#include <openssl/x509.h>

#include <time.h>

/* Reads the one certificate of a PEM text, owned by the caller; NULL with the rejection. */
X509 *registration_read(const char *pem, struct rejection *rejection);

/* The key may sign certificates (CA:TRUE, keyCertSign where the usage is told), is of an accepted kind, and the
 * certificate is within its validity. Returns 0 or -1 with the rejection. */
int registration_check_authority(X509 *authority, time_t now, struct rejection *rejection);

/* The authority's key has signed the verification certificate, and its common name is the registration code. */
int registration_check_proof(X509 *authority, X509 *verification, const char *code, time_t now,
                             struct rejection *rejection);

/* A certificate that a client may connect with. */
int registration_check_client(X509 *certificate, time_t now, struct rejection *rejection);
