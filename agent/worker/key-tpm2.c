#include "common/step.h"
#include "worker/key-backend.h"
#include "worker/tpm.h"
#include "worker/tss2-pem.h"

#include <wolfssl/wolfcrypt/cryptocb.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define P256_SIZE 32

_Static_assert(KEY_PARENT_NAME_SIZE == TPM_NAME_SIZE, "one size for the parent's name");

struct tpm_key {
    struct tpm tpm;
    ESYS_TR object; /* ESYS_TR_NONE until it is loaded */
    int device;     /* of the wolfSSL crypto callback, INVALID_DEVID until it is registered */
};

static TSS2_RC sign_digest(struct tpm_key *key, const TPM2B_DIGEST *digest, TPMT_SIGNATURE **ret) {
    static const TPMT_SIG_SCHEME scheme = {.scheme = TPM2_ALG_ECDSA, .details.ecdsa.hashAlg = TPM2_ALG_SHA256};
    static const TPMT_TK_HASHCHECK no_ticket = {.tag = TPM2_ST_HASHCHECK, .hierarchy = TPM2_RH_NULL};
    return Esys_Sign(key->tpm.esys, key->object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, digest, &scheme,
                     &no_ticket, ret);
}

/* Only the leftmost 256 bits of a longer hash count for P-256 (FIPS 186-4, section 6.4), so that a TPM without
 * SHA-384 can sign for a peer that asks for it. */
static int sign(struct key *key, const byte *hash, word32 size, byte *out, word32 *out_size) {
    TPM2B_DIGEST digest = {.size = P256_SIZE};
    TPMT_SIGNATURE *signature = NULL;
    struct failure failure;
    if (size < P256_SIZE)
        return BAD_FUNC_ARG;
    memcpy(digest.buffer, hash, P256_SIZE);
    TSS2_RC code = sign_digest(key->tpm, &digest, &signature);
    if (code != TSS2_RC_SUCCESS) {
        tpm_fail(&failure, STEP_KEY, "signing with the TPM", code);
        memcpy(key->last_error, failure.message, sizeof key->last_error);
        return WC_HW_E;
    }
    const TPMS_SIGNATURE_ECDSA *ecdsa = &signature->signature.ecdsa;
    int r = wc_ecc_rs_raw_to_sig(ecdsa->signatureR.buffer, ecdsa->signatureR.size, ecdsa->signatureS.buffer,
                                 ecdsa->signatureS.size, out, out_size);
    Esys_Free(signature);
    return r;
}

/* Signing with this key is all that the device does; what it leaves alone wolfCrypt does in software. */
static int on_crypto(int device, wc_CryptoInfo *info, void *context) {
    (void)device;
    if (info->algo_type != WC_ALGO_TYPE_PK || info->pk.type != WC_PK_TYPE_ECDSA_SIGN)
        return CRYPTOCB_UNAVAILABLE;
    return sign(context, info->pk.eccsign.in, info->pk.eccsign.inlen, info->pk.eccsign.out, info->pk.eccsign.outlen);
}

static int use_in_tls(struct key *key, WOLFSSL_CTX *context, struct failure *failure) {
    static const unsigned char id[] = "enrolld"; /* wolfSSL wants one; the device knows its key */
    int r = wolfSSL_CTX_use_PrivateKey_Id(context, id, sizeof id - 1, key->tpm->device);
    if (r != WOLFSSL_SUCCESS)
        return failure_set(failure, FAILURE_INTERNAL, STEP_KEY, "the TPM key cannot be used for TLS: %s",
                           wc_GetErrorString(r));
    key->last_error[0] = '\0';
    return 0;
}

static void release(struct key *key) {
    struct tpm_key *tpm_key = key->tpm;
    if (tpm_key == NULL)
        return;
    if (tpm_key->device != INVALID_DEVID)
        wc_CryptoCb_UnRegisterDevice(tpm_key->device);
    if (tpm_key->object != ESYS_TR_NONE)
        Esys_FlushContext(tpm_key->tpm.esys, tpm_key->object);
    tpm_close(&tpm_key->tpm);
    free(tpm_key);
}

static const struct key_operations operations = {
    .backend = KEY_BACKEND_TPM2,
    .use_in_tls = use_in_tls,
    .release = release,
};

