/* Certificates: the authorities that issue them and what a signing request must be. Uses OpenSSL, so that the stand-in
 * shares no cryptographic code with the agent it judges. */
#pragma once

#include "rejection.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* 64 hexadecimal digits and the NUL. */
#define ISSUER_ID_SIZE 65

enum issuer_profile {
    ISSUER_AWS,     /* as AWS IoT issues: to 2049-12-31T23:59:59Z, CA:FALSE, digitalSignature, key identifiers */
    ISSUER_PRIVATE, /* a private CA behind a certificate provider: chosen validity, extended usage clientAuth */
};

struct issuer {
    EVP_PKEY *key;
    X509 *certificate;
};

/* How a certificate is to be. */
struct issuer_terms {
    enum issuer_profile profile;
    time_t now;
    int64_t begin, end; /* of its validity, seconds from now; for ISSUER_PRIVATE: AWS's begin two minutes ago */
};

/* Reads key and certificate of the authority from PEM files. Returns 0, or -1 if one of them can't be used. */
int issuer_load(struct issuer *issuer, const char *key_path, const char *certificate_path);
void issuer_clear(struct issuer *issuer);

/* Makes a self-signed authority of the profile for the key. AWS's has the name seen in its certificates: a single
 * organizational unit that holds all. NULL if it can't be made. */
X509 *issuer_make_authority(enum issuer_profile profile, EVP_PKEY *key);

/* Issues a certificate for the public key and the subject. NULL if it can't be made. */
X509 *issuer_sign(const struct issuer *issuer, const struct issuer_terms *terms, const X509_NAME *subject,
                  EVP_PKEY *public_key);

/* Reads a signing request as CreateCertificateFromCsr accepts it: PEM of at most 4096 characters, RSA of 2048 bits or
 * more, P-256, P-384 or P-521, signed by that key with SHA-256, SHA-384 or SHA-512. Returns NULL with the rejection. */
X509_REQ *issuer_read_request(const char *pem, size_t size, struct rejection *rejection);

/* Reads the first certificate of a PEM text; NULL if there is none. */
X509 *issuer_read_certificate(const char *pem, size_t size);

/* What AWS IoT has against the key or the signature of a client's or an authority's certificate, as text, or NULL: RSA
 * of 2048 bits or more, P-256, P-384 or P-521; SHA-256, SHA-384 or SHA-512 ("X.509 client certificates"). */
const char *issuer_certificate_fault(X509 *certificate);

/* AWS IoT's certificate id: the SHA-256 of the DER, in lower-case hexadecimal digits. False if it can't be encoded. */
bool issuer_certificate_id(const X509 *certificate, char id[ISSUER_ID_SIZE]);

/* PEM from malloc(), or NULL. */
char *issuer_certificate_pem(X509 *certificate);
char *issuer_key_pem(const EVP_PKEY *key);
