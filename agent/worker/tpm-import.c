#include "worker/tpm-import.h"

#include <tss2/tss2_mu.h>
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/rsa.h>

#include <string.h>

#define NAME_MAX_SIZE (2 + WC_MAX_DIGEST_SIZE)

/* The secrets of one wrapping; wiped as a whole. */
struct wrapping {
    const TPMT_PUBLIC *parent;
    enum wc_HashType hash; /* of the parent's name */
    int mask;              /* wolfCrypt's name for MGF1 with it */
    word32 hash_size;
    byte name[NAME_MAX_SIZE]; /* of the key */
    word32 name_size;
    byte seed[WC_MAX_DIGEST_SIZE];
    byte sensitive[sizeof(TPM2B_SENSITIVE)];
    size_t sensitive_size;
};

static int choose_hash(TPMI_ALG_HASH algorithm, struct wrapping *wrapping) {
    switch (algorithm) {
    case TPM2_ALG_SHA256:
        wrapping->hash = WC_HASH_TYPE_SHA256;
        wrapping->mask = WC_MGF1SHA256;
        break;
    case TPM2_ALG_SHA384:
        wrapping->hash = WC_HASH_TYPE_SHA384;
        wrapping->mask = WC_MGF1SHA384;
        break;
    case TPM2_ALG_SHA512:
        wrapping->hash = WC_HASH_TYPE_SHA512;
        wrapping->mask = WC_MGF1SHA512;
        break;
    default:
        return HASH_TYPE_E;
    }
    wrapping->hash_size = (word32)wc_HashGetDigestSize(wrapping->hash);
    return 0;
}

static void write_be32(uint32_t number, byte *ret) {
    ret[0] = (byte)(number >> 24);
    ret[1] = (byte)(number >> 16);
    ret[2] = (byte)(number >> 8);
    ret[3] = (byte)number;
}

/* TPM 2.0 part 1, section 16: nameAlg || hash of the public area. Keys of ours have SHA-256. */
static int make_name(const TPM2B_PUBLIC *public, struct wrapping *wrapping) {
    byte area[sizeof(TPMT_PUBLIC)];
    size_t size = 0;
    if (public->publicArea.nameAlg != TPM2_ALG_SHA256 ||
        Tss2_MU_TPMT_PUBLIC_Marshal(&public->publicArea, area, sizeof area, &size) != TSS2_RC_SUCCESS)
        return BAD_FUNC_ARG;
    wrapping->name[0] = TPM2_ALG_SHA256 >> 8;
    wrapping->name[1] = TPM2_ALG_SHA256 & 0xff;
    wrapping->name_size = 2 + WC_SHA256_DIGEST_SIZE;
    return wc_Sha256Hash(area, (word32)size, wrapping->name + 2);
}

/* Section 11.4.10.2, KDFa: SP 800-108 with HMAC in counter mode. Nothing here needs more than one block. The label
 * brings its NUL. */
static int derive(const struct wrapping *wrapping, const char *label, const byte *context, word32 context_size,
                  word32 bits, byte *ret) {
    byte counter[4], length[4];
    Hmac hmac;
    write_be32(1, counter);
    write_be32(bits, length);
    int r = wc_HmacInit(&hmac, NULL, INVALID_DEVID);
    if (r != 0)
        return r;
    r = wc_HmacSetKey(&hmac, (int)wrapping->hash, wrapping->seed, wrapping->hash_size);
    r = r != 0 ? r : wc_HmacUpdate(&hmac, counter, sizeof counter);
    r = r != 0 ? r : wc_HmacUpdate(&hmac, (const byte *)label, (word32)strlen(label) + 1);
    r = r != 0 || context_size == 0 ? r : wc_HmacUpdate(&hmac, context, context_size);
    r = r != 0 ? r : wc_HmacUpdate(&hmac, length, sizeof length);
    r = r != 0 ? r : wc_HmacFinal(&hmac, ret);
    wc_HmacFree(&hmac);
    explicit_bzero(&hmac, sizeof hmac);
    return r;
}

