#include "worker/key-tpm2.h"

#include <wolfssl/wolfcrypt/error-crypt.h>

#include <errno.h>
#include <string.h>

/* TPM 2.0 part 2, section 12.2.3.5: an exponent of zero means this one. */
#define DEFAULT_EXPONENT 65537

static const struct kind {
    TPMI_ALG_PUBLIC type;
    uint16_t bits; /* of the modulus or of a coordinate */
    TPMI_ECC_CURVE curve;
    int wolfcrypt_curve;
} kinds[] = {
    [KEY_ALGORITHM_P256] = {TPM2_ALG_ECC, 256, TPM2_ECC_NIST_P256, ECC_SECP256R1},
    [KEY_ALGORITHM_P384] = {TPM2_ALG_ECC, 384, TPM2_ECC_NIST_P384, ECC_SECP384R1},
    [KEY_ALGORITHM_RSA2048] = {.type = TPM2_ALG_RSA, .bits = 2048},
    [KEY_ALGORITHM_RSA3072] = {.type = TPM2_ALG_RSA, .bits = 3072},
    [KEY_ALGORITHM_RSA4096] = {.type = TPM2_ALG_RSA, .bits = 4096},
};

TPM2B_PUBLIC key_tpm2_public_template(enum key_algorithm algorithm, TPMA_OBJECT attributes) {
    const struct kind *kind = &kinds[algorithm];
    TPM2B_PUBLIC template = {
        .publicArea =
            {
                .type = kind->type,
                .nameAlg = TPM2_ALG_SHA256,
                .objectAttributes = TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_NODA | TPMA_OBJECT_USERWITHAUTH | attributes,
            },
    };
    TPMU_PUBLIC_PARMS *parameters = &template.publicArea.parameters;
    if (kind->type == TPM2_ALG_RSA)
        parameters->rsaDetail = (TPMS_RSA_PARMS){
            .symmetric.algorithm = TPM2_ALG_NULL,
            .scheme.scheme = TPM2_ALG_NULL,
            .keyBits = kind->bits,
        };
    else
        parameters->eccDetail = (TPMS_ECC_PARMS){
            .symmetric.algorithm = TPM2_ALG_NULL,
            .scheme.scheme = TPM2_ALG_NULL,
            .curveID = kind->curve,
            .kdf.scheme = TPM2_ALG_NULL,
        };
    return template;
}

static int find_algorithm(const TPMT_PUBLIC *public, enum key_algorithm *ret) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        bool same = public->type == TPM2_ALG_RSA ? public->parameters.rsaDetail.keyBits == kinds[i].bits
                                                 : public->parameters.eccDetail.curveID == kinds[i].curve;
        if (public->type == kinds[i].type && same) {
            *ret = (enum key_algorithm)i;
            return 0;
        }
    }
    return -ENOENT;
}

/* Requests, the key's test and each version of TLS use different hashes and, for RSA, paddings: a key that is fixed to
 * one of them cannot do. For P-256, SHA-256 is as good as free, since no longer hash counts. */
static bool scheme_is_free(const TPMT_PUBLIC *public, enum key_algorithm algorithm) {
    const TPMT_ECC_SCHEME *scheme = &public->parameters.eccDetail.scheme;
    if (public->type == TPM2_ALG_RSA)
        return public->parameters.rsaDetail.scheme.scheme == TPM2_ALG_NULL;
    return scheme->scheme == TPM2_ALG_NULL || (algorithm == KEY_ALGORITHM_P256 && scheme->scheme == TPM2_ALG_ECDSA &&
                                               scheme->details.ecdsa.hashAlg == TPM2_ALG_SHA256);
}

const char *key_tpm2_public_judge(const TPMT_PUBLIC *public, enum key_algorithm *ret) {
    const TPMA_OBJECT needed = TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_USERWITHAUTH;
    enum key_algorithm algorithm;
    if (find_algorithm(public, &algorithm) < 0)
        return "only P-256, P-384 and RSA keys of 2048, 3072 or 4096 bits can be used";
    if ((public->objectAttributes & needed) != needed || (public->objectAttributes & TPMA_OBJECT_RESTRICTED))
        return "it is not a key that signs anything it is given (sign, userWithAuth, not restricted)";
    if (!scheme_is_free(public, algorithm))
        return "it is fixed to one signature scheme: make one without (scheme null)";
    *ret = algorithm;
    return NULL;
}

/* The TPM may leave out leading zeros. */
static int pad(const TPM2B_ECC_PARAMETER *number, size_t size, byte *ret) {
    if (number->size > size)
        return -EINVAL;
    memset(ret, 0, size);
    memcpy(ret + size - number->size, number->buffer, number->size);
    return 0;
}

