#include "common/cleanup.h"
#include "harness.h"
#include "request.h"
#include "scratch.h"
#include "swtpm.h"
#include "tpm-probe.h"
#include "worker/key-backend.h"
#include "worker/tpm.h"
#include "worker/tss2-pem.h"

#include <wolfssl/wolfcrypt/random.h>

#include <string.h>

#define FIT                                                                                                            \
    (TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT | TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |                   \
     TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_NODA | TPMA_OBJECT_USERWITHAUTH)

static void expect_commands(const char *names) {
    ASSERT_TEXT(tpm_probe_commands(), names);
    tpm_probe_reset();
}

static void cleanup_swtpm(struct swtpm *swtpm) {
    swtpm_stop(swtpm);
}
#define AUTO_SWTPM CLEANUP(cleanup_swtpm)

static struct key_settings settings_for(const struct swtpm *swtpm) {
    return (struct key_settings){.backend = KEY_BACKEND_TPM2, .algorithm = KEY_ALGORITHM_P256, .tcti = swtpm->tcti};
}

static struct key *make_key(const struct swtpm *swtpm) {
    struct key_settings settings = settings_for(swtpm);
    struct failure failure = {0};
    struct key *key = NULL;
    if (key_create(&settings, &key, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    return key;
}

static struct key *load_key(const struct swtpm *swtpm, const char *pem, size_t size) {
    struct key_settings settings = settings_for(swtpm);
    struct failure failure = {0};
    struct key *key = NULL;
    bool lost = true;
    if (key_load(&settings, pem, size, &key, &lost, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_FALSE(lost);
    return key;
}

static void expect_refused(const struct swtpm *swtpm, const char *pem, size_t size, enum failure_class class,
                           bool expect_lost, const char *text) {
    struct key_settings settings = settings_for(swtpm);
    struct failure failure = {0};
    AUTO_KEY struct key *key = NULL;
    bool lost = !expect_lost;
    ASSERT_NUMBER(key_load(&settings, pem, size, &key, &lost, &failure), -1);
    CU_ASSERT_PTR_NULL(key);
    ASSERT_NUMBER(lost, expect_lost);
    ASSERT_TEXT(failure_class_name(failure.class), failure_class_name(class));
    ASSERT_TEXT(failure.step, "key");
    if (strstr(failure.message, text) == NULL)
        ASSERT_TEXT(failure.message, text);
}

static void test_create(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    AUTO_KEY struct key *key = make_key(&swtpm);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    size_t size = 0;
    struct failure failure = {0};
    const char *pem = key_private_pem(key, &size);
    CU_ASSERT(tss2_pem_is(pem, size));
    ASSERT_NUMBER(strlen(pem), size);
    ASSERT_NUMBER(key_get_backend(key), KEY_BACKEND_TPM2);
    ASSERT_TEXT(key_algorithm_name(key_get_algorithm(key)), "P-256");
    CU_ASSERT_PTR_NOT_NULL(key_public_der(key, &size));
    ASSERT_NUMBER(size, 91);
    ASSERT_NUMBER(strlen(key_parent_name(key)), 68); /* SHA-256 and its algorithm */
    if (key_test(key, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NULL(key_last_error(key));
}

static void test_request(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    AUTO_KEY struct key *key = make_key(&swtpm);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    AUTO_FREE char *pem = NULL;
    struct failure failure = {0};
    ASSERT_NUMBER(make_request(key, "CN=gateway-0001", &pem, &failure), 0);
    ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(pem);
    CU_ASSERT_EQUAL(scratch_write("request.pem", pem, strlen(pem)), 0);
    ASSERT_NUMBER(scratch_run("openssl req -in request.pem -noout -verify 2>&1 | grep -i 'verify OK'"), 0);
    ASSERT_NUMBER(
        scratch_run("openssl req -in request.pem -noout -subject -nameopt RFC2253 | grep -x 'subject=CN=gateway-0001'"),
        0);
    ASSERT_NUMBER(scratch_run("openssl req -in request.pem -noout -text | grep 'Version: 1 (0x0)'"), 0);
}

static void test_commands_with_storage_root_key(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    CU_ASSERT_EQUAL_FATAL(swtpm_make_storage_root_key(&swtpm, FIT, ""), 0);
    tpm_probe_reset();
    struct key *key = make_key(&swtpm);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    AUTO_FREE char *request = NULL;
    struct failure failure = {0};
    size_t size = 0;
    AUTO_FREE char *pem = strdup(key_private_pem(key, &size));
    CU_ASSERT_EQUAL(make_request(key, "CN=gateway", &request, &failure), 0);
    CU_ASSERT_EQUAL(key_test(key, &failure), 0);
    key_free(key);
    expect_commands("ReadPublic Create Load Sign Sign FlushContext ");
    key = load_key(&swtpm, pem, size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    CU_ASSERT_EQUAL(key_test(key, &failure), 0);
    key_free(key);
    expect_commands("ReadPublic Load Sign FlushContext ");
}

static void test_commands_without_storage_root_key(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    tpm_probe_reset();
    struct key *key = make_key(&swtpm);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    struct failure failure = {0};
    size_t size = 0;
    AUTO_FREE char *pem = strdup(key_private_pem(key, &size));
    CU_ASSERT_EQUAL(key_test(key, &failure), 0);
    key_free(key);
    expect_commands("ReadPublic CreatePrimary Create Load FlushContext Sign FlushContext ");
    key = load_key(&swtpm, pem, size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    CU_ASSERT_EQUAL(key_test(key, &failure), 0);
    key_free(key);
    expect_commands("CreatePrimary Load FlushContext Sign FlushContext ");
}

/* Which parent a new key gets when this object is at 0x81000001. */
static TPM2_HANDLE parent_with(TPMA_OBJECT attributes, const char *password) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    struct tss2_key blobs = {0};
    const char *reason = NULL;
    size_t size = 0;
    if (swtpm_start(&swtpm) < 0 || swtpm_make_storage_root_key(&swtpm, attributes, password) < 0)
        return 0;
    AUTO_KEY struct key *key = make_key(&swtpm);
    if (key == NULL)
        return 0;
    const char *pem = key_private_pem(key, &size);
    ASSERT_NUMBER(tss2_pem_decode(pem, size, &blobs, &reason), 0);
    return blobs.parent;
}

static void test_parents(void) {
    ASSERT_NUMBER(parent_with(FIT, ""), TPM_STORAGE_ROOT_KEY);
    ASSERT_NUMBER(parent_with(FIT & ~(TPMA_OBJECT)TPMA_OBJECT_NODA, ""), TPM2_RH_OWNER);
    ASSERT_NUMBER(parent_with(FIT, "password"), TPM2_RH_OWNER);
}

static void test_owner_with_password(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    struct key_settings settings = settings_for(&swtpm);
    AUTO_KEY struct key *key = make_key(&swtpm), *other = NULL;
    struct failure failure = {0};
    size_t size = 0;
    CU_ASSERT_EQUAL_FATAL(swtpm_set_owner_password(&swtpm, "secret"), 0);
    ASSERT_NUMBER(key_create(&settings, &other, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), "tpm");
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "0x9a2"));
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "0x81000001"));
    const char *pem = key_private_pem(key, &size);
    expect_refused(&swtpm, pem, size, FAILURE_TPM, false, "0x9a2");
}

static void test_reload(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    AUTO_KEY struct key *first = make_key(&swtpm);
    CU_ASSERT_PTR_NOT_NULL_FATAL(first);
    size_t size = 0, first_size = 0, second_size = 0;
    const char *pem = key_private_pem(first, &size);
    struct failure failure = {0};
    AUTO_KEY struct key *second = load_key(&swtpm, pem, size);
    CU_ASSERT_PTR_NOT_NULL_FATAL(second);
    const uint8_t *first_public = key_public_der(first, &first_size);
    const uint8_t *second_public = key_public_der(second, &second_size);
    ASSERT_NUMBER(first_size, second_size);
    CU_ASSERT_EQUAL(memcmp(first_public, second_public, first_size), 0);
    ASSERT_TEXT(key_parent_name(second), key_parent_name(first));
    ASSERT_TEXT(key_private_pem(second, &size), pem);
    CU_ASSERT_EQUAL(key_test(second, &failure), 0);
    CU_ASSERT_EQUAL(key_test(first, &failure), 0);
}

static void test_other_tpm(void) {
    AUTO_SWTPM struct swtpm here = {0}, there = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&here), 0);
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&there), 0);
    AUTO_KEY struct key *key = make_key(&here);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    size_t size = 0;
    const char *pem = key_private_pem(key, &size);
    expect_refused(&there, pem, size, FAILURE_TPM, true, "0x1df");
}