/* Annex B.10.3: a random seed, by OAEP with the parent's hash. */
static int encrypt_seed(struct wrapping *wrapping, WC_RNG *random, TPM2B_ENCRYPTED_SECRET *ret) {
    static byte label[] = "DUPLICATE"; /* with the NUL */
    const TPM2B_PUBLIC_KEY_RSA *modulus = &wrapping->parent->unique.rsa;
    uint32_t exponent = wrapping->parent->parameters.rsaDetail.exponent;
    byte bytes[4];
    RsaKey rsa;
    write_be32(exponent != 0 ? exponent : 65537, bytes);
    int r = wc_RNG_GenerateBlock(random, wrapping->seed, wrapping->hash_size);
    r = r != 0 ? r : wc_InitRsaKey(&rsa, NULL);
    if (r != 0)
        return r;
    r = wc_RsaPublicKeyDecodeRaw(modulus->buffer, modulus->size, bytes, sizeof bytes, &rsa);
    if (r == 0)
        r = wc_RsaPublicEncrypt_ex(wrapping->seed, wrapping->hash_size, ret->secret, sizeof ret->secret, &rsa, random,
                                   WC_RSA_OAEP_PAD, wrapping->hash, wrapping->mask, label, sizeof label);
    wc_FreeRsaKey(&rsa);
    if (r < 0)
        return r;
    ret->size = (UINT16)r;
    return 0;
}

/* Section 11.4.10.3, KDFe: the hash of a counter, the shared x, the label, and the x of both public keys. */
static int derive_seed(struct wrapping *wrapping, const byte *shared, word32 size, const byte *ephemeral_x) {
    const TPM2B_ECC_PARAMETER *parent_x = &wrapping->parent->unique.ecc.x;
    wc_HashAlg hash;
    byte counter[4];
    write_be32(1, counter);
    int r = wc_HashInit(&hash, wrapping->hash);
    if (r != 0)
        return r;
    r = wc_HashUpdate(&hash, wrapping->hash, counter, sizeof counter);
    r = r != 0 ? r : wc_HashUpdate(&hash, wrapping->hash, shared, size);
    r = r != 0 ? r : wc_HashUpdate(&hash, wrapping->hash, (const byte *)"DUPLICATE", sizeof "DUPLICATE");
    r = r != 0 ? r : wc_HashUpdate(&hash, wrapping->hash, ephemeral_x, size);
    r = r != 0 ? r : wc_HashUpdate(&hash, wrapping->hash, parent_x->buffer, parent_x->size);
    r = r != 0 ? r : wc_HashFinal(&hash, wrapping->hash, wrapping->seed);
    wc_HashFree(&hash, wrapping->hash);
    explicit_bzero(&hash, sizeof hash);
    return r;
}

/* The parent's public key; the TPM may leave out leading zeros. */
static int import_point(const TPMS_ECC_POINT *point, word32 size, int curve, ecc_key *ret) {
    byte x[MAX_ECC_BYTES] = {0}, y[MAX_ECC_BYTES] = {0};
    if (point->x.size > size || point->y.size > size)
        return ECC_BAD_ARG_E;
    memcpy(x + size - point->x.size, point->x.buffer, point->x.size);
    memcpy(y + size - point->y.size, point->y.buffer, point->y.size);
    int r = wc_ecc_import_unsigned(ret, x, y, NULL, curve);
    return r != 0 ? r : wc_ecc_check_key(ret);
}

/* The ephemeral public key as the wrapper carries it: TPMS_ECC_POINT. */
static int write_point(ecc_key *ephemeral, word32 size, TPMS_ECC_POINT *ret, TPM2B_ENCRYPTED_SECRET *ret_seed) {
    size_t offset = 0;
    word32 x_size = size, y_size = size;
    int r = wc_ecc_export_public_raw(ephemeral, ret->x.buffer, &x_size, ret->y.buffer, &y_size);
    if (r != 0)
        return r;
    ret->x.size = (UINT16)x_size;
    ret->y.size = (UINT16)y_size;
    if (x_size != size ||
        Tss2_MU_TPMS_ECC_POINT_Marshal(ret, ret_seed->secret, sizeof ret_seed->secret, &offset) != TSS2_RC_SUCCESS)
        return BUFFER_E;
    ret_seed->size = (UINT16)offset;
    return 0;
}

