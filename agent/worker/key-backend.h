/* Between key.c and the backends: what a key is made of, and what each backend does in its own way. */
#pragma once

#include "common/cleanup.h"
#include "worker/key.h"

#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/rsa.h>

/* Hex digits of the largest TPM name and a NUL. */
#define KEY_PARENT_NAME_SIZE 133

struct tpm_key;

struct key_operations {
    enum key_backend backend;
    int (*use_in_tls)(struct key *key, WOLFSSL_CTX *context, struct failure *failure);
    void (*use_in_session)(struct key *key, WOLFSSL *session);
    /* Releases what the backend holds, not the struct; called also for a key that was never finished. */
    void (*release)(struct key *key);
};

struct key {
    const struct key_operations *operations;
    enum key_algorithm algorithm;
    /* The key as wolfCrypt sees it, which signs through the backend: initialised once has_wolfcrypt is set. */
    union {
        ecc_key ecc;
        RsaKey rsa;
    } wolfcrypt;
    bool has_wolfcrypt;
    bool imported;       /* into the TPM, that did not make it */
    struct tpm_key *tpm; /* tpm2 only */
    char pem[KEY_PEM_MAX + 1];
    size_t pem_size;
    uint8_t public_der[KEY_PUBLIC_MAX];
    size_t public_size;
    char parent_name[KEY_PARENT_NAME_SIZE];
    char last_error[FAILURE_MESSAGE_MAX];
};

static inline void key_cleanup(struct key **key) {
    key_free(*key);
}
#define AUTO_KEY CLEANUP(key_cleanup)

/* An empty key of the backend. */
int key_new(const struct key_operations *operations, struct key **ret, struct failure *failure);

/* Takes over the text of private.pem, and the public key out of key->wolfcrypt. */
int key_finish(struct key *key, const char *pem, size_t size, struct failure *failure);

/* True for the RSA algorithms: which member of key->wolfcrypt is meant, and wolfCrypt's name for it. */
bool key_is_rsa(const struct key *key);

int key_file_create(enum key_algorithm algorithm, struct key **ret, struct failure *failure);
int key_file_load(const char *pem, size_t size, struct key **ret, struct failure *failure);
int key_tpm2_create(const char *tcti, enum key_algorithm algorithm, struct key **ret, struct failure *failure);
int key_tpm2_load(const char *tcti, const char *pem, size_t size, struct key **ret, bool *lost,
                  struct failure *failure);
/* software: a key of the file backend, whose private half it has. */
int key_tpm2_import(const char *tcti, struct key *software, struct key **ret, struct failure *failure);
