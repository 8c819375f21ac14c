#include "worker/key-tpm2.h"
#include "common/step.h"
#include "worker/tpm-import.h"
#include "worker/tss2-pem.h"

#include <wolfssl/wolfcrypt/cryptocb.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <stdio.h>
#include <string.h>

_Static_assert(KEY_PARENT_NAME_SIZE == TPM_NAME_SIZE, "one size for the parent's name");

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
    .use_in_tls = key_tpm2_sign_use_in_tls,
    .use_in_session = key_tpm2_sign_use_in_session,
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

/* What a key is made from. */
struct material {
    enum key_algorithm algorithm;
    TPM2B_PUBLIC public;
    const TPM2B_SENSITIVE *sensitive; /* NULL: the TPM makes a new key */
};

static TSS2_RC create_child(struct tpm *tpm, const struct tpm_parent *parent, const struct material *material,
                            struct tss2_key *ret) {
    static const TPM2B_SENSITIVE_CREATE no_sensitive = {0};
    static const TPM2B_DATA no_data = {0};
    static const TPML_PCR_SELECTION no_pcr = {0};
    TPM2B_PRIVATE *private = NULL;
    TPM2B_PUBLIC *public = NULL;
    TSS2_RC code = Esys_Create(tpm->esys, parent->object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_sensitive,
                               &material->public, &no_data, &no_pcr, &private, &public, NULL, NULL, NULL);
    if (code == TSS2_RC_SUCCESS)
        *ret = (struct tss2_key){.parent = parent->handle, .public = *public, .private = *private};
    Esys_Free(private);
    Esys_Free(public);
    return code;
}

static TSS2_RC make_child(struct tpm *tpm, const struct tpm_parent *parent, const struct material *material,
                          struct tss2_key *ret) {
    if (material->sensitive == NULL)
        return create_child(tpm, parent, material, ret);
    *ret = (struct tss2_key){.parent = parent->handle, .public = material->public};
    return tpm_import(tpm, parent, &material->public, material->sensitive, &ret->private);
}

/* Whether the parent has a password cannot be read: the TPM says so when the first child is made. */
static bool wants_password(TSS2_RC code) {
    return code == (TPM2_RC_BAD_AUTH | TPM2_RC_S | TPM2_RC_1);
}

/* What a TPM answers that does not know the curve or the size. */
static bool lacks_algorithm(TSS2_RC code) {
    TSS2_RC base = code & (TPM2_RC_FMT1 | 0x3f);
    return (code & TSS2_RC_LAYER_MASK) == TSS2_TPM_RC_LAYER && (code & TPM2_RC_FMT1) != 0 && (code & TPM2_RC_P) != 0 &&
           (base == TPM2_RC_CURVE || base == TPM2_RC_VALUE || base == TPM2_RC_KEY_SIZE || base == TPM2_RC_ASYMMETRIC);
}

static int fail_making(const struct material *material, TSS2_RC code, struct failure *failure) {
    char what[96];
    bool made = material->sensitive == NULL;
    const char *name = key_algorithm_name(material->algorithm);
    if (lacks_algorithm(code))
        snprintf(what, sizeof what,
                 made ? "this TPM has no %s keys, choose another [Key] Algorithm="
                      : "this TPM does not take such a key (%s)",
                 name);
    else
        snprintf(what, sizeof what, made ? "making a key (%s) in the TPM" : "importing a key (%s) into the TPM", name);
    return tpm_fail(failure, STEP_KEY, what, code);
}

