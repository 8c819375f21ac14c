#include "common/cleanup.h"
#include "harness.h"
#include "request.h"
#include "scratch.h"
#include "swtpm.h"
#include "tpm-probe.h"
#include "worker/certificate.h"
#include "worker/key-tpm2.h"
#include "worker/tss2-pem.h"

#include <tss2/tss2_mu.h>

#include <stdio.h>
#include <string.h>

#define FIT                                                                                                            \
    (TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT | TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |                   \
     TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_NODA | TPMA_OBJECT_USERWITHAUTH)

/* Every run of so many bytes of a secret is looked for. */
#define RUN 16

static void cleanup_swtpm(struct swtpm *swtpm) {
    swtpm_stop(swtpm);
}
#define AUTO_SWTPM CLEANUP(cleanup_swtpm)

static struct key_settings settings_for(const struct swtpm *swtpm) {
    return (struct key_settings){.backend = KEY_BACKEND_TPM2, .tcti = swtpm->tcti};
}

/* Imports the text of a file of the scratch directory; NULL with the reason in *failure. */
static struct key *import_file(const struct swtpm *swtpm, const char *name, struct failure *failure) {
    struct key_settings settings = settings_for(swtpm);
    char text[2 * KEY_PEM_MAX];
    struct key *key = NULL;
    size_t size = scratch_read(name, text, sizeof text);
    AUTO_FREE char *copy = malloc(size + 1); /* exact, so that the sanitizer sees a read behind the end */
    memcpy(copy, text, size);
    tpm_probe_reset();
    int r = key_import(&settings, copy, size, &key, failure);
    ASSERT_NUMBER(r, key != NULL ? 0 : -1);
    return key;
}

static struct key *import_good(const struct swtpm *swtpm, const char *name) {
    struct failure failure = {0};
    struct key *key = import_file(swtpm, name, &failure);
    ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    return key;
}

