#include "worker/key.h"

#include "common/step.h"
#include "worker/key-backend.h"
#include "worker/tss2-pem.h"

#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/signature.h>

#include <string.h>

const char *key_backend_name(enum key_backend backend) {
    switch (backend) {
    case KEY_BACKEND_TPM2:
        return "tpm2";
    case KEY_BACKEND_FILE:
        return "file";
    }
    return NULL;
}

const char *key_algorithm_name(enum key_algorithm algorithm) {
    switch (algorithm) {
    case KEY_ALGORITHM_P256:
        return "P-256";
    case KEY_ALGORITHM_P384:
        return "P-384";
    case KEY_ALGORITHM_RSA2048:
        return "RSA-2048";
    case KEY_ALGORITHM_RSA3072:
        return "RSA-3072";
    case KEY_ALGORITHM_RSA4096:
        return "RSA-4096";
    }
    return NULL;
}

static enum key_algorithm algorithm_of(enum setting_key_algorithm setting) {
    switch (setting) {
    case SETTING_KEY_P256:
        return KEY_ALGORITHM_P256;
    case SETTING_KEY_P384:
        return KEY_ALGORITHM_P384;
    case SETTING_KEY_RSA2048:
        return KEY_ALGORITHM_RSA2048;
    case SETTING_KEY_RSA3072:
        return KEY_ALGORITHM_RSA3072;
    }
    return KEY_ALGORITHM_P256;
}

struct key_settings key_settings_from(const struct settings *settings) {
    return (struct key_settings){
        .backend = settings->key_backend == SETTING_KEY_FILE ? KEY_BACKEND_FILE : KEY_BACKEND_TPM2,
        .algorithm = algorithm_of(settings->key_algorithm),
        .tcti = settings->tcti,
    };
}

int key_create(const struct key_settings *settings, struct key **ret, struct failure *failure) {
    switch (settings->backend) {
    case KEY_BACKEND_TPM2:
        return key_tpm2_create(settings->tcti, settings->algorithm, ret, failure);
    case KEY_BACKEND_FILE:
        return key_file_create(settings->algorithm, ret, failure);
    }
    return -1;
}

int key_load(const struct key_settings *settings, const char *pem, size_t size, struct key **ret, bool *lost,
             struct failure *failure) {
    *lost = false;
    if (size > KEY_PEM_MAX) {
        *lost = true;
        return failure_set(failure, FAILURE_INVALID, STEP_KEY, "the private key is larger than %d bytes", KEY_PEM_MAX);
    }
    if (tss2_pem_is(pem, size))
        return key_tpm2_load(settings->tcti, pem, size, ret, lost, failure);
    int r = key_file_load(pem, size, ret, failure);
    *lost = r < 0 && failure->class == FAILURE_INVALID;
    return r;
}

int key_import(const struct key_settings *settings, const char *pem, size_t size, struct key **ret,
               struct failure *failure) {
    AUTO_KEY struct key *software = NULL;
    if (size > KEY_PEM_MAX)
        return failure_set(failure, FAILURE_INVALID, STEP_KEY, "the private key is larger than %d bytes", KEY_PEM_MAX);
    if (tss2_pem_is(pem, size))
        return failure_set(failure, FAILURE_INVALID, STEP_KEY,
                           "the private key is one of a TPM already: only software keys can be imported");
    if (key_file_load(pem, size, &software, failure) < 0 || key_test(software, failure) < 0)
        return -1;
    switch (settings->backend) {
    case KEY_BACKEND_TPM2:
        return key_tpm2_import(settings->tcti, software, ret, failure);
    case KEY_BACKEND_FILE:
        *ret = TAKE_POINTER(software);
        return 0;
    }
    return -1;
}

int key_new(const struct key_operations *operations, struct key **ret, struct failure *failure) {
    struct key *key = calloc(1, sizeof *key);
    if (key == NULL || wolfCrypt_Init() != 0) {
        free(key);
        return failure_set(failure, FAILURE_INTERNAL, STEP_KEY, "wolfCrypt did not start: out of memory?");
    }
    key->operations = operations;
    *ret = key;
    return 0;
}

struct key *key_free(struct key *key) {
    if (key == NULL)
        return NULL;
    if (key->has_wolfcrypt && key_is_rsa(key))
        wc_FreeRsaKey(&key->wolfcrypt.rsa);
    else if (key->has_wolfcrypt)
        wc_ecc_free(&key->wolfcrypt.ecc);
    key->operations->release(key);
    wolfCrypt_Cleanup();
    explicit_bzero(key, sizeof *key);
    free(key);
    return NULL;
}