static int open_key(const char *tcti, struct key **ret, struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    if (key_new(&operations, &key, failure) < 0)
        return -1;
    key->tpm = calloc(1, sizeof *key->tpm);
    if (key->tpm == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_KEY, "out of memory");
    key->tpm->object = ESYS_TR_NONE;
    key->tpm->device = INVALID_DEVID;
    if (tpm_open(tcti, &key->tpm->tpm, failure) < 0)
        return -1;
    *ret = TAKE_POINTER(key);
    return 0;
}

/* Signs anything it is given, made in this TPM and bound to it; noDA, or a power cut could lock it out. */
static const TPM2B_PUBLIC key_template = {
    .publicArea =
        {
            .type = TPM2_ALG_ECC,
            .nameAlg = TPM2_ALG_SHA256,
            .objectAttributes = TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_NODA | TPMA_OBJECT_FIXEDTPM |
                                TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH,
            .parameters.eccDetail =
                {
                    .symmetric.algorithm = TPM2_ALG_NULL,
                    .scheme.scheme = TPM2_ALG_NULL,
                    .curveID = TPM2_ECC_NIST_P256,
                    .kdf.scheme = TPM2_ALG_NULL,
                },
        },
};

static TSS2_RC create_child(struct tpm *tpm, const struct tpm_parent *parent, struct tss2_key *ret) {
    static const TPM2B_SENSITIVE_CREATE no_sensitive = {0};
    static const TPM2B_DATA no_data = {0};
    static const TPML_PCR_SELECTION no_pcr = {0};
    TPM2B_PRIVATE *private = NULL;
    TPM2B_PUBLIC *public = NULL;
    TSS2_RC code = Esys_Create(tpm->esys, parent->object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_sensitive,
                               &key_template, &no_data, &no_pcr, &private, &public, NULL, NULL, NULL);
    if (code == TSS2_RC_SUCCESS)
        *ret = (struct tss2_key){.parent = parent->handle, .public = *public, .private = *private};
    Esys_Free(private);
    Esys_Free(public);
    return code;
}

/* Whether the parent has a password cannot be read: the TPM says so when the first child is made. */
static bool wants_password(TSS2_RC code) {
    return code == (TPM2_RC_BAD_AUTH | TPM2_RC_S | TPM2_RC_1);
}

static int create_under(struct tpm *tpm, struct tpm_parent *parent, struct tss2_key *ret, struct failure *failure) {
    TSS2_RC code = create_child(tpm, parent, ret);
    if (wants_password(code) && parent->handle != TPM2_RH_OWNER) {
        tpm_parent_close(tpm, parent);
        if (tpm_parent_make_primary(tpm, parent, failure) < 0)
            return -1;
        code = create_child(tpm, parent, ret);
    }
    return code == TSS2_RC_SUCCESS ? 0 : tpm_fail(failure, STEP_KEY, "making a key in the TPM", code);
}

static int load_under(struct tpm_key *key, const struct tpm_parent *parent, const struct tss2_key *blobs, bool *lost,
                      struct failure *failure) {
    TSS2_RC code = Esys_Load(key->tpm.esys, parent->object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                             &blobs->private, &blobs->public, &key->object);
    if (code == TSS2_RC_SUCCESS)
        return 0;
    key->object = ESYS_TR_NONE;
    *lost = tpm_is_final(code);
    return tpm_fail(failure, STEP_KEY,
                    *lost ? "this TPM does not load the key, it was made in another one, or the TPM was cleared"
                          : "loading the key",
                    code);
}

/* NULL, or why the key cannot be used. */
static const char *judge_public(const TPMT_PUBLIC *public) {
    const TPMA_OBJECT needed = TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_USERWITHAUTH;
    const TPMT_ECC_SCHEME *scheme = &public->parameters.eccDetail.scheme;
    if (public->type != TPM2_ALG_ECC || public->parameters.eccDetail.curveID != TPM2_ECC_NIST_P256)
        return "only P-256 keys can be used";
    if ((public->objectAttributes & needed) != needed || (public->objectAttributes & TPMA_OBJECT_RESTRICTED))
        return "it is not a key that signs anything it is given (sign, userWithAuth, not restricted)";
    if (scheme->scheme != TPM2_ALG_NULL &&
        (scheme->scheme != TPM2_ALG_ECDSA || scheme->details.ecdsa.hashAlg != TPM2_ALG_SHA256))
        return "its signature scheme is not ECDSA with SHA-256";
    return NULL;
}