/* Annex C.6.1: the seed comes from Diffie-Hellman of an ephemeral key and the parent. */
static int agree_with(struct wrapping *wrapping, ecc_key *ephemeral, ecc_key *parent, WC_RNG *random,
                      TPM2B_ENCRYPTED_SECRET *ret) {
    bool p384 = wrapping->parent->parameters.eccDetail.curveID == TPM2_ECC_NIST_P384;
    int curve = p384 ? ECC_SECP384R1 : ECC_SECP256R1;
    word32 size = p384 ? 48 : 32, shared_size = size;
    byte shared[MAX_ECC_BYTES];
    TPMS_ECC_POINT point = {0};
    if (!p384 && wrapping->parent->parameters.eccDetail.curveID != TPM2_ECC_NIST_P256)
        return ECC_CURVE_OID_E;
    int r = import_point(&wrapping->parent->unique.ecc, size, curve, parent);
    r = r != 0 ? r : wc_ecc_make_key_ex(random, (int)size, ephemeral, curve);
    r = r != 0 ? r : wc_ecc_set_rng(ephemeral, random);
    r = r != 0 ? r : write_point(ephemeral, size, &point, ret);
    r = r != 0 ? r : wc_ecc_shared_secret(ephemeral, parent, shared, &shared_size);
    if (r == 0)
        r = shared_size == size ? derive_seed(wrapping, shared, size, point.x.buffer) : BUFFER_E;
    explicit_bzero(shared, sizeof shared);
    return r;
}

static int agree_seed(struct wrapping *wrapping, WC_RNG *random, TPM2B_ENCRYPTED_SECRET *ret) {
    ecc_key ephemeral, parent;
    int r = wc_ecc_init(&ephemeral);
    if (r != 0)
        return r;
    r = wc_ecc_init(&parent);
    if (r == 0) {
        r = agree_with(wrapping, &ephemeral, &parent, random, ret);
        wc_ecc_free(&parent);
    }
    wc_ecc_free(&ephemeral);
    return r;
}

static int make_seed(struct wrapping *wrapping, TPM2B_ENCRYPTED_SECRET *ret) {
    WC_RNG random;
    int r = wc_InitRng(&random);
    if (r != 0)
        return r;
    if (wrapping->parent->type == TPM2_ALG_RSA)
        r = encrypt_seed(wrapping, &random, ret);
    else if (wrapping->parent->type == TPM2_ALG_ECC)
        r = agree_seed(wrapping, &random, ret);
    else
        r = BAD_FUNC_ARG;
    wc_FreeRng(&random);
    return r;
}

/* Section 23.3.2.2: in place, with the parent's cipher and an initialisation vector of zeros. */
static int encrypt_sensitive(struct wrapping *wrapping) {
    static const byte zeros[AES_BLOCK_SIZE];
    const TPMT_SYM_DEF_OBJECT *cipher = wrapping->parent->type == TPM2_ALG_RSA
                                            ? &wrapping->parent->parameters.rsaDetail.symmetric
                                            : &wrapping->parent->parameters.eccDetail.symmetric;
    byte secret[WC_MAX_DIGEST_SIZE];
    Aes aes;
    if (cipher->algorithm != TPM2_ALG_AES || cipher->mode.aes != TPM2_ALG_CFB || cipher->keyBits.aes > 256)
        return BAD_FUNC_ARG;
    int r = wc_AesInit(&aes, NULL, INVALID_DEVID);
    if (r != 0)
        return r;
    r = derive(wrapping, "STORAGE", wrapping->name, wrapping->name_size, cipher->keyBits.aes, secret);
    r = r != 0 ? r : wc_AesSetKey(&aes, secret, cipher->keyBits.aes / 8, zeros, AES_ENCRYPTION);
    if (r == 0)
        r = wc_AesCfbEncrypt(&aes, wrapping->sensitive, wrapping->sensitive, (word32)wrapping->sensitive_size);
    wc_AesFree(&aes);
    explicit_bzero(&aes, sizeof aes);
    explicit_bzero(secret, sizeof secret);
    return r;
}