static void test_parent_gone(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    CU_ASSERT_EQUAL_FATAL(swtpm_make_storage_root_key(&swtpm, FIT, ""), 0);
    AUTO_KEY struct key *key = make_key(&swtpm);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    size_t size = 0;
    const char *pem = key_private_pem(key, &size);
    CU_ASSERT_EQUAL_FATAL(swtpm_remove_storage_root_key(&swtpm), 0);
    expect_refused(&swtpm, pem, size, FAILURE_TPM, true, "0x18b");
}

static void test_no_tpm(void) {
    struct swtpm absent = {.tcti = "device:/nonexistent/tpmrm0"};
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    AUTO_KEY struct key *key = make_key(&swtpm);
    size_t size = 0;
    const char *pem = key_private_pem(key, &size);
    expect_refused(&absent, pem, size, FAILURE_TPM, false,
                   "no TPM at device:/nonexistent/tpmrm0 (No such file or directory): is the driver loaded");
    struct key_settings settings = settings_for(&absent);
    struct failure failure = {0};
    struct key *none = NULL;
    ASSERT_NUMBER(key_create(&settings, &none, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), "tpm");
}

/* A TPM that cannot just now loses no key; the blob that it judges wrong is lost. */
static void test_answers(void) {
    static const struct {
        TPM2_CC command;
        TPM2_RC answer;
        bool lost;
        const char *text;
    } cases[] = {
        {TPM2_CC_Load, 0x921, false, "lockout"},      {TPM2_CC_Load, 0x902, false, "/dev/tpmrm0"},
        {TPM2_CC_Load, 0x922, false, "0x922"},        {TPM2_CC_Load, 0x9a2, false, "password"},
        {TPM2_CC_Load, 0x101, false, "failure mode"}, {TPM2_CC_Load, 0x1df, true, "another one"},
        {TPM2_CC_Load, 0x2a5, true, "0x2a5"},         {TPM2_CC_ReadPublic, 0x18b, true, "not in this TPM"},
        {TPM2_CC_ReadPublic, 0x922, false, "0x922"},
    };
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    CU_ASSERT_EQUAL_FATAL(swtpm_make_storage_root_key(&swtpm, FIT, ""), 0);
    struct key *key = make_key(&swtpm);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    size_t size = 0;
    AUTO_FREE char *pem = strdup(key_private_pem(key, &size));
    key_free(key);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tpm_probe_reset();
        tpm_probe_answer(cases[i].command, cases[i].answer);
        expect_refused(&swtpm, pem, size, FAILURE_TPM, cases[i].lost, cases[i].text);
    }
    tpm_probe_reset();
    ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
}