static struct key *load(const struct swtpm *swtpm, const char *pem, size_t size) {
    struct key_settings settings = settings_for(swtpm);
    struct failure failure = {0};
    struct key *key = NULL;
    bool lost = true;
    if (key_load(&settings, pem, size, &key, &lost, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    return key;
}

/* It signs, its request is good in OpenSSL's eyes and for the key in the file. */
static void expect_signs_as(struct key *key, const char *name) {
    AUTO_FREE char *request = NULL;
    struct failure failure = {0};
    if (key_test(key, &failure) < 0 || make_request(key, "CN=gateway", &request, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(request);
    ASSERT_NUMBER(scratch_write("request.pem", request, strlen(request)), 0);
    ASSERT_NUMBER(scratch_run("openssl req -in request.pem -noout -verify 2>&1 | grep -i 'verify OK'"), 0);
    ASSERT_NUMBER(scratch_run("openssl pkey -in %s -pubout >public.pem && "
                              "openssl req -in request.pem -noout -pubkey | cmp - public.pem",
                              name),
                  0);
}

/* Only the imported private.pem, and stock OpenSSL. */
static void expect_openssl_loads(const struct swtpm *swtpm, const char *pem, size_t size) {
    ASSERT_NUMBER(scratch_write("private.pem", pem, size), 0);
    ASSERT_NUMBER(
        scratch_run("head -c 32 /dev/zero >digest && TPM2OPENSSL_TCTI='%s' openssl pkeyutl -provider tpm2 "
                    "-provider base -sign -inkey private.pem -pkeyopt digest:SHA256 -in digest -out signature",
                    swtpm->tcti),
        0);
    ASSERT_NUMBER(scratch_run("openssl pkeyutl -verify -pubin -inkey public.pem -pkeyopt digest:SHA256 -in digest "
                              "-sigfile signature"),
                  0);
}

/* A key of the TPM, but not one that it could vouch for, and one that nobody can duplicate or guess at. */
static void expect_attributes(const char *pem, size_t size) {
    struct tss2_key blobs = {0};
    const char *reason = NULL;
    ASSERT_NUMBER(tss2_pem_decode(pem, size, &blobs, &reason), 0);
    ASSERT_NUMBER(blobs.public.publicArea.objectAttributes,
                  TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_NODA | TPMA_OBJECT_USERWITHAUTH);
    ASSERT_NUMBER(blobs.public.publicArea.authPolicy.size, 0);
}

static const struct {
    const char *command, *algorithm;
} forms[] = {
    {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k", "P-256"},
    {"openssl ecparam -name prime256v1 -genkey -out k", "P-256"}, /* SEC1 behind EC PARAMETERS */
    {"openssl ecparam -name prime256v1 -genkey -noout | openssl ec -no_public -out k", "P-256"},
    {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out k", "P-384"},
    {"openssl ecparam -name secp384r1 -genkey -noout -out k", "P-384"},
    {"openssl genrsa -traditional -out k 2048", "RSA-2048"}, /* PKCS#1 */
    {"openssl genrsa -out k 2048", "RSA-2048"},
    {"openssl genrsa -out k 3072", "RSA-3072"},
};

static void test_forms(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    CU_ASSERT_EQUAL_FATAL(swtpm_make_storage_root_key(&swtpm, FIT, ""), 0);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        size_t size = 0;
        ASSERT_NUMBER(scratch_run("%s", forms[i].command), 0);
        struct key *key = import_good(&swtpm, "k");
        ASSERT_TEXT(tpm_probe_commands(), "ReadPublic ReadPublic Import Load ");
        ASSERT_TEXT(key_algorithm_name(key_get_algorithm(key)), forms[i].algorithm);
        ASSERT_NUMBER(key_get_backend(key), KEY_BACKEND_TPM2);
        ASSERT_TEXT(key_get_origin(key), "imported");
        ASSERT_NUMBER(strlen(key_parent_name(key)), 68);
        expect_signs_as(key, "k");
        AUTO_FREE char *pem = strdup(key_private_pem(key, &size));
        key_free(key);
        expect_attributes(pem, size);
        key = load(&swtpm, pem, size);
        ASSERT_TEXT(key_get_origin(key), "imported");
        expect_signs_as(key, "k");
        key_free(key);
        expect_openssl_loads(&swtpm, pem, size);
        ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
    }
}

static void expect_imports_under(const char *curve_or_size, const char *hash) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    size_t size = 0;
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    ASSERT_NUMBER(scratch_run("export TPM2TOOLS_TCTI='%s' && tpm2_createprimary -Q -C o -G %s -g %s -c parent -a "
                              "'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt' && "
                              "tpm2_evictcontrol -Q -C o -c parent 0x81000001 && tpm2_flushcontext -Q -t",
                              swtpm.tcti, curve_or_size, hash),
                  0);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i += 3) {
        ASSERT_NUMBER(scratch_run("%s", forms[i].command), 0);
        AUTO_KEY struct key *key = import_good(&swtpm, "k");
        struct tss2_key blobs = {0};
        const char *reason = NULL, *pem = key_private_pem(key, &size);
        ASSERT_NUMBER(tss2_pem_decode(pem, size, &blobs, &reason), 0);
        ASSERT_NUMBER(blobs.parent, TPM_STORAGE_ROOT_KEY);
        expect_signs_as(key, "k");
    }
    ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
}

/* The wrapper depends on the parent: how the seed gets there, its hash, its cipher. */
static void test_parents(void) {
    expect_imports_under("rsa2048:null:aes128cfb", "sha256");
    expect_imports_under("rsa3072:null:aes256cfb", "sha512");
    expect_imports_under("ecc256:null:aes256cfb", "sha256");
    expect_imports_under("ecc384:null:aes256cfb", "sha384");
}

static void test_without_storage_root_key(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    ASSERT_NUMBER(scratch_run("%s", forms[0].command), 0);
    key_free(import_good(&swtpm, "k"));
    ASSERT_TEXT(tpm_probe_commands(), "ReadPublic CreatePrimary ReadPublic Import Load FlushContext FlushContext ");
    ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
    CU_ASSERT_EQUAL_FATAL(swtpm_make_storage_root_key(&swtpm, FIT, "password"), 0);
    key_free(import_good(&swtpm, "k"));
    ASSERT_TEXT(tpm_probe_commands(), "ReadPublic ReadPublic Import CreatePrimary ReadPublic Import Load "
                                      "FlushContext FlushContext ");
    ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
}

/* How many runs of the bytes have passed on the TPM's wire. */
static int count_seen(const byte *bytes, size_t size) {
    int count = 0;
    for (size_t at = 0; at + RUN <= size; at++)
        count += tpm_probe_saw(bytes + at, RUN);
    return count;
}

/* The same for all numbers that would give the key away. */
static int count_seen_of(struct key *software) {
    byte d[512], p[256], q[256], e[8], n[512];
    word32 d_size = sizeof d, p_size = sizeof p, q_size = sizeof q, e_size = sizeof e, n_size = sizeof n;
    if (!key_is_rsa(software)) {
        ASSERT_NUMBER(wc_ecc_export_private_only(&software->wolfcrypt.ecc, d, &d_size), 0);
        return count_seen(d, d_size);
    }
    ASSERT_NUMBER(wc_RsaExportKey(&software->wolfcrypt.rsa, e, &e_size, n, &n_size, d, &d_size, p, &p_size, q, &q_size),
                  0);
    return count_seen(d, d_size) + count_seen(p, p_size) + count_seen(q, q_size);
}

/* TPM2_Import() without any wrapper, which the TPM takes, too. */
static void import_in_the_clear(const struct swtpm *swtpm, struct key *software) {
    static const TPM2B_DATA no_key = {0};
    static const TPM2B_ENCRYPTED_SECRET no_seed = {0};
    static const TPMT_SYM_DEF_OBJECT no_cipher = {.algorithm = TPM2_ALG_NULL};
    TPM2B_PUBLIC public = key_tpm2_public_template(key_get_algorithm(software), 0);
    TPM2B_SENSITIVE sensitive = {0};
    TPM2B_PRIVATE duplicate = {0}, *private = NULL;
    struct tpm tpm = {0};
    struct tpm_parent parent = {0};
    struct failure failure = {0};
    size_t size = 0;
    ASSERT_NUMBER(tpm_open(swtpm->tcti, &tpm, &failure), 0);
    ASSERT_NUMBER(tpm_parent_find(&tpm, &parent, &failure), 0);
    ASSERT_NUMBER(key_tpm2_public_export(software, &public.publicArea, &sensitive.sensitiveArea), 0);
    ASSERT_NUMBER(Tss2_MU_TPM2B_SENSITIVE_Marshal(&sensitive, duplicate.buffer, sizeof duplicate.buffer, &size), 0);
    duplicate.size = (UINT16)size;
    ASSERT_NUMBER(Esys_Import(tpm.esys, parent.object, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_key, &public,
                              &duplicate, &no_seed, &no_cipher, &private),
                  0);
    Esys_Free(private);
    tpm_parent_close(&tpm, &parent);
    tpm_close(&tpm);
}

static void test_wire(void) {
    static const enum key_algorithm algorithms[] = {
        KEY_ALGORITHM_P256,
        KEY_ALGORITHM_P384,
        KEY_ALGORITHM_RSA2048,
        KEY_ALGORITHM_RSA3072,
    };
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    CU_ASSERT_EQUAL_FATAL(swtpm_make_storage_root_key(&swtpm, FIT, ""), 0);
    for (size_t i = 0; i < sizeof algorithms / sizeof algorithms[0]; i++) {
        const struct key_settings settings = {.backend = KEY_BACKEND_FILE, .algorithm = algorithms[i]};
        AUTO_KEY struct key *software = NULL, *key = NULL;
        struct failure failure = {0};
        size_t size = 0;
        CU_ASSERT_EQUAL_FATAL(key_create(&settings, &software, &failure), 0);
        const char *pem = key_private_pem(software, &size);
        ASSERT_NUMBER(scratch_write("k", pem, size), 0);
        key = import_good(&swtpm, "k");
        ASSERT_NUMBER(key_test(key, &failure), 0);
        ASSERT_TEXT(tpm_probe_commands(), "ReadPublic ReadPublic Import Load Sign ");
        ASSERT_NUMBER(count_seen_of(software), 0);
        tpm_probe_reset();
        import_in_the_clear(&swtpm, software);
        ASSERT_TEXT(tpm_probe_commands(), "ReadPublic Import ");
        CU_ASSERT(count_seen_of(software) > RUN);
    }
}

static void test_refused(void) {
    static const struct {
        const char *command, *message;
    } cases[] = {
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -pass pass:x -out k",
         "encrypted: convert it with `openssl pkey -in KEY -out NEWKEY`"},
        {"openssl genrsa -traditional -aes128 -passout pass:x -out k 2048", "encrypted: convert"},
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out k", "P-256, P-384 and RSA"},
        {"openssl genpkey -algorithm ED25519 -out k", "P-256, P-384 and RSA"},
        {"openssl genrsa -out k 1024", "P-256, P-384 and RSA"},
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | openssl pkey -pubout -out k",
         "there is no private key in it"},
        {"openssl genrsa 2048 | head -5 >k", "damaged"},
        {"echo '-----BEGIN TSS2 PRIVATE KEY-----' >k", "one of a TPM already"},
        {"head -c 8193 /dev/zero >k", "larger than 8192 bytes"},
        {": >k", "there is no private key in it"},
    };
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct failure failure = {0};
        ASSERT_NUMBER(scratch_run("%s", cases[i].command), 0);
        CU_ASSERT_PTR_NULL(import_file(&swtpm, "k", &failure));
        ASSERT_TEXT(failure_class_name(failure.class), "invalid");
        ASSERT_TEXT(failure.step, "key");
        if (strstr(failure.message, cases[i].message) == NULL)
            ASSERT_TEXT(failure.message, cases[i].message);
        ASSERT_TEXT(tpm_probe_commands(), "");
    }
}

