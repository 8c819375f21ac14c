#include "worker/tpm-endorsement.h"

#include "common/step.h"
#include "common/text.h"
#include "worker/deadline.h"

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/hash.h>

#include <string.h>

#define P256_SIZE 32
/* A discrete TPM makes a primary key in seconds, a slow one in many. */
#define TIMEOUT_S 120

/* Template L-2 of the TCG EK Credential Profile (version 2.5, section B.3.4): P-256, with zeros in `unique`. It is
 * always the same one, whatever else is in the TPM, so that names can be compared. */
static const TPM2B_PUBLIC endorsement_template = {
    .publicArea =
        {
            .type = TPM2_ALG_ECC,
            .nameAlg = TPM2_ALG_SHA256,
            .objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                                TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT,
            /* PolicyA: TPM2_PolicySecret(TPM_RH_ENDORSEMENT) */
            .authPolicy = {.size = 32, .buffer = {0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc,
                                                  0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
                                                  0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa}},
            .parameters.eccDetail =
                {
                    .symmetric = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB},
                    .scheme.scheme = TPM2_ALG_NULL,
                    .curveID = TPM2_ECC_NIST_P256,
                    .kdf.scheme = TPM2_ALG_NULL,
                },
            .unique.ecc = {.x.size = P256_SIZE, .y.size = P256_SIZE},
        },
};

/* The TPM may leave out leading zeros. */
static bool pad(const TPM2B_ECC_PARAMETER *number, uint8_t ret[P256_SIZE]) {
    if (number->size > P256_SIZE)
        return false;
    memset(ret, 0, P256_SIZE);
    memcpy(ret + P256_SIZE - number->size, number->buffer, number->size);
    return true;
}

static bool describe(const TPMS_ECC_POINT *point, const TPM2B_NAME *name, struct tpm_endorsement *ret) {
    /* SubjectPublicKeyInfo of a P-256 key up to its point (RFC 5480, section 2), and 4 for "not compressed". */
    uint8_t info[27 + 2 * P256_SIZE] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                        0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
    uint8_t digest[WC_SHA256_DIGEST_SIZE];
    struct tpm_endorsement endorsement = {0};
    if ((size_t)name->size * 2 >= sizeof endorsement.name || !pad(&point->x, info + 27) ||
        !pad(&point->y, info + 27 + P256_SIZE) || wc_Sha256Hash(info, sizeof info, digest) != 0)
        return false;
    text_to_hex(name->name, name->size, endorsement.name);
    text_to_hex(digest, (sizeof endorsement.serial - 1) / 2, endorsement.serial);
    *ret = endorsement;
    return true;
}

/* True if the TPM has judged the hierarchy, its authorization or the template: the same for ever, unlike its warnings
 * (TPM 2.0 part 2, section 6.6.2). */
static bool is_refusal(TSS2_RC code) {
    return (code & TSS2_RC_LAYER_MASK) == TSS2_TPM_RC_LAYER && (code & TPM2_RC_FMT1) != 0;
}

static int read_from(struct tpm *tpm, struct tpm_endorsement *ret, bool *ret_refused, struct failure *failure) {
    static const TPM2B_SENSITIVE_CREATE no_sensitive = {0};
    static const TPM2B_DATA no_data = {0};
    static const TPML_PCR_SELECTION no_pcr = {0};
    ESYS_TR object = ESYS_TR_NONE;
    TPM2B_PUBLIC *public = NULL;
    TPM2B_NAME *name = NULL;
    TSS2_RC code =
        Esys_CreatePrimary(tpm->esys, ESYS_TR_RH_ENDORSEMENT, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                           &no_sensitive, &endorsement_template, &no_data, &no_pcr, &object, &public, NULL, NULL, NULL);
    *ret_refused = is_refusal(code);
    if (code == TSS2_RC_SUCCESS) {
        code = Esys_TR_GetName(tpm->esys, object, &name);
        Esys_FlushContext(tpm->esys, object);
    }
    bool described = code == TSS2_RC_SUCCESS && describe(&public->publicArea.unique.ecc, name, ret);
    Esys_Free(public);
    Esys_Free(name);
    if (code != TSS2_RC_SUCCESS)
        return tpm_fail(failure, STEP_KEY, "making the endorsement key", code);
    return described ? 0 : failure_set(failure, FAILURE_TPM, STEP_KEY, "the TPM's endorsement key is malformed");
}

int tpm_endorsement_read(const char *tcti, struct tpm_endorsement *ret, bool *ret_refused, struct failure *failure) {
    struct tpm tpm = {0};
    *ret_refused = false;
    if (ret->name[0] != '\0')
        return 0;
    deadline_start(TIMEOUT_S, FAILURE_TPM, STEP_KEY, "making the endorsement key");
    int r = tpm_open(tcti, &tpm, failure);
    if (r == 0) {
        r = read_from(&tpm, ret, ret_refused, failure);
        tpm_close(&tpm);
    }
    deadline_stop();
    return r;
}