static void test_signing_fails(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    AUTO_KEY struct key *key = make_key(&swtpm);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    AUTO_FREE char *request = NULL;
    struct failure failure = {0};
    tpm_probe_reset();
    tpm_probe_answer(TPM2_CC_Sign, 0x921);
    ASSERT_NUMBER(make_request(key, "CN=gateway", &request, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), "tpm");
    ASSERT_TEXT(failure.step, "request");
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "lockout"));
    CU_ASSERT_PTR_NULL(request);
    ASSERT_NUMBER(key_test(key, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), "tpm");
    ASSERT_TEXT(key_last_error(key), failure.message);
    tpm_probe_reset();
    ASSERT_NUMBER(key_test(key, &failure), 0);
    CU_ASSERT_PTR_NULL(key_last_error(key));
}

static void test_longer_digests(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    AUTO_KEY struct key *key = make_key(&swtpm);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    WC_RNG random;
    CU_ASSERT_EQUAL_FATAL(wc_InitRng(&random), 0);
    for (word32 size = 32; size <= 64; size += 16) {
        byte digest[64], signature[ECC_MAX_SIG_SIZE];
        word32 signature_size = sizeof signature;
        int valid = 0;
        wc_RNG_GenerateBlock(&random, digest, size);
        ASSERT_NUMBER(wc_ecc_sign_hash(digest, size, signature, &signature_size, &random, &key->wolfcrypt.ecc), 0);
        ASSERT_NUMBER(wc_ecc_verify_hash(signature, signature_size, digest, size, &valid, &key->wolfcrypt.ecc), 0);
        ASSERT_NUMBER(valid, 1);
    }
    wc_FreeRng(&random);
}

