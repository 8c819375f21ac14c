/* A chain of certificates that somebody hands in: the device's own first, each next one the issuer of the one before.
 */
#pragma once

#include "worker/certificate.h"

#define CHAIN_LENGTH_MAX 8
#define CHAIN_PEM_MAX (16 * 1024) /* bytes, with a NUL: what fits beside the rest into what is stored */

struct chain {
    size_t count;
    struct certificate certificates[CHAIN_LENGTH_MAX];
    bool is_signed_by_next[CHAIN_LENGTH_MAX];
    char pem[CHAIN_PEM_MAX]; /* the certificates again, and nothing that stood between them */
    size_t pem_size;
};

/* Reads it. Class `invalid`, step STEP_CERTIFICATE: not PEM, damaged, too large, too many. */
int chain_read(const char *pem, size_t size, struct chain *ret, struct failure *failure);

/* Judges it for a device whose public key (SubjectPublicKeyInfo in DER) this is: the first certificate is for that key,
 * good for TLS clients, strong enough for AWS IoT Core, and no CA's; the others are its issuers in their order, and
 * strong enough, too. A root at the end is fine. Class `invalid`, step STEP_CERTIFICATE, saying what is wrong and what
 * to do. `where`: what the key is called if none is for it, "this device's request". */
int chain_judge(const struct chain *chain, const uint8_t *public_key, size_t size, const char *where,
                struct failure *failure);

/* Judges the dates of the device's own. Class `invalid`, or `clock` where the clock is not synchronised. */
int chain_judge_dates(const struct certificate *leaf, int64_t now, bool is_synchronised, struct failure *failure);
