#include "common/step.h"
#include "worker/key-backend.h"

#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <string.h>

#define KEY_DER_MAX 4096 /* RSA-4096 takes 2.4 KB */

#define ADVICE_CONVERT "convert it with `openssl pkey -in KEY -out NEWKEY`"
#define ADVICE_SUPPORTED                                                                                               \
    "P-256, P-384 and RSA with 2048, 3072 or 4096 bits are supported: make one with `openssl genpkey -algorithm EC "   \
    "-pkeyopt ec_paramgen_curve:P-256 -out KEY`"

static int use_in_tls(struct key *key, WOLFSSL_CTX *context, struct failure *failure) {
    int r = wolfSSL_CTX_use_PrivateKey_buffer(context, (const unsigned char *)key->pem, (long)key->pem_size,
                                              WOLFSSL_FILETYPE_PEM);
    if (r != WOLFSSL_SUCCESS)
        return failure_set(failure, FAILURE_INVALID, STEP_KEY, "the private key cannot be used for TLS: %s",
                           wc_GetErrorString(r));
    return 0;
}

static void use_in_session(struct key *key, WOLFSSL *session) {
    (void)key, (void)session;
}

static void release(struct key *key) {
    (void)key; /* key_free() wipes the text */
}

static const struct key_operations operations = {
    .backend = KEY_BACKEND_FILE,
    .use_in_tls = use_in_tls,
    .use_in_session = use_in_session,
    .release = release,
};

static int fail_create(int error, struct failure *failure) {
    return failure_set(failure, FAILURE_INTERNAL, STEP_KEY, "making a key: %s", wc_GetErrorString(error));
}

static int make_ecc(struct key *key, int size, int curve, WC_RNG *random) {
    int r = wc_ecc_init(&key->wolfcrypt.ecc);
    if (r != 0)
        return r;
    key->has_wolfcrypt = true;
    return wc_ecc_make_key_ex(random, size, &key->wolfcrypt.ecc, curve);
}

static int make_rsa(struct key *key, int bits, WC_RNG *random) {
    int r = wc_InitRsaKey(&key->wolfcrypt.rsa, NULL);
    if (r != 0)
        return r;
    key->has_wolfcrypt = true;
    return wc_MakeRsaKey(&key->wolfcrypt.rsa, bits, WC_RSA_EXPONENT, random);
}

static int make_with(struct key *key, WC_RNG *random) {
    switch (key->algorithm) {
    case KEY_ALGORITHM_P256:
        return make_ecc(key, 32, ECC_SECP256R1, random);
    case KEY_ALGORITHM_P384:
        return make_ecc(key, 48, ECC_SECP384R1, random);
    case KEY_ALGORITHM_RSA2048:
        return make_rsa(key, 2048, random);
    case KEY_ALGORITHM_RSA3072:
        return make_rsa(key, 3072, random);
    case KEY_ALGORITHM_RSA4096:
        return make_rsa(key, 4096, random);
    }
    return BAD_FUNC_ARG;
}

static int make(struct key *key) {
    WC_RNG random;
    int r = wc_InitRng(&random);
    if (r != 0)
        return r;
    r = make_with(key, &random);
    wc_FreeRng(&random);
    return r;
}

/* Both return the size or wolfCrypt's error. */
static int write_ecc(struct key *key, byte *der, word32 size) {
    return wc_EccKeyToPKCS8(&key->wolfcrypt.ecc, der, &size);
}

static int write_rsa(struct key *key, byte *der, word32 size) {
    byte inner[KEY_DER_MAX];
    int r = wc_RsaKeyToDer(&key->wolfcrypt.rsa, inner, sizeof inner);
    if (r > 0)
        r = wc_CreatePKCS8Key(der, &size, inner, (word32)r, RSAk, NULL, 0);
    explicit_bzero(inner, sizeof inner);
    return r;
}

/* PKCS#8 (`PRIVATE KEY`): what stock clients read. */
static int write_pem(struct key *key, char *pem, word32 size) {
    byte der[KEY_DER_MAX];
    int r = key_is_rsa(key) ? write_rsa(key, der, sizeof der) : write_ecc(key, der, sizeof der);
    if (r > 0)
        r = wc_DerToPem(der, (word32)r, (byte *)pem, size, PKCS8_PRIVATEKEY_TYPE);
    explicit_bzero(der, sizeof der);
    return r;
}

int key_file_create(enum key_algorithm algorithm, struct key **ret, struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    char pem[KEY_PEM_MAX];
    if (key_new(&operations, &key, failure) < 0)
        return -1;
    key->algorithm = algorithm;
    int r = make(key);
    if (r != 0)
        return fail_create(r, failure);
    r = write_pem(key, pem, sizeof pem);
    if (r > 0) {
        size_t size = (size_t)r;
        r = key_finish(key, pem, size, failure);
    } else {
        r = fail_create(r, failure);
    }
    explicit_bzero(pem, sizeof pem);
    if (r == 0)
        *ret = TAKE_POINTER(key);
    return r;
}