/* Section 23.3.2.3: an HMAC over what was encrypted and the name, so that neither can be exchanged. */
static int authenticate(const struct wrapping *wrapping, byte *ret) {
    byte secret[WC_MAX_DIGEST_SIZE];
    Hmac hmac;
    int r = wc_HmacInit(&hmac, NULL, INVALID_DEVID);
    if (r != 0)
        return r;
    r = derive(wrapping, "INTEGRITY", NULL, 0, wrapping->hash_size * 8, secret);
    r = r != 0 ? r : wc_HmacSetKey(&hmac, (int)wrapping->hash, secret, wrapping->hash_size);
    r = r != 0 ? r : wc_HmacUpdate(&hmac, wrapping->sensitive, (word32)wrapping->sensitive_size);
    r = r != 0 ? r : wc_HmacUpdate(&hmac, wrapping->name, wrapping->name_size);
    r = r != 0 ? r : wc_HmacFinal(&hmac, ret);
    wc_HmacFree(&hmac);
    explicit_bzero(&hmac, sizeof hmac);
    explicit_bzero(secret, sizeof secret);
    return r;
}

/* TPM2B_PRIVATE: the HMAC as TPM2B_DIGEST, then what was encrypted. */
static int write_duplicate(const struct wrapping *wrapping, TPM2B_PRIVATE *ret) {
    size_t head = 2 + wrapping->hash_size;
    if (head + wrapping->sensitive_size > sizeof ret->buffer)
        return BUFFER_E;
    ret->buffer[0] = 0;
    ret->buffer[1] = (byte)wrapping->hash_size;
    memcpy(ret->buffer + head, wrapping->sensitive, wrapping->sensitive_size);
    ret->size = (UINT16)(head + wrapping->sensitive_size);
    return authenticate(wrapping, ret->buffer + 2);
}

int tpm_import_wrap(const TPMT_PUBLIC *parent, const TPM2B_PUBLIC *public, const TPM2B_SENSITIVE *sensitive,
                    TPM2B_PRIVATE *ret_duplicate, TPM2B_ENCRYPTED_SECRET *ret_seed) {
    struct wrapping wrapping = {.parent = parent};
    int r = choose_hash(parent->nameAlg, &wrapping);
    r = r != 0 ? r : make_name(public, &wrapping);
    if (r == 0 && Tss2_MU_TPM2B_SENSITIVE_Marshal(sensitive, wrapping.sensitive, sizeof wrapping.sensitive,
                                                  &wrapping.sensitive_size) != TSS2_RC_SUCCESS)
        r = BUFFER_E;
    r = r != 0 ? r : make_seed(&wrapping, ret_seed);
    r = r != 0 ? r : encrypt_sensitive(&wrapping);
    r = r != 0 ? r : write_duplicate(&wrapping, ret_duplicate);
    explicit_bzero(&wrapping, sizeof wrapping);
    return r;
}

TSS2_RC tpm_import(struct tpm *tpm, const struct tpm_parent *parent, const TPM2B_PUBLIC *public,
                   const TPM2B_SENSITIVE *sensitive, TPM2B_PRIVATE *ret) {
    static const TPM2B_DATA no_inner_key = {0};
    static const TPMT_SYM_DEF_OBJECT no_inner_wrapper = {.algorithm = TPM2_ALG_NULL};
    TPM2B_PUBLIC *parent_public = NULL;
    TPM2B_PRIVATE duplicate = {0}, *private = NULL;
    TPM2B_ENCRYPTED_SECRET seed = {0};
    TSS2_RC code = Esys_ReadPublic(tpm->esys, parent->object, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &parent_public,
                                   NULL, NULL);
    if (code != TSS2_RC_SUCCESS)
        return code;
    int r = tpm_import_wrap(&parent_public->publicArea, public, sensitive, &duplicate, &seed);
    Esys_Free(parent_public);
    if (r != 0)
        return TSS2_ESYS_RC_GENERAL_FAILURE;
    code = Esys_Import(tpm->esys, parent->object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_inner_key, public,
                       &duplicate, &seed, &no_inner_wrapper, &private);
    if (code == TSS2_RC_SUCCESS)
        *ret = *private;
    Esys_Free(private);
    return code;
}