static int import_ecc(struct key *key, const TPMS_ECC_POINT *point) {
    const struct kind *kind = &kinds[key->algorithm];
    ecc_key *ecc = &key->wolfcrypt.ecc;
    byte x[MAX_ECC_BYTES], y[MAX_ECC_BYTES];
    if (pad(&point->x, kind->bits / 8, x) < 0 || pad(&point->y, kind->bits / 8, y) < 0)
        return ECC_BAD_ARG_E;
    int r = wc_ecc_init_ex(ecc, NULL, key->tpm->device);
    if (r != 0)
        return r;
    key->has_wolfcrypt = true;
    r = wc_ecc_import_unsigned(ecc, x, y, NULL, kind->wolfcrypt_curve);
    return r != 0 ? r : wc_ecc_check_key(ecc);
}

static int import_rsa(struct key *key, const TPM2B_PUBLIC_KEY_RSA *modulus, uint32_t exponent) {
    RsaKey *rsa = &key->wolfcrypt.rsa;
    if (exponent == 0)
        exponent = DEFAULT_EXPONENT;
    const byte bytes[] = {(byte)(exponent >> 24), (byte)(exponent >> 16), (byte)(exponent >> 8), (byte)exponent};
    if (modulus->size != kinds[key->algorithm].bits / 8)
        return WC_KEY_SIZE_E;
    int r = wc_InitRsaKey_ex(rsa, NULL, key->tpm->device);
    if (r != 0)
        return r;
    key->has_wolfcrypt = true;
    return wc_RsaPublicKeyDecodeRaw(modulus->buffer, modulus->size, bytes, sizeof bytes, rsa);
}

int key_tpm2_public_import(struct key *key, const TPMT_PUBLIC *public) {
    return key_is_rsa(key) ? import_rsa(key, &public->unique.rsa, public->parameters.rsaDetail.exponent)
                           : import_ecc(key, &public->unique.ecc);
}

static int export_ecc(ecc_key *ecc, uint16_t size, TPMS_ECC_POINT *point, TPMT_SENSITIVE *sensitive) {
    TPM2B_ECC_PARAMETER *number = &sensitive->sensitive.ecc;
    word32 x_size = size, y_size = size, number_size = size;
    int r = wc_ecc_export_private_raw(ecc, point->x.buffer, &x_size, point->y.buffer, &y_size, number->buffer,
                                      &number_size);
    if (r != 0)
        return r;
    point->x.size = (UINT16)x_size;
    point->y.size = (UINT16)y_size;
    number->size = (UINT16)number_size;
    return 0;
}

/* A TPM has one of the two primes (TPM 2.0 part 2, section 12.3.2.3); wolfCrypt gives out all or nothing. */
static int export_rsa(RsaKey *rsa, uint16_t size, TPM2B_PUBLIC_KEY_RSA *modulus, uint32_t *exponent,
                      TPMT_SENSITIVE *sensitive) {
    struct {
        byte d[512], p[256], q[256]; /* of RSA-4096 */
    } secret;
    byte e[8];
    word32 e_size = sizeof e, n_size = size, d_size = sizeof secret.d, p_size = sizeof secret.p,
           q_size = sizeof secret.q;
    TPM2B_PRIVATE_KEY_RSA *prime = &sensitive->sensitive.rsa;
    int r = wc_RsaExportKey(rsa, e, &e_size, modulus->buffer, &n_size, secret.d, &d_size, secret.p, &p_size, secret.q,
                            &q_size);
    if (r == 0 && (n_size != size || p_size != size / 2u || e_size > 4))
        r = WC_KEY_SIZE_E;
    if (r == 0) {
        modulus->size = (UINT16)n_size;
        prime->size = (UINT16)p_size;
        memcpy(prime->buffer, secret.p, p_size);
        for (word32 i = 0; i < e_size; i++)
            *exponent = *exponent << 8 | e[i];
        if (*exponent == DEFAULT_EXPONENT)
            *exponent = 0;
    }
    explicit_bzero(&secret, sizeof secret);
    return r;
}

int key_tpm2_public_export(struct key *software, TPMT_PUBLIC *public, TPMT_SENSITIVE *ret_sensitive) {
    uint16_t size = kinds[software->algorithm].bits / 8;
    ret_sensitive->sensitiveType = public->type;
    return key_is_rsa(software) ? export_rsa(&software->wolfcrypt.rsa, size, &public->unique.rsa,
                                             &public->parameters.rsaDetail.exponent, ret_sensitive)
                                : export_ecc(&software->wolfcrypt.ecc, size, &public->unique.ecc, ret_sensitive);
}
