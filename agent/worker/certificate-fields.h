/* The fields of an X.509 certificate as they stand in its DER (RFC 5280, section 4.1). Pure; hostile input. wolfSSL
 * reads the same certificate beside it, but does not tell all of this, or not in each version alike. */
#pragma once

#include "worker/der.h"

struct certificate_fields {
    struct der_element signature; /* the AlgorithmIdentifier inside the TBSCertificate */
    struct der_element issuer;
    struct der_element subject;
    struct der_element public_key; /* SubjectPublicKeyInfo */
    struct der_element extensions; /* SEQUENCE OF Extension; begin is NULL where there are none */
};

/* What the extensions allow. */
struct certificate_usage {
    bool is_ca;            /* basicConstraints cA */
    bool may_sign;         /* keyUsage digitalSignature, or no keyUsage */
    bool may_authenticate; /* extendedKeyUsage clientAuth or any, or no extendedKeyUsage */
};

/* False if the bytes are not one certificate, and nothing else. The elements point into them. */
bool certificate_fields_read(const uint8_t *der, size_t size, struct certificate_fields *ret);

/* False if an extension among these is malformed. */
bool certificate_fields_read_usage(const struct certificate_fields *fields, struct certificate_usage *ret);

/* NULL, or why AWS IoT Core does not accept such a certificate (a constant): keys are RSA of 2048 bits and more, P-256,
 * P-384 and P-521; signatures RSA or ECDSA with SHA-256, SHA-384 or SHA-512 (AWS IoT Core Developer Guide, "X.509
 * client certificates"; API reference, CreateCertificateFromCsr). */
const char *certificate_fields_weakness(const struct certificate_fields *fields);