/* The public half of the file is that of another key. */
static void test_mismatched_halves(void) {
    static const char *const commands[] = {
        "openssl ecparam -name prime256v1 -genkey -noout -outform DER -out a && "
        "openssl ecparam -name prime256v1 -genkey -noout -outform DER -out b && "
        "{ head -c 56 a; tail -c +57 b; } >c && "
        "{ echo '-----BEGIN EC PRIVATE KEY-----'; base64 c; echo '-----END EC PRIVATE KEY-----'; } >k",
        /* The modulus of one, 257 bytes behind 4 of SEQUENCE, 3 of version and 4 of INTEGER; the rest of the other. */
        "openssl genrsa -traditional 2048 | openssl rsa -traditional -outform DER -out a && "
        "openssl genrsa -traditional 2048 | openssl rsa -traditional -outform DER -out b && "
        "{ head -c 11 b; head -c 268 a | tail -c 257; tail -c +269 b; } >c && "
        "{ echo '-----BEGIN RSA PRIVATE KEY-----'; base64 c; echo '-----END RSA PRIVATE KEY-----'; } >k",
    };
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        struct failure failure = {0};
        ASSERT_NUMBER(scratch_run("%s", commands[i]), 0);
        CU_ASSERT_PTR_NULL(import_file(&swtpm, "k", &failure));
        ASSERT_TEXT(failure_class_name(failure.class), "invalid");
        if (strstr(failure.message, "private key does not belong to its public key") == NULL)
            ASSERT_TEXT(failure.message, "private key does not belong to its public key");
        ASSERT_TEXT(tpm_probe_commands(), "");
    }
}