static int make_under(struct tpm *tpm, struct tpm_parent *parent, const struct material *material, struct tss2_key *ret,
                      struct failure *failure) {
    TSS2_RC code = make_child(tpm, parent, material, ret);
    if (wants_password(code) && parent->handle != TPM2_RH_OWNER) {
        tpm_parent_close(tpm, parent);
        if (tpm_parent_make_primary(tpm, parent, failure) < 0)
            return -1;
        code = make_child(tpm, parent, material, ret);
    }
    return code == TSS2_RC_SUCCESS ? 0 : fail_making(material, code, failure);
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

static int finish_key(struct key *key, const struct tss2_key *blobs, const char *pem, size_t size,
                      struct failure *failure) {
    const TPMA_OBJECT made_here = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_SENSITIVEDATAORIGIN;
    int r = key_tpm2_sign_register(key);
    if (r == 0)
        r = key_tpm2_public_import(key, &blobs->public.publicArea);
    if (r != 0)
        return failure_set(failure, FAILURE_TPM, STEP_KEY, "the TPM key has an unusable public key: %s",
                           wc_GetErrorString(r));
    key->imported = (blobs->public.publicArea.objectAttributes & made_here) != made_here;
    return key_finish(key, pem, size, failure);
}

static int make_key(const char *tcti, const struct material *material, struct key **ret, struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    struct tpm_parent parent = {0};
    struct tss2_key blobs = {0};
    char pem[TSS2_PEM_MAX];
    bool lost = false;
    if (open_key(tcti, &key, failure) < 0 || tpm_parent_find(&key->tpm->tpm, &parent, failure) < 0)
        return -1;
    key->algorithm = material->algorithm;
    int r = make_under(&key->tpm->tpm, &parent, material, &blobs, failure);
    if (r == 0)
        r = load_under(key->tpm, &parent, &blobs, &lost, failure);
    snprintf(key->parent_name, sizeof key->parent_name, "%s", parent.name);
    tpm_parent_close(&key->tpm->tpm, &parent);
    if (r < 0)
        return r;
    int size = tss2_pem_encode(&blobs, pem, sizeof pem);
    if (size < 0)
        return failure_set(failure, FAILURE_TPM, STEP_KEY, "the key of the TPM cannot be written: %s", strerror(-size));
    if (finish_key(key, &blobs, pem, (size_t)size, failure) < 0)
        return -1;
    *ret = TAKE_POINTER(key);
    return 0;
}

int key_tpm2_create(const char *tcti, enum key_algorithm algorithm, struct key **ret, struct failure *failure) {
    const struct material material = {
        .algorithm = algorithm,
        .public = key_tpm2_public_template(algorithm, TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                                          TPMA_OBJECT_SENSITIVEDATAORIGIN),
    };
    return make_key(tcti, &material, ret, failure);
}

int key_tpm2_import(const char *tcti, struct key *software, struct key **ret, struct failure *failure) {
    struct material material = {.algorithm = software->algorithm};
    TPM2B_SENSITIVE sensitive = {0};
    material.public = key_tpm2_public_template(material.algorithm, 0);
    material.sensitive = &sensitive;
    int r = key_tpm2_public_export(software, &material.public.publicArea, &sensitive.sensitiveArea);
    if (r == 0)
        r = make_key(tcti, &material, ret, failure);
    else
        failure_set(failure, FAILURE_INVALID, STEP_KEY, "the private key cannot be imported into a TPM: %s",
                    wc_GetErrorString(r));
    explicit_bzero(&sensitive, sizeof sensitive);
    return r == 0 ? 0 : -1;
}

static int read_blobs(const char *pem, size_t size, struct tss2_key *ret, enum key_algorithm *ret_algorithm,
                      struct failure *failure) {
    const char *reason = NULL;
    if (tss2_pem_decode(pem, size, ret, &reason) == 0)
        reason = key_tpm2_public_judge(&ret->public.publicArea, ret_algorithm);
    if (reason != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_KEY, "the TPM key file cannot be used: %s", reason);
    return 0;
}

int key_tpm2_load(const char *tcti, const char *pem, size_t size, struct key **ret, bool *lost,
                  struct failure *failure) {
    AUTO_KEY struct key *key = NULL;
    struct tpm_parent parent = {0};
    struct tss2_key blobs = {0};
    enum key_algorithm algorithm = KEY_ALGORITHM_P256;
    if (read_blobs(pem, size, &blobs, &algorithm, failure) < 0) {
        *lost = true;
        return -1;
    }
    if (open_key(tcti, &key, failure) < 0 || tpm_parent_open(&key->tpm->tpm, blobs.parent, &parent, lost, failure) < 0)
        return -1;
    key->algorithm = algorithm;
    int r = load_under(key->tpm, &parent, &blobs, lost, failure);
    snprintf(key->parent_name, sizeof key->parent_name, "%s", parent.name);
    tpm_parent_close(&key->tpm->tpm, &parent);
    if (r == 0)
        r = finish_key(key, &blobs, pem, size, failure);
    if (r == 0)
        *ret = TAKE_POINTER(key);
    return r;
}
