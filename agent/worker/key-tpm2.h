/* Between the files of the tpm2 backend: public areas, and signing. */
#pragma once

#include "worker/key-backend.h"
#include "worker/tpm.h"

struct tpm_key {
    struct tpm tpm;
    ESYS_TR object; /* ESYS_TR_NONE until it is loaded */
    int device;     /* of the wolfSSL crypto callback, INVALID_DEVID until it is registered */
};

/* The public area of a key that signs anything it is given, without the key itself: noDA, or a power cut could lock it
 * out; no policy, no password. `attributes` come on top. */
TPM2B_PUBLIC key_tpm2_public_template(enum key_algorithm algorithm, TPMA_OBJECT attributes);

/* NULL and the algorithm, or why the key cannot be used (a constant). */
const char *key_tpm2_public_judge(const TPMT_PUBLIC *public, enum key_algorithm *ret);

/* The key as wolfCrypt sees it, by its algorithm: the public half here, the private half behind the device. Returns 0
 * or wolfCrypt's error. */
int key_tpm2_public_import(struct key *key, const TPMT_PUBLIC *public);

/* The other way round: a software key as a TPM has it, into a template and a zeroed sensitive area, which the caller
 * wipes. Returns 0 or wolfCrypt's error. */
int key_tpm2_public_export(struct key *software, TPMT_PUBLIC *public, TPMT_SENSITIVE *ret_sensitive);

/* Registers the crypto callback that signs with the TPM, one per key, so that wolfSSL can tell the current key from
 * the next one. Returns 0 or wolfCrypt's error. */
int key_tpm2_sign_register(struct key *key);

/* For struct key_operations. */
int key_tpm2_sign_use_in_tls(struct key *key, WOLFSSL_CTX *context, struct failure *failure);
void key_tpm2_sign_use_in_session(struct key *key, WOLFSSL *session);
