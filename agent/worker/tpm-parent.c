#include "common/step.h"
#include "common/text.h"
#include "worker/tpm.h"

#include <tss2/tss2_mu.h>
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/hash.h>

#include <stdio.h>
#include <string.h>

#define PARENT_ATTRIBUTES                                                                                              \
    (TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT | TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |                   \
     TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_NODA | TPMA_OBJECT_USERWITHAUTH)

/* The template of tpm2-openssl for a key file with the parent "owner": P-256, SHA-256, AES-128-CFB, nothing in
 * unique. Any difference gives another primary key, under which the children do not load. */
static const TPM2B_PUBLIC primary_template = {
    .publicArea =
        {
            .type = TPM2_ALG_ECC,
            .nameAlg = TPM2_ALG_SHA256,
            .objectAttributes = PARENT_ATTRIBUTES,
            .parameters.eccDetail =
                {
                    .symmetric = {.algorithm = TPM2_ALG_AES, .keyBits.aes = 128, .mode.aes = TPM2_ALG_CFB},
                    .scheme.scheme = TPM2_ALG_NULL,
                    .curveID = TPM2_ECC_NIST_P256,
                    .kdf.scheme = TPM2_ALG_NULL,
                },
        },
};

/* True if the object may be the parent of a device key. Without noDA its children are refused while the TPM is in
 * dictionary attack lockout, which any power cut can bring about. */
static bool is_fit(const TPMT_PUBLIC *public) {
    return (public->type == TPM2_ALG_ECC || public->type == TPM2_ALG_RSA) &&
           (public->objectAttributes & PARENT_ATTRIBUTES) == PARENT_ATTRIBUTES;
}

static enum wc_HashType hash_type(TPMI_ALG_HASH algorithm) {
    switch (algorithm) {
    case TPM2_ALG_SHA1:
        return WC_HASH_TYPE_SHA;
    case TPM2_ALG_SHA256:
        return WC_HASH_TYPE_SHA256;
    case TPM2_ALG_SHA384:
        return WC_HASH_TYPE_SHA384;
    case TPM2_ALG_SHA512:
        return WC_HASH_TYPE_SHA512;
    }
    return WC_HASH_TYPE_NONE;
}