static bool contains(const char *pem, size_t size, const char *text) {
    return memmem(pem, size, text, strlen(text)) != NULL;
}

/* What the text is instead of a key that wolfSSL reads. */
static int refuse_text(const char *pem, size_t size, struct failure *failure) {
    if (contains(pem, size, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(pem, size, "Proc-Type: 4,ENCRYPTED"))
        return failure_set(failure, FAILURE_INVALID, STEP_KEY, "the private key is encrypted: " ADVICE_CONVERT);
    if (!contains(pem, size, "PRIVATE KEY-----"))
        return failure_set(
            failure, FAILURE_INVALID, STEP_KEY,
            "there is no private key in it: expected PEM, \"-----BEGIN PRIVATE KEY-----\"; " ADVICE_CONVERT);
    return failure_set(failure, FAILURE_INVALID, STEP_KEY,
                       "the private key is damaged, or not PKCS#8, PKCS#1 or SEC1: " ADVICE_CONVERT);
}

/* 0, or wolfCrypt's error. The public half may be missing (RFC 5915 makes it optional), then it is computed. */
static int decode_ecc(struct key *key, const uint8_t *der, word32 size) {
    ecc_key *ecc = &key->wolfcrypt.ecc;
    word32 offset = 0;
    int r = wc_ecc_init(ecc);
    if (r != 0)
        return r;
    r = wc_EccPrivateKeyDecode(der, &offset, ecc, size);
    if (r == 0 && wc_ecc_get_curve_id(ecc->idx) != ECC_SECP256R1 && wc_ecc_get_curve_id(ecc->idx) != ECC_SECP384R1)
        r = ECC_CURVE_OID_E;
    if (r == 0 && ecc->type == ECC_PRIVATEKEY_ONLY)
        r = wc_ecc_make_pub(ecc, NULL);
    if (r == 0)
        r = wc_ecc_check_key(ecc);
    if (r != 0) {
        wc_ecc_free(ecc);
        return r;
    }
    key->algorithm = wc_ecc_get_curve_id(ecc->idx) == ECC_SECP256R1 ? KEY_ALGORITHM_P256 : KEY_ALGORITHM_P384;
    key->has_wolfcrypt = true;
    return 0;
}

static int rsa_algorithm(int bytes, enum key_algorithm *ret) {
    switch (bytes * 8) {
    case 2048:
        *ret = KEY_ALGORITHM_RSA2048;
        return 0;
    case 3072:
        *ret = KEY_ALGORITHM_RSA3072;
        return 0;
    case 4096:
        *ret = KEY_ALGORITHM_RSA4096;
        return 0;
    }
    return WC_KEY_SIZE_E;
}

static int decode_rsa(struct key *key, const uint8_t *der, word32 size) {
    RsaKey *rsa = &key->wolfcrypt.rsa;
    word32 offset = 0;
    int r = wc_InitRsaKey(rsa, NULL);
    if (r != 0)
        return r;
    r = wc_RsaPrivateKeyDecode(der, &offset, rsa, size);
    if (r == 0)
        r = rsa_algorithm(wc_RsaEncryptSize(rsa), &key->algorithm);
    if (r != 0)
        wc_FreeRsaKey(rsa);
    key->has_wolfcrypt = r == 0;
    return r;
}

int key_file_load(const char *pem, size_t size, struct key **ret, struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    uint8_t der[KEY_PEM_MAX];
    if (key_new(&operations, &key, failure) < 0)
        return -1;
    int der_size = contains(pem, size, "PRIVATE KEY-----")
                       ? wc_KeyPemToDer((const unsigned char *)pem, (int)size, der, sizeof der, NULL)
                       : ASN_NO_PEM_HEADER;
    int r = der_size > 0 ? decode_ecc(key, der, (word32)der_size) : 0;
    if (r != 0 && r != ECC_CURVE_OID_E)
        r = decode_rsa(key, der, (word32)der_size);
    explicit_bzero(der, sizeof der);
    if (der_size <= 0)
        return refuse_text(pem, size, failure);
    if (r != 0)
        return failure_set(failure, FAILURE_INVALID, STEP_KEY,
                           "this private key cannot be used (%s); " ADVICE_SUPPORTED, wc_GetErrorString(r));
    if (key_finish(key, pem, size, failure) < 0)
        return -1;
    *ret = TAKE_POINTER(key);
    return 0;
}