static void expect_tpm_refuses(const struct swtpm *swtpm, const char *message) {
    struct failure failure = {0};
    CU_ASSERT_PTR_NULL(import_file(swtpm, "k", &failure));
    ASSERT_TEXT(failure_class_name(failure.class), "tpm");
    ASSERT_TEXT(failure.step, "key");
    if (strstr(failure.message, message) == NULL)
        ASSERT_TEXT(failure.message, message);
    tpm_probe_reset();
    ASSERT_NUMBER(swtpm_count_handles(swtpm), 0);
}

/* swtpm has neither of these: the other is RSA with an exponent of 3. */
static void test_what_the_tpm_lacks(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    ASSERT_NUMBER(scratch_run("openssl genrsa -out k 4096"), 0);
    expect_tpm_refuses(&swtpm, "this TPM does not take such a key (RSA-4096): tpm");
    ASSERT_NUMBER(scratch_run("openssl genrsa -3 -out k 2048"), 0);
    expect_tpm_refuses(&swtpm, "this TPM does not take such a key (RSA-2048): tpm");
}

static void test_tpm_fails(void) {
    static const struct {
        TPM2_CC command;
        TPM2_RC answer;
        const char *message;
    } cases[] = {
        {TPM2_CC_ReadPublic, 0x922, "0x922"},
        {TPM2_CC_Import, 0x921, "importing a key (P-256) into the TPM: tpm:warn(2.0): authorizations"},
        {TPM2_CC_Import, 0x9a2, "0x9a2"},
        {TPM2_CC_Import, 0x19f, "0x19f"}, /* TPM_RC_INTEGRITY: the wrapper was changed on its way */
        {TPM2_CC_Load, 0x902, "/dev/tpmrm0"},
        {TPM2_CC_CreatePrimary, 0x9a2, "password"},
    };
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    ASSERT_NUMBER(scratch_run("%s", forms[0].command), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct key_settings settings = settings_for(&swtpm);
        char pem[KEY_PEM_MAX];
        struct failure failure = {0};
        struct key *key = NULL;
        size_t size = scratch_read("k", pem, sizeof pem);
        tpm_probe_reset();
        tpm_probe_answer(cases[i].command, cases[i].answer);
        ASSERT_NUMBER(key_import(&settings, pem, size, &key, &failure), -1);
        CU_ASSERT_PTR_NULL(key);
        ASSERT_TEXT(failure_class_name(failure.class), "tpm");
        if (strstr(failure.message, cases[i].message) == NULL)
            ASSERT_TEXT(failure.message, cases[i].message);
        tpm_probe_reset();
        ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
    }
}

