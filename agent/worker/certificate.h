/* Facts of X.509 certificates, as far as enrolld decides on them. The input is hostile: bounded, never trusted. */
#pragma once

#include "common/failure.h"
#include "worker/certificate-fields.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CERTIFICATE_ID_SIZE 65 /* 64 hex digits and a NUL */
#define CERTIFICATE_PEM_MAX 65536
#define CERTIFICATE_DER_MAX 16384
#define CERTIFICATE_NAME_MAX 256

struct certificate {
    char id[CERTIFICATE_ID_SIZE]; /* AWS IoT certificateId: SHA-256 of the DER, lower case (AWS IoT API Reference) */
    char common_name[CERTIFICATE_NAME_MAX]; /* subject CN, "" for none */
    int64_t not_before;                     /* seconds since the epoch */
    int64_t not_after;
    uint8_t public_key[800]; /* SubjectPublicKeyInfo in DER */
    size_t public_key_size;
    uint8_t subject_digest[32]; /* SHA-256 of the name in DER: to compare names */
    uint8_t issuer_digest[32];
    struct certificate_usage usage;
    const char *weakness; /* why AWS IoT Core does not accept it, a constant; NULL: key and signature are good enough */
};

/* One certificate in DER. */
struct certificate_der {
    uint8_t bytes[CERTIFICATE_DER_MAX];
    size_t size;
};

/* Reads the first certificate of a PEM text (leaf first). Class `invalid` with the given step when there is none, it
 * cannot be parsed, or there is a private key in the text, which would become public with it. Dates and signatures are
 * not judged. The text is at most CERTIFICATE_PEM_MAX. */
int certificate_parse(const char *pem, size_t size, const char *step, struct certificate *ret, struct failure *failure);

/* True for the id of a certificate: 64 lower-case hexadecimal digits. */
bool certificate_is_id(const char *text);

/* True if the certificate was issued for this public key (SubjectPublicKeyInfo in DER). */
bool certificate_has_key(const struct certificate *certificate, const uint8_t *public_key, size_t size);

/* Counts the certificates of a PEM text and checks that each parses: for trust anchors and chains. Returns the
 * count (at least 1) or -1 for the same reasons. */
int certificate_count(const char *pem, size_t size, const char *step, struct failure *failure);

/* Takes the next certificate out of a PEM text and moves *text behind it. Returns 1, 0 if there is no more, -1 if it is
 * not well-formed. Text between certificates is allowed (RFC 7468, section 2). */
int certificate_next(const char **text, const char *end, struct certificate_der *ret);

/* Reads one; 0 or -1 if it is damaged. */
int certificate_read(const struct certificate_der *der, struct certificate *ret);

/* True if the signature of the one is by the key of the other. */
bool certificate_is_signed_by(const struct certificate_der *der, const struct certificate_der *issuer);

/* Refuses a text that is larger than `maximum`, or has a private key in it. */
int certificate_check_text(const char *pem, size_t size, size_t maximum, const char *step, struct failure *failure);

/* The failure that says that there is no certificate in a text, and the one that says that the one with this number,
 * counted from 1, is damaged. Return -1. */
int certificate_fail_none(const char *step, struct failure *failure);
int certificate_fail_number(int number, const char *step, struct failure *failure);