bool key_is_rsa(const struct key *key) {
    switch (key->algorithm) {
    case KEY_ALGORITHM_P256:
    case KEY_ALGORITHM_P384:
        return false;
    case KEY_ALGORITHM_RSA2048:
    case KEY_ALGORITHM_RSA3072:
    case KEY_ALGORITHM_RSA4096:
        return true;
    }
    return false;
}

int key_finish(struct key *key, const char *pem, size_t size, struct failure *failure) {
    int der_size = key_is_rsa(key) ? wc_RsaKeyToPublicDer(&key->wolfcrypt.rsa, key->public_der, KEY_PUBLIC_MAX)
                                   : wc_EccPublicKeyToDer(&key->wolfcrypt.ecc, key->public_der, KEY_PUBLIC_MAX, 1);
    if (der_size <= 0 || size > KEY_PEM_MAX)
        return failure_set(failure, FAILURE_INVALID, STEP_KEY, "the public key cannot be written: %s",
                           wc_GetErrorString(der_size));
    key->public_size = (size_t)der_size;
    memcpy(key->pem, pem, size);
    key->pem_size = size;
    return 0;
}

enum key_backend key_get_backend(const struct key *key) {
    return key->operations->backend;
}

enum key_algorithm key_get_algorithm(const struct key *key) {
    return key->algorithm;
}

const char *key_get_origin(const struct key *key) {
    switch (key->operations->backend) {
    case KEY_BACKEND_TPM2:
        return key->imported ? "imported" : "tpm";
    case KEY_BACKEND_FILE:
        return "file";
    }
    return NULL;
}

const char *key_private_pem(const struct key *key, size_t *ret_size) {
    *ret_size = key->pem_size;
    return key->pem;
}

const uint8_t *key_public_der(const struct key *key, size_t *ret_size) {
    *ret_size = key->public_size;
    return key->public_der;
}

const char *key_parent_name(const struct key *key) {
    return key->parent_name[0] != '\0' ? key->parent_name : NULL;
}

const char *key_last_error(const struct key *key) {
    return key->last_error[0] != '\0' ? key->last_error : NULL;
}

int key_use_in_tls(struct key *key, WOLFSSL_CTX *context, struct failure *failure) {
    return key->operations->use_in_tls(key, context, failure);
}

void key_use_in_session(struct key *key, WOLFSSL *session) {
    key->operations->use_in_session(key, session);
}

/* Signs and verifies: 0 or wolfCrypt's error. */
static int sign_text(struct key *key, WC_RNG *random) {
    static const byte text[] = "enrolld tests that this key signs";
    byte signature[512]; /* of RSA-4096 */
    bool rsa = key_is_rsa(key);
    enum wc_SignatureType type = rsa ? WC_SIGNATURE_TYPE_RSA_W_ENC : WC_SIGNATURE_TYPE_ECC;
    void *wolfcrypt = rsa ? (void *)&key->wolfcrypt.rsa : (void *)&key->wolfcrypt.ecc;
    word32 key_size = rsa ? sizeof key->wolfcrypt.rsa : sizeof key->wolfcrypt.ecc;
    int size = wc_SignatureGetSize(type, wolfcrypt, key_size);
    if (size <= 0 || size > (int)sizeof signature)
        return size < 0 ? size : BUFFER_E;
    word32 signature_size = (word32)size;
    int r = wc_SignatureGenerate_ex(WC_HASH_TYPE_SHA256, type, text, sizeof text - 1, signature, &signature_size,
                                    wolfcrypt, key_size, random, 0);
    return r != 0 ? r
                  : wc_SignatureVerify(WC_HASH_TYPE_SHA256, type, text, sizeof text - 1, signature, signature_size,
                                       wolfcrypt, key_size);
}

int key_test(struct key *key, struct failure *failure) {
    WC_RNG random;
    key->last_error[0] = '\0';
    int r = wc_InitRng(&random);
    if (r != 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_KEY, "no random numbers: %s", wc_GetErrorString(r));
    r = sign_text(key, &random);
    wc_FreeRng(&random);
    if (r == 0)
        return 0;
    if (key->last_error[0] != '\0')
        return failure_set(failure, FAILURE_TPM, STEP_KEY, "%s", key->last_error);
    return failure_set(failure, FAILURE_INVALID, STEP_KEY, "the private key does not belong to its public key: %s",
                       wc_GetErrorString(r));
}