/* The TPM may leave out leading zeros. */
static int pad(const TPM2B_ECC_PARAMETER *number, byte *ret) {
    if (number->size > P256_SIZE)
        return -EINVAL;
    memset(ret, 0, P256_SIZE);
    memcpy(ret + P256_SIZE - number->size, number->buffer, number->size);
    return 0;
}

/* The key as wolfCrypt sees it: the public half here, the private half behind the device. */
static int import_public(struct key *key, const TPMS_ECC_POINT *point, int device) {
    ecc_key *ecc = &key->wolfcrypt.ecc;
    byte x[P256_SIZE], y[P256_SIZE];
    if (pad(&point->x, x) < 0 || pad(&point->y, y) < 0)
        return ECC_BAD_ARG_E;
    int r = wc_ecc_init_ex(ecc, NULL, device);
    if (r != 0)
        return r;
    key->has_wolfcrypt = true;
    key->algorithm = KEY_ALGORITHM_P256;
    r = wc_ecc_import_unsigned(ecc, x, y, NULL, ECC_SECP256R1);
    return r != 0 ? r : wc_ecc_check_key(ecc);
}

/* One device per key, so that wolfSSL can tell the current key from the next one. */
static int register_device(struct key *key) {
    static int last_device = 0x54504d00; /* "TPM", to keep clear of other users of the registry */
    int device = ++last_device;
    int r = wc_CryptoCb_RegisterDevice(device, on_crypto, key);
    if (r == 0)
        key->tpm->device = device;
    return r;
}

static int finish_key(struct key *key, const struct tss2_key *blobs, const char *pem, size_t size,
                      struct failure *failure) {
    int r = register_device(key);
    if (r == 0)
        r = import_public(key, &blobs->public.publicArea.unique.ecc, key->tpm->device);
    if (r != 0)
        return failure_set(failure, FAILURE_TPM, STEP_KEY, "the TPM key has an unusable public key: %s",
                           wc_GetErrorString(r));
    return key_finish(key, pem, size, failure);
}

int key_tpm2_create(const char *tcti, struct key **ret, struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    struct tpm_parent parent = {0};
    struct tss2_key blobs = {0};
    char pem[TSS2_PEM_MAX];
    bool lost = false;
    if (open_key(tcti, &key, failure) < 0 || tpm_parent_find(&key->tpm->tpm, &parent, failure) < 0)
        return -1;
    int r = create_under(&key->tpm->tpm, &parent, &blobs, failure);
    if (r == 0)
        r = load_under(key->tpm, &parent, &blobs, &lost, failure);
    snprintf(key->parent_name, sizeof key->parent_name, "%s", parent.name);
    tpm_parent_close(&key->tpm->tpm, &parent);
    if (r < 0)
        return r;
    int size = tss2_pem_encode(&blobs, pem, sizeof pem);
    if (size < 0)
        return failure_set(failure, FAILURE_TPM, STEP_KEY, "the key that the TPM made cannot be written: %s",
                           strerror(-size));
    if (finish_key(key, &blobs, pem, (size_t)size, failure) < 0)
        return -1;
    *ret = TAKE_POINTER(key);
    return 0;
}

static int read_blobs(const char *pem, size_t size, struct tss2_key *ret, struct failure *failure) {
    const char *reason = NULL;
    if (tss2_pem_decode(pem, size, ret, &reason) == 0)
        reason = judge_public(&ret->public.publicArea);
    if (reason != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_KEY, "the TPM key file cannot be used: %s", reason);
    return 0;
}

int key_tpm2_load(const char *tcti, const char *pem, size_t size, struct key **ret, bool *lost,
                  struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    struct tpm_parent parent = {0};
    struct tss2_key blobs = {0};
    if (read_blobs(pem, size, &blobs, failure) < 0) {
        *lost = true;
        return -1;
    }
    if (open_key(tcti, &key, failure) < 0 || tpm_parent_open(&key->tpm->tpm, blobs.parent, &parent, lost, failure) < 0)
        return -1;
    int r = load_under(key->tpm, &parent, &blobs, lost, failure);
    snprintf(key->parent_name, sizeof key->parent_name, "%s", parent.name);
    tpm_parent_close(&key->tpm->tpm, &parent);
    if (r == 0)
        r = finish_key(key, &blobs, pem, size, failure);
    if (r == 0)
        *ret = TAKE_POINTER(key);
    return r;
}
