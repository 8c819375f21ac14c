#include "common/step.h"
#include "worker/key-tpm2.h"

#include <wolfssl/wolfcrypt/cryptocb.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <string.h>

#define DIGEST_INFO_PREFIX 19
#define RSA_BYTES_MAX 512 /* RSA-4096 */

/* RFC 8017, section 9.2, note 1: what stands before the hash in a PKCS#1 v1.5 signature. */
static const struct hash {
    TPMI_ALG_HASH algorithm;
    uint8_t size;
    enum wc_HashType wolfcrypt;
    int mask; /* wolfCrypt's name for MGF1 with it */
    uint8_t prefix[DIGEST_INFO_PREFIX];
} hashes[] = {
    {TPM2_ALG_SHA256,
     32,
     WC_HASH_TYPE_SHA256,
     WC_MGF1SHA256,
     {0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 32}},
    {TPM2_ALG_SHA384,
     48,
     WC_HASH_TYPE_SHA384,
     WC_MGF1SHA384,
     {0x30, 0x41, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 5, 0, 4, 48}},
    {TPM2_ALG_SHA512,
     64,
     WC_HASH_TYPE_SHA512,
     WC_MGF1SHA512,
     {0x30, 0x51, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3, 5, 0, 4, 64}},
};
#define HASH_COUNT (sizeof hashes / sizeof hashes[0])

/* wolfSSL cannot carry the reason; key_last_error() does. */
static int remember(struct key *key, const struct failure *failure) {
    memcpy(key->last_error, failure->message, sizeof key->last_error);
    return WC_HW_E;
}

static int sign(struct key *key, TPMI_ALG_SIG_SCHEME scheme, TPMI_ALG_HASH hash, const byte *bytes, size_t size,
                TPMT_SIGNATURE **ret) {
    static const TPMT_TK_HASHCHECK no_ticket = {.tag = TPM2_ST_HASHCHECK, .hierarchy = TPM2_RH_NULL};
    const TPMT_SIG_SCHEME in_scheme = {.scheme = scheme, .details.any.hashAlg = hash};
    TPM2B_DIGEST digest = {.size = (UINT16)size};
    struct failure failure;
    memcpy(digest.buffer, bytes, size);
    TSS2_RC code = Esys_Sign(key->tpm->tpm.esys, key->tpm->object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                             &digest, &in_scheme, &no_ticket, ret);
    if (code == TSS2_RC_SUCCESS)
        return 0;
    tpm_fail(&failure, STEP_KEY, "signing with the TPM", code);
    return remember(key, &failure);
}

/* Only as many leftmost bits of a hash count as the curve has (FIPS 186-5, section 6.4.1), so that a TPM without
 * SHA-384 can sign with P-256 for a peer that asks for it. */
static int sign_ecdsa(struct key *key, const byte *hash, word32 size, byte *out, word32 *out_size) {
    bool long_hash = key->algorithm == KEY_ALGORITHM_P384 && size >= 48;
    TPMT_SIGNATURE *signature = NULL;
    if (size < 32 || (key->algorithm == KEY_ALGORITHM_P384 && size > 32 && size < 48))
        return BAD_FUNC_ARG;
    int r =
        sign(key, TPM2_ALG_ECDSA, long_hash ? TPM2_ALG_SHA384 : TPM2_ALG_SHA256, hash, long_hash ? 48 : 32, &signature);
    if (r != 0)
        return r;
    const TPMS_SIGNATURE_ECDSA *ecdsa = &signature->signature.ecdsa;
    r = wc_ecc_rs_raw_to_sig(ecdsa->signatureR.buffer, ecdsa->signatureR.size, ecdsa->signatureS.buffer,
                             ecdsa->signatureS.size, out, out_size);
    Esys_Free(signature);
    return r;
}

static int sign_rsa(struct key *key, TPMI_ALG_SIG_SCHEME scheme, const struct hash *hash, const byte *bytes, byte *out,
                    word32 *out_size) {
    TPMT_SIGNATURE *signature = NULL;
    int r = sign(key, scheme, hash->algorithm, bytes, hash->size, &signature);
    if (r != 0)
        return r;
    const TPM2B_PUBLIC_KEY_RSA *number = &signature->signature.rsassa.sig; /* RSAPSS has the same layout */
    if (number->size > *out_size) {
        r = BUFFER_E;
    } else {
        memcpy(out, number->buffer, number->size);
        *out_size = number->size;
    }
    Esys_Free(signature);
    return r;
}

/* PKCS#1 v1.5: the TPM writes what stands before the hash itself. */
static int sign_digest_info(struct key *key, const byte *info, word32 size, byte *out, word32 *out_size) {
    for (size_t i = 0; i < HASH_COUNT; i++)
        if (size == sizeof hashes[i].prefix + hashes[i].size &&
            memcmp(info, hashes[i].prefix, sizeof hashes[i].prefix) == 0)
            return sign_rsa(key, TPM2_ALG_RSASSA, &hashes[i], info + sizeof hashes[i].prefix, out, out_size);
    return BAD_FUNC_ARG;
}

/* The input of wolfCrypt's private operation is padded already: 00 01 FF..FF 00 and the DigestInfo (RFC 8017, section
 * 9.2). The TPM pads by itself. */
static int sign_padded(struct key *key, const byte *padded, word32 size, byte *out, word32 *out_size) {
    word32 at = 2;
    if (size < 11 || padded[0] != 0 || padded[1] != 1)
        return BAD_FUNC_ARG;
    while (at < size && padded[at] == 0xff)
        at++;
    if (at == size || padded[at] != 0)
        return BAD_FUNC_ARG;
    return sign_digest_info(key, padded + at + 1, size - at - 1, out, out_size);
}

