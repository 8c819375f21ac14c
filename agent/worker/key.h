/* The key seam: a private key that signs, wherever it lives. Everything above (CSR, TLS, check) sees only this.
 *
 * Backends: `tpm2` (the key is made in the TPM, or imported into it, and never leaves it) and `file` (a software key,
 * only when configured, and the claim key). */
#pragma once

#include "common/failure.h"
#include "common/settings.h"
#include "worker/subject.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

enum key_backend {
    KEY_BACKEND_TPM2,
    KEY_BACKEND_FILE,
};

enum key_algorithm {
    KEY_ALGORITHM_P256,
    KEY_ALGORITHM_P384,
    KEY_ALGORITHM_RSA2048,
    KEY_ALGORITHM_RSA3072,
    KEY_ALGORITHM_RSA4096,
};

#define KEY_PEM_MAX 8192
#define KEY_PUBLIC_MAX 800
#define KEY_REQUEST_MAX 4096 /* bytes of PEM: the limit of CreateCertificateFromCsr */

struct key_settings {
    enum key_backend backend;
    enum key_algorithm algorithm;
    const char *tcti; /* how the TPM is reached, as Tss2_TctiLdr_Initialize() takes it: "device:/dev/tpmrm0" */
};

struct key;

/* What section [Key] says; borrows its texts. */
struct key_settings key_settings_from(const struct settings *settings);

/* "tpm2", "file" */
const char *key_backend_name(enum key_backend backend);
/* "P-256", "RSA-2048", ... */
const char *key_algorithm_name(enum key_algorithm algorithm);

/* Makes a new key by the settings. On failure class `tpm` (the TPM's own words; also where it has no keys of that
 * algorithm) or `internal`; step STEP_KEY. */
int key_create(const struct key_settings *settings, struct key **ret, struct failure *failure);

/* Loads a key from the text of private.pem: `TSS2 PRIVATE KEY` in the TPM, any other PEM as a software key
 * (PKCS#1, SEC1, PKCS#8). `lost` tells whether the failure means that this key can never work in this TPM (wrong
 * parent, cleared TPM, a text that is no usable key) rather than that the TPM cannot just now (absent, in lockout, out
 * of memory, a parent with a password). Class `tpm`, or `invalid` for the text. The text is at most KEY_PEM_MAX. */
int key_load(const struct key_settings *settings, const char *pem, size_t size, struct key **ret, bool *lost,
             struct failure *failure);

/* Takes a software private key (PEM as in key_load()) that was made elsewhere, whatever settings->algorithm says. For
 * `tpm2` it becomes a key of the TPM, never passing its wire in the clear; for `file` it is loaded. Its memory here is
 * wiped, that of the text is the caller's. Class `invalid` for the text, also if its halves do not belong together,
 * `tpm` for the TPM. */
int key_import(const struct key_settings *settings, const char *pem, size_t size, struct key **ret,
               struct failure *failure);

/* Flushes every TPM handle, wipes what is secret. */
struct key *key_free(struct key *key);

enum key_backend key_get_backend(const struct key *key);
enum key_algorithm key_get_algorithm(const struct key *key);
/* "tpm": made in the TPM and bound to it; "imported": in the TPM, but known elsewhere, too; "file": in software. */
const char *key_get_origin(const struct key *key);

/* The text for private.pem, borrowed from the key until key_free(). */
const char *key_private_pem(const struct key *key, size_t *ret_size);

/* SubjectPublicKeyInfo in DER, borrowed. */
const uint8_t *key_public_der(const struct key *key, size_t *ret_size);

/* The TPM name (TPM 2.0 part 1, section 16) of the parent of a TPM key in hexadecimal, NULL for a software key:
 * recorded with the identity, it tells a cleared TPM from another one. Borrowed. */
const char *key_parent_name(const struct key *key);

/* A PKCS#10 request in PEM, signed by the key; the caller frees it with free(). Class `tpm` or `internal`, step
 * STEP_REQUEST. */
int key_make_request(struct key *key, const struct subject *subject, char **ret_pem, struct failure *failure);

/* Makes the key the client key of a TLS context: for a TPM key only this key goes through the crypto callback
 * (wolfSSL_CTX_use_PrivateKey_Id without SetDevId), everything else stays in wolfCrypt. The key must outlive it. */
int key_use_in_tls(struct key *key, WOLFSSL_CTX *context, struct failure *failure);
/* The same for each session of that context, before the handshake: wolfSSL's RSA callbacks belong to the context, but
 * what they are called with to the session. */
void key_use_in_session(struct key *key, WOLFSSL *session);

/* Signs a fixed text and verifies it with the public key: the key works, here and now. */
int key_test(struct key *key, struct failure *failure);

/* The reason of the last signature that failed inside a TLS handshake, NULL for none: wolfSSL only says that a
 * callback failed, this has the TPM's words. Borrowed. */
const char *key_last_error(const struct key *key);