/* What is stored is of use in this TPM only. */
static void test_other_tpm(void) {
    AUTO_SWTPM struct swtpm here = {0}, there = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&here), 0);
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&there), 0);
    ASSERT_NUMBER(scratch_run("%s", forms[0].command), 0);
    AUTO_KEY struct key *key = import_good(&here, "k"), *other = NULL;
    struct key_settings settings = settings_for(&there);
    struct failure failure = {0};
    size_t size = 0;
    bool lost = false;
    const char *pem = key_private_pem(key, &size);
    ASSERT_NUMBER(key_load(&settings, pem, size, &other, &lost, &failure), -1);
    CU_ASSERT_TRUE(lost);
}

static void test_file_backend(void) {
    const struct key_settings settings = {.backend = KEY_BACKEND_FILE, .tcti = "none"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        char text[KEY_PEM_MAX];
        struct failure failure = {0};
        AUTO_KEY struct key *key = NULL;
        ASSERT_NUMBER(scratch_run("%s", forms[i].command), 0);
        size_t size = scratch_read("k", text, sizeof text);
        ASSERT_NUMBER(key_import(&settings, text, size, &key, &failure), 0);
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        ASSERT_TEXT(key_get_origin(key), "file");
        ASSERT_TEXT(key_private_pem(key, &size), text);
        expect_signs_as(key, "k");
    }
}

/* The certificate that came with a key belongs to what was imported, and to nothing else. */
static void test_certificate(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    ASSERT_NUMBER(scratch_run("openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /OU=CA -out ca.pem"), 0);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct certificate certificate = {0};
        struct failure failure = {0};
        char text[8192];
        ASSERT_NUMBER(scratch_run("%s && cp k other && %s && openssl req -new -key k -subj '/CN=AWS IoT Certificate' | "
                                  "openssl x509 -req -CA ca.pem -CAkey ca.key -sha256 -out certificate.pem",
                                  forms[i].command, forms[i].command),
                      0);
        size_t size = scratch_read("certificate.pem", text, sizeof text);
        ASSERT_NUMBER(certificate_parse(text, size, "certificate", &certificate, &failure), 0);
        AUTO_KEY struct key *key = import_good(&swtpm, "k");
        const uint8_t *public = key_public_der(key, &size);
        CU_ASSERT_TRUE(certificate_has_key(&certificate, public, size));
        AUTO_KEY struct key *other = import_good(&swtpm, "other");
        public = key_public_der(other, &size);
        CU_ASSERT_FALSE(certificate_has_key(&certificate, public, size));
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"forms", test_forms},
        {"parents", test_parents},
        {"without-storage-root-key", test_without_storage_root_key},
        {"wire", test_wire},
        {"refused", test_refused},
        {"mismatched-halves", test_mismatched_halves},
        {"what-the-tpm-lacks", test_what_the_tpm_lacks},
        {"tpm-fails", test_tpm_fails},
        {"other-tpm", test_other_tpm},
        {"file-backend", test_file_backend},
        {"certificate", test_certificate},
        {NULL, NULL},
    };
    setenv("TSS2_LOG", "all+NONE", 1);
    scratch_make();
    int status = unit_run("key-import", tests, argc, argv);
    scratch_remove();
    return status;
}
