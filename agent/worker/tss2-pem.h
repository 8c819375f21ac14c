/* `TSS2 PRIVATE KEY` files: a key that only its own TPM can load, in the form that tpm2-openssl, tpm2-tss-engine and
 * tpm2-tools read and write. Pure functions, fuzzed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <tss2/tss2_tpm2_types.h>

#define TSS2_PEM_MAX 4096

struct tss2_key {
    TPM2_HANDLE parent; /* a persistent handle (0x81......) or TPM2_RH_OWNER */
    TPM2B_PUBLIC public;
    TPM2B_PRIVATE private;
};

/* True if the text is of this form, well-formed or not. */
bool tss2_pem_is(const char *pem, size_t size);

/* Writes the text with a NUL; returns its length, or a negative errno: -ENOBUFS if it does not fit. */
int tss2_pem_encode(const struct tss2_key *key, char *pem, size_t size);

/* Reads the text; returns 0, or -EINVAL with what is wrong in *ret_reason (a constant). Refused are keys with a
 * password or a policy, keys to be imported, sealed data, parents other than the owner's primary or a persistent
 * object, and anything after the end. */
int tss2_pem_decode(const char *pem, size_t size, struct tss2_key *ret, const char **ret_reason);