static void test_leaves_nothing(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    for (int round = 0; round < 20; round++) {
        struct key *key = make_key(&swtpm);
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        size_t size = 0;
        AUTO_FREE char *pem = strdup(key_private_pem(key, &size));
        key_free(key);
        key = load_key(&swtpm, pem, size);
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        ASSERT_NUMBER(swtpm_count_handles(&swtpm), 1);
        key_free(key);
        ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
    }
}

static const enum key_algorithm algorithms[] = {
    KEY_ALGORITHM_P256,
    KEY_ALGORITHM_P384,
    KEY_ALGORITHM_RSA2048,
    KEY_ALGORITHM_RSA3072,
};
#define ALGORITHM_COUNT (sizeof algorithms / sizeof algorithms[0])

static const char *openssl_words(enum key_algorithm algorithm) {
    switch (algorithm) {
    case KEY_ALGORITHM_P256:
        return "NIST CURVE: P-256";
    case KEY_ALGORITHM_P384:
        return "NIST CURVE: P-384";
    case KEY_ALGORITHM_RSA2048:
        return "Public-Key: (2048 bit)";
    case KEY_ALGORITHM_RSA3072:
        return "Public-Key: (3072 bit)";
    case KEY_ALGORITHM_RSA4096:
        return "Public-Key: (4096 bit)";
    }
    return NULL;
}