/* wolfSSL verifies each signature that it made, with a key of its own that knows the device but not the modulus. */
static int verify_for_session(struct key *key, const byte *in, word32 size, byte *out, word32 *out_size) {
    byte copy[RSA_BYTES_MAX];
    if (size > sizeof copy)
        return BAD_FUNC_ARG;
    memcpy(copy, in, size);
    int r = wc_RsaDirect(copy, size, out, out_size, &key->wolfcrypt.rsa, RSA_PUBLIC_DECRYPT, NULL);
    return r < 0 ? r : 0;
}

static int on_rsa(struct key *key, wc_CryptoInfo *info) {
    const byte *in = info->pk.rsa.in;
    word32 size = info->pk.rsa.inLen;
    if (info->pk.rsa.type == RSA_PRIVATE_ENCRYPT)
        return sign_padded(key, in, size, info->pk.rsa.out, info->pk.rsa.outLen);
    if (info->pk.rsa.type == RSA_PUBLIC_DECRYPT && info->pk.rsa.key != &key->wolfcrypt.rsa)
        return verify_for_session(key, in, size, info->pk.rsa.out, info->pk.rsa.outLen);
    return CRYPTOCB_UNAVAILABLE;
}

/* Signing with this key is all that the device does; what it leaves alone wolfCrypt does in software. */
static int on_crypto(int device, wc_CryptoInfo *info, void *context) {
    (void)device;
    if (info->algo_type != WC_ALGO_TYPE_PK)
        return CRYPTOCB_UNAVAILABLE;
    if (info->pk.type == WC_PK_TYPE_RSA)
        return on_rsa(context, info);
    if (info->pk.type == WC_PK_TYPE_ECDSA_SIGN)
        return sign_ecdsa(context, info->pk.eccsign.in, info->pk.eccsign.inlen, info->pk.eccsign.out,
                          info->pk.eccsign.outlen);
    return CRYPTOCB_UNAVAILABLE;
}

int key_tpm2_sign_register(struct key *key) {
    static int last_device = 0x54504d00; /* "TPM", to keep clear of other users of the registry */
    int device = ++last_device;
    int r = wc_CryptoCb_RegisterDevice(device, on_crypto, key);
    if (r == 0)
        key->tpm->device = device;
    return r;
}

/* RSA in TLS 1.2. */
static int on_rsa_sign(WOLFSSL *session, const byte *in, unsigned size, byte *out, word32 *out_size, const byte *der,
                       unsigned der_size, void *context) {
    (void)session, (void)der, (void)der_size;
    return context != NULL ? sign_digest_info(context, in, size, out, out_size) : BAD_FUNC_ARG;
}

/* TLS wants a salt as long as the hash (RFC 8446, section 4.2.3); a TPM may take the longest one that fits (TPM 2.0
 * part 1, annex B.7). wolfSSL would refuse such a signature without telling why. */
static int judge_salt(struct key *key, const struct hash *hash, const byte *signature, word32 size) {
    byte copy[RSA_BYTES_MAX], plain[RSA_BYTES_MAX];
    struct failure failure;
    if (size > sizeof copy)
        return BAD_FUNC_ARG;
    memcpy(copy, signature, size);
    if (wc_RsaPSS_Verify(copy, size, plain, sizeof plain, hash->wolfcrypt, hash->mask, &key->wolfcrypt.rsa) >= 0)
        return 0;
    failure_set(&failure, FAILURE_TPM, STEP_KEY,
                "this TPM makes RSA-PSS signatures that TLS does not take (a salt that is too long?): set [Key] "
                "Algorithm=P-256");
    return remember(key, &failure);
}

/* RSA in TLS 1.3, and in 1.2 if the server asks for it. Which hash `hash` means depends on wolfSSL's version; the size
 * tells it, too. */
static int on_rsa_pss_sign(WOLFSSL *session, const byte *in, unsigned size, byte *out, unsigned *out_size, int hash,
                           int mgf, const byte *der, unsigned der_size, void *context) {
    (void)session, (void)hash, (void)mgf, (void)der, (void)der_size;
    for (size_t i = 0; i < HASH_COUNT && context != NULL; i++)
        if (size == hashes[i].size) {
            int r = sign_rsa(context, TPM2_ALG_RSAPSS, &hashes[i], in, out, out_size);
            return r != 0 ? r : judge_salt(context, &hashes[i], out, *out_size);
        }
    return BAD_FUNC_ARG;
}

int key_tpm2_sign_use_in_tls(struct key *key, WOLFSSL_CTX *context, struct failure *failure) {
    static const unsigned char id[] = "enrolld"; /* wolfSSL wants one; the device knows its key */
    int r = wolfSSL_CTX_use_PrivateKey_Id(context, id, sizeof id - 1, key->tpm->device);
    if (r != WOLFSSL_SUCCESS)
        return failure_set(failure, FAILURE_INTERNAL, STEP_KEY, "the TPM key cannot be used for TLS: %s",
                           wc_GetErrorString(r));
    if (key_is_rsa(key)) { /* through the device RSA comes with its padding, which hides the hash of RSA-PSS */
        wolfSSL_CTX_SetRsaSignCb(context, on_rsa_sign);
        wolfSSL_CTX_SetRsaPssSignCb(context, on_rsa_pss_sign);
    }
    key->last_error[0] = '\0';
    return 0;
}

void key_tpm2_sign_use_in_session(struct key *key, WOLFSSL *session) {
    if (!key_is_rsa(key))
        return;
    wolfSSL_SetRsaSignCtx(session, key);
    wolfSSL_SetRsaPssSignCtx(session, key);
}