static uint16_t read_be16(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/* True if the name is that of the marshalled public area: nameAlg || hash(area), TPM 2.0 part 1, section 16. */
static bool name_matches(const TPM2B_NAME *name, const uint8_t *area, size_t size) {
    uint8_t digest[WC_MAX_DIGEST_SIZE];
    if (size < 4 || name->size < 2 || read_be16(area + 2) != read_be16(name->name))
        return false;
    enum wc_HashType type = hash_type(read_be16(name->name));
    int digest_size = type == WC_HASH_TYPE_NONE ? -1 : wc_HashGetDigestSize(type);
    return digest_size > 0 && name->size == 2 + digest_size &&
           wc_Hash(type, area, (word32)size, digest, (word32)digest_size) == 0 &&
           memcmp(digest, name->name + 2, (size_t)digest_size) == 0;
}

/* Finds the public area inside what ESYS keeps of the object. The layout of that is ESYS's own affair and differs
 * between its releases, so each place is tried and only the one with the object's name counts. */
static bool find_public(const uint8_t *data, size_t size, const TPM2B_NAME *name, TPM2B_PUBLIC *ret) {
    for (size_t at = 0; at + 2 < size; at++) {
        size_t area_size = read_be16(data + at);
        size_t offset = at;
        if (area_size > size - at - 2 || !name_matches(name, data + at + 2, area_size))
            continue;
        *ret = (TPM2B_PUBLIC){0};
        return Tss2_MU_TPM2B_PUBLIC_Unmarshal(data, size, &offset, ret) == TSS2_RC_SUCCESS;
    }
    return false;
}

/* ESYS has read the public area for Esys_TR_FromTPMPublic() but does not hand it out; asking the TPM a second time
 * would cost a command. */
static TSS2_RC get_public(struct tpm *tpm, ESYS_TR object, const TPM2B_NAME *name, TPM2B_PUBLIC *ret) {
    uint8_t *data = NULL;
    size_t size = 0;
    TPM2B_PUBLIC *public = NULL;
    bool found = false;
    if (Esys_TR_Serialize(tpm->esys, object, &data, &size) == TSS2_RC_SUCCESS)
        found = find_public(data, size, name, ret);
    Esys_Free(data);
    if (found)
        return TSS2_RC_SUCCESS;
    TSS2_RC code = Esys_ReadPublic(tpm->esys, object, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &public, NULL, NULL);
    if (code == TSS2_RC_SUCCESS)
        *ret = *public;
    Esys_Free(public);
    return code;
}

/* Fills the name; *ret_public may be NULL. */
static TSS2_RC describe(struct tpm *tpm, struct tpm_parent *parent, TPM2B_PUBLIC *ret_public) {
    TPM2B_NAME *name = NULL;
    TSS2_RC code = Esys_TR_GetName(tpm->esys, parent->object, &name);
    if (code == TSS2_RC_SUCCESS && (size_t)name->size * 2 < sizeof parent->name)
        text_to_hex(name->name, name->size, parent->name);
    if (code == TSS2_RC_SUCCESS && ret_public != NULL)
        code = get_public(tpm, parent->object, name, ret_public);
    Esys_Free(name);
    return code;
}

static TSS2_RC open_persistent(struct tpm *tpm, TPM2_HANDLE handle, TPM2B_PUBLIC *ret_public, struct tpm_parent *ret) {
    struct tpm_parent parent = {.object = ESYS_TR_NONE, .handle = handle};
    TSS2_RC code = Esys_TR_FromTPMPublic(tpm->esys, handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &parent.object);
    if (code != TSS2_RC_SUCCESS)
        return code;
    code = describe(tpm, &parent, ret_public);
    if (code == TSS2_RC_SUCCESS)
        *ret = parent;
    else
        tpm_parent_close(tpm, &parent);
    return code;
}

/* No object has that handle: TPM_RC_HANDLE for the first handle. */
static bool is_absent(TSS2_RC code) {
    return code == (TPM2_RC_HANDLE | TPM2_RC_1);
}

int tpm_parent_find(struct tpm *tpm, struct tpm_parent *ret, struct failure *failure) {
    struct tpm_parent parent = {0};
    TPM2B_PUBLIC public = {0};
    TSS2_RC code = open_persistent(tpm, TPM_STORAGE_ROOT_KEY, &public, &parent);
    if (code != TSS2_RC_SUCCESS && !is_absent(code))
        return tpm_fail(failure, STEP_KEY, "reading the storage root key 0x81000001", code);
    if (code == TSS2_RC_SUCCESS && is_fit(&public.publicArea)) {
        *ret = parent;
        return 0;
    }
    tpm_parent_close(tpm, &parent);
    return tpm_parent_make_primary(tpm, ret, failure);
}

int tpm_parent_make_primary(struct tpm *tpm, struct tpm_parent *ret, struct failure *failure) {
    static const TPM2B_SENSITIVE_CREATE no_sensitive = {0};
    static const TPM2B_DATA no_data = {0};
    static const TPML_PCR_SELECTION no_pcr = {0};
    struct tpm_parent parent = {.object = ESYS_TR_NONE, .handle = TPM2_RH_OWNER};
    TSS2_RC code =
        Esys_CreatePrimary(tpm->esys, ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_sensitive,
                           &primary_template, &no_data, &no_pcr, &parent.object, NULL, NULL, NULL, NULL);
    if (code == TSS2_RC_SUCCESS)
        code = describe(tpm, &parent, NULL);
    if (code != TSS2_RC_SUCCESS) {
        tpm_parent_close(tpm, &parent);
        return tpm_fail(failure, STEP_KEY, "making a primary key in the owner hierarchy", code);
    }
    *ret = parent;
    return 0;
}

int tpm_parent_open(struct tpm *tpm, TPM2_HANDLE handle, struct tpm_parent *ret, bool *lost, struct failure *failure) {
    char what[96];
    if (handle == TPM2_RH_OWNER)
        return tpm_parent_make_primary(tpm, ret, failure);
    TSS2_RC code = open_persistent(tpm, handle, NULL, ret);
    if (code == TSS2_RC_SUCCESS)
        return 0;
    *lost = is_absent(code);
    snprintf(what, sizeof what, "the key's parent 0x%08x %s", handle,
             *lost ? "is not in this TPM (cleared or another one?)" : "cannot be read");
    return tpm_fail(failure, STEP_KEY, what, code);
}

void tpm_parent_close(struct tpm *tpm, struct tpm_parent *parent) {
    if (parent->handle == 0 || parent->object == ESYS_TR_NONE)
        return;
    if (parent->handle == TPM2_RH_OWNER)
        Esys_FlushContext(tpm->esys, parent->object);
    else
        Esys_TR_Close(tpm->esys, &parent->object);
    *parent = (struct tpm_parent){0};
}
