/* Facts of X.509 certificates, as far as enrolld decides on them. The input is hostile: bounded, never trusted. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CERTIFICATE_ID_SIZE 65 /* 64 hex digits and a NUL */
#define CERTIFICATE_PEM_MAX 65536
#define CERTIFICATE_NAME_MAX 256

struct certificate {
    char id[CERTIFICATE_ID_SIZE]; /* AWS IoT certificateId: SHA-256 of the DER, lower case (AWS IoT API Reference) */
    char common_name[CERTIFICATE_NAME_MAX]; /* subject CN, "" for none */
    int64_t not_before;                     /* seconds since the epoch */
    int64_t not_after;
    uint8_t public_key[800]; /* SubjectPublicKeyInfo in DER */
    size_t public_key_size;
};

/* Reads the first certificate of a PEM text (leaf first). Class `invalid` with the given step when there is none, it
 * cannot be parsed, or there is a private key in the text, which would become public with it. Dates and signatures are
 * not judged. The text is at most CERTIFICATE_PEM_MAX. */
int certificate_parse(const char *pem, size_t size, const char *step, struct certificate *ret, struct failure *failure);

/* True if the certificate was issued for this public key (SubjectPublicKeyInfo in DER). */
bool certificate_has_key(const struct certificate *certificate, const uint8_t *public_key, size_t size);

/* Counts the certificates of a PEM text and checks that each parses: for trust anchors and chains. Returns the
 * count (at least 1) or -1 for the same reasons. */
int certificate_count(const char *pem, size_t size, const char *step, struct failure *failure);