/* Writes public.pem. */
static void expect_request(struct key *key) {
    AUTO_FREE char *pem = NULL;
    struct failure failure = {0};
    if (key_test(key, &failure) < 0 || make_request(key, "CN=gateway-0001", &pem, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(pem);
    CU_ASSERT_EQUAL(scratch_write("request.pem", pem, strlen(pem)), 0);
    ASSERT_NUMBER(scratch_run("openssl req -in request.pem -noout -verify 2>&1 | grep -i 'verify OK'"), 0);
    ASSERT_NUMBER(
        scratch_run("openssl req -in request.pem -noout -text | grep -F '%s'", openssl_words(key_get_algorithm(key))),
        0);
    size_t size = 0;
    const uint8_t *public = key_public_der(key, &size);
    CU_ASSERT_EQUAL(scratch_write("public.der", public, size), 0);
    ASSERT_NUMBER(scratch_run("openssl req -in request.pem -noout -pubkey | openssl pkey -pubin -outform DER | "
                              "cmp - public.der && openssl pkey -pubin -inform DER -in public.der -out public.pem"),
                  0);
}

static void test_algorithms(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    CU_ASSERT_EQUAL_FATAL(swtpm_make_storage_root_key(&swtpm, FIT, ""), 0);
    for (size_t i = 0; i < ALGORITHM_COUNT; i++) {
        struct key_settings settings = settings_for(&swtpm);
        struct failure failure = {0};
        struct key *key = NULL;
        settings.algorithm = algorithms[i];
        tpm_probe_reset();
        if (key_create(&settings, &key, &failure) < 0)
            ASSERT_TEXT(failure.message, "");
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        ASSERT_TEXT(key_algorithm_name(key_get_algorithm(key)), key_algorithm_name(algorithms[i]));
        ASSERT_TEXT(key_get_origin(key), "tpm");
        expect_request(key);
        size_t size = 0;
        AUTO_FREE char *pem = strdup(key_private_pem(key, &size));
        key_free(key);
        expect_commands("ReadPublic Create Load Sign Sign FlushContext ");
        key = load_key(&swtpm, pem, size);
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        ASSERT_TEXT(key_algorithm_name(key_get_algorithm(key)), key_algorithm_name(algorithms[i]));
        ASSERT_TEXT(key_get_origin(key), "tpm");
        expect_request(key);
        key_free(key);
        expect_commands("ReadPublic Load Sign Sign FlushContext ");
        ASSERT_NUMBER(swtpm_count_handles(&swtpm), 0);
    }
}

static void expect_not_made(const struct swtpm *swtpm, enum key_algorithm algorithm, const char *text) {
    struct key_settings settings = settings_for(swtpm);
    struct failure failure = {0};
    struct key *key = NULL;
    settings.algorithm = algorithm;
    ASSERT_NUMBER(key_create(&settings, &key, &failure), -1);
    CU_ASSERT_PTR_NULL(key);
    ASSERT_TEXT(failure_class_name(failure.class), "tpm");
    if (strstr(failure.message, text) == NULL)
        ASSERT_TEXT(failure.message, text);
    ASSERT_NUMBER(swtpm_count_handles(swtpm), 0);
}

/* Nothing but a TPM can say what it has. swtpm has no RSA-4096. */
static void test_algorithm_that_the_tpm_lacks(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    expect_not_made(&swtpm, KEY_ALGORITHM_RSA4096,
                    "this TPM has no RSA-4096 keys, choose another [Key] Algorithm=: tpm");
    tpm_probe_answer(TPM2_CC_Create, 0x2e6); /* TPM_RC_CURVE, parameter 2 */
    expect_not_made(&swtpm, KEY_ALGORITHM_P384, "this TPM has no P-384 keys, choose another [Key] Algorithm=: tpm");
    tpm_probe_answer(TPM2_CC_Create, 0x922); /* TPM_RC_RETRY */
    expect_not_made(&swtpm, KEY_ALGORITHM_P384, "making a key (P-384) in the TPM: tpm");
    tpm_probe_reset();
}

/* The file is what stock programs read: OpenSSL with the TPM provider signs with it. */
static void expect_openssl_loads(const struct swtpm *swtpm, struct key *key) {
    size_t size = 0;
    const char *pem = key_private_pem(key, &size);
    CU_ASSERT_EQUAL(scratch_write("private.pem", pem, size), 0);
    const uint8_t *public = key_public_der(key, &size);
    CU_ASSERT_EQUAL(scratch_write("public.der", public, size), 0);
    key_free(key);
    ASSERT_NUMBER(scratch_run("openssl pkey -pubin -inform DER -in public.der -out public.pem && "
                              "head -c 32 /dev/zero >digest"),
                  0);
    ASSERT_NUMBER(scratch_run("TPM2OPENSSL_TCTI='%s' openssl pkeyutl -provider tpm2 -provider base -sign "
                              "-inkey private.pem -pkeyopt digest:SHA256 -in digest -out signature",
                              swtpm->tcti),
                  0);
    ASSERT_NUMBER(scratch_run("openssl pkeyutl -verify -pubin -inkey public.pem -pkeyopt digest:SHA256 -in digest "
                              "-sigfile signature"),
                  0);
    ASSERT_NUMBER(swtpm_count_handles(swtpm), 0);
}

static void test_openssl_loads(void) {
    AUTO_SWTPM struct swtpm swtpm = {0};
    CU_ASSERT_EQUAL_FATAL(swtpm_start(&swtpm), 0);
    for (int with_root_key = 0; with_root_key <= 1; with_root_key++) {
        if (with_root_key)
            CU_ASSERT_EQUAL_FATAL(swtpm_make_storage_root_key(&swtpm, FIT, ""), 0);
        for (size_t i = 0; i < ALGORITHM_COUNT; i++) {
            struct key_settings settings = settings_for(&swtpm);
            struct failure failure = {0};
            struct key *key = NULL;
            settings.algorithm = algorithms[i];
            ASSERT_NUMBER(key_create(&settings, &key, &failure), 0);
            CU_ASSERT_PTR_NOT_NULL_FATAL(key);
            expect_openssl_loads(&swtpm, key);
        }
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"create", test_create},
        {"request", test_request},
        {"commands-with-storage-root-key", test_commands_with_storage_root_key},
        {"commands-without-storage-root-key", test_commands_without_storage_root_key},
        {"parents", test_parents},
        {"owner-with-password", test_owner_with_password},
        {"reload", test_reload},
        {"other-tpm", test_other_tpm},
        {"parent-gone", test_parent_gone},
        {"no-tpm", test_no_tpm},
        {"answers", test_answers},
        {"signing-fails", test_signing_fails},
        {"longer-digests", test_longer_digests},
        {"leaves-nothing", test_leaves_nothing},
        {"algorithms", test_algorithms},
        {"algorithm-that-the-tpm-lacks", test_algorithm_that_the_tpm_lacks},
        {"openssl-loads", test_openssl_loads},
        {NULL, NULL},
    };
    setenv("TSS2_LOG", "all+NONE", 1);
    scratch_make();
    int status = unit_run("key-tpm2", tests, argc, argv);
    scratch_remove();
    return status;
}
