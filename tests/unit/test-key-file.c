#include "common/cleanup.h"
#include "harness.h"
#include "request.h"
#include "scratch.h"
#include "worker/key-backend.h"

#include <stdio.h>
#include <string.h>

static const struct key_settings settings = {.backend = KEY_BACKEND_FILE, .algorithm = KEY_ALGORITHM_P256};

/* Loads from an exact copy, so that the sanitizer sees a read behind the end. */
static int load(const char *text, size_t size, struct key **ret, bool *lost, struct failure *failure) {
    AUTO_FREE char *copy = malloc(size + 1);
    memcpy(copy, text, size);
    return key_load(&settings, copy, size, ret, lost, failure);
}

static struct key *load_file(const char *name) {
    char text[KEY_PEM_MAX * 2];
    struct failure failure = {0};
    struct key *key = NULL;
    bool lost = true;
    size_t size = scratch_read(name, text, sizeof text);
    if (load(text, size, &key, &lost, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_FALSE(lost);
    return key;
}

static void expect_refused(const char *text, size_t size, const char *message) {
    struct failure failure = {0};
    AUTO_KEY struct key *key = NULL;
    bool lost = false;
    ASSERT_NUMBER(load(text, size, &key, &lost, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), "invalid");
    ASSERT_TEXT(failure.step, "key");
    CU_ASSERT_TRUE(lost);
    if (strstr(failure.message, message) == NULL)
        ASSERT_TEXT(failure.message, message);
}

static void expect_file_refused(const char *name, const char *message) {
    char text[KEY_PEM_MAX * 2];
    size_t size = scratch_read(name, text, sizeof text);
    CU_ASSERT_NOT_EQUAL(size, 0);
    expect_refused(text, size, message);
}

/* The key signs, its request is good in OpenSSL's eyes, its public key is the one OpenSSL reads from the file. */
static void expect_works(struct key *key, const char *name) {
    AUTO_FREE char *request = NULL;
    struct failure failure = {0};
    size_t size = 0;
    if (key_test(key, &failure) < 0 || make_request(key, "CN=gateway", &request, &failure) < 0)
        ASSERT_TEXT(failure.message, "");
    CU_ASSERT_PTR_NOT_NULL_FATAL(request);
    ASSERT_NUMBER(scratch_write("request.pem", request, strlen(request)), 0);
    ASSERT_NUMBER(scratch_run("openssl req -in request.pem -noout -verify 2>&1 | grep -i 'verify OK'"), 0);
    ASSERT_NUMBER(scratch_run("openssl req -in request.pem -noout -text | grep -i sha256"), 0);
    const uint8_t *public = key_public_der(key, &size);
    ASSERT_NUMBER(scratch_write("public.der", public, size), 0);
    ASSERT_NUMBER(scratch_run("openssl pkey -in %s -pubout -outform DER | cmp - public.der", name), 0);
}

static void test_create(void) {
    AUTO_KEY struct key *key = NULL;
    struct failure failure = {0};
    size_t size = 0;
    ASSERT_NUMBER(key_create(&settings, &key, &failure), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(key);
    ASSERT_NUMBER(key_get_backend(key), KEY_BACKEND_FILE);
    ASSERT_NUMBER(key_get_algorithm(key), KEY_ALGORITHM_P256);
    ASSERT_TEXT(key_parent_name(key), NULL);
    const char *pem = key_private_pem(key, &size);
    ASSERT_NUMBER(strlen(pem), size);
    CU_ASSERT_EQUAL(strncmp(pem, "-----BEGIN PRIVATE KEY-----\n", 28), 0);
    ASSERT_NUMBER(scratch_write("created.pem", pem, size), 0);
    expect_works(key, "created.pem");
    ASSERT_NUMBER(scratch_run("openssl pkey -in created.pem -check -noout"), 0);
    AUTO_KEY struct key *again = load_file("created.pem");
    CU_ASSERT_PTR_NOT_NULL_FATAL(again);
    expect_works(again, "created.pem");
}

static void test_forms(void) {
    static const struct {
        const char *command;
        enum key_algorithm algorithm;
    } cases[] = {
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k", KEY_ALGORITHM_P256},
        {"openssl ecparam -name prime256v1 -genkey -out k", KEY_ALGORITHM_P256}, /* EC PARAMETERS come first */
        {"openssl ecparam -name prime256v1 -genkey -noout -out k", KEY_ALGORITHM_P256},
        {"openssl ecparam -name prime256v1 -genkey -noout | openssl ec -no_public -out k", KEY_ALGORITHM_P256},
        {"openssl ecparam -name prime256v1 -genkey -noout | openssl pkey | sed 's/$/\\r/' >k", KEY_ALGORITHM_P256},
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out k", KEY_ALGORITHM_P384},
        {"openssl ecparam -name secp384r1 -genkey -noout -out k", KEY_ALGORITHM_P384},
        {"openssl genrsa -traditional -out k 2048", KEY_ALGORITHM_RSA2048},
        {"openssl genrsa -out k 2048", KEY_ALGORITHM_RSA2048},
        {"openssl genrsa -out k 3072", KEY_ALGORITHM_RSA3072},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ASSERT_NUMBER(scratch_run("%s", cases[i].command), 0);
        AUTO_KEY struct key *key = load_file("k");
        CU_ASSERT_PTR_NOT_NULL_FATAL(key);
        ASSERT_TEXT(key_algorithm_name(key_get_algorithm(key)), key_algorithm_name(cases[i].algorithm));
        expect_works(key, "k");
    }
}

static void test_refused_keys(void) {
    static const struct {
        const char *command, *message;
    } cases[] = {
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -pass pass:x -out k",
         "encrypted: convert it with `openssl pkey -in KEY -out NEWKEY`"},
        {"openssl genrsa -traditional -aes128 -passout pass:x -out k 2048", "encrypted: convert"},
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out k", "P-256, P-384 and RSA"},
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out k", "P-256, P-384 and RSA"},
        {"openssl genpkey -algorithm ED25519 -out k", "P-256, P-384 and RSA"},
        {"openssl genrsa -out k 1024", "P-256, P-384 and RSA"},
        {"openssl genrsa -out k 2560", "P-256, P-384 and RSA"},
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | openssl pkey -pubout -out k",
         "there is no private key in it"},
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | openssl pkey -outform DER -out k",
         "there is no private key in it"},
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | head -2 >k", "damaged"},
        {"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | sed 's/^M/!/' >k", "damaged"},
        {"echo >k", "there is no private key in it"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ASSERT_NUMBER(scratch_run("%s", cases[i].command), 0);
        expect_file_refused("k", cases[i].message);
    }
    expect_refused("", 0, "there is no private key in it");
}

static void test_too_large(void) {
    char text[KEY_PEM_MAX + 1];
    memset(text, '\n', sizeof text);
    expect_refused(text, sizeof text, "larger than 8192 bytes");
}

/* The public half of the file is another key's. */
static void test_mismatched_halves(void) {
    ASSERT_NUMBER(scratch_run("openssl ecparam -name prime256v1 -genkey -noout -outform DER -out a && "
                              "openssl ecparam -name prime256v1 -genkey -noout -outform DER -out b && "
                              "{ head -c 56 a; tail -c +57 b; } | openssl ec -inform DER -out k"),
                  0);
    char text[KEY_PEM_MAX];
    struct failure failure = {0};
    AUTO_KEY struct key *key = NULL;
    bool lost = false;
    size_t size = scratch_read("k", text, sizeof text);
    if (load(text, size, &key, &lost, &failure) == 0) {
        ASSERT_NUMBER(key_test(key, &failure), -1);
        ASSERT_TEXT(failure_class_name(failure.class), "invalid");
    }
}

static void test_damage(void) {
    char text[KEY_PEM_MAX];
    ASSERT_NUMBER(scratch_run("openssl ecparam -name prime256v1 -genkey -noout -out k"), 0);
    size_t size = scratch_read("k", text, sizeof text);
    for (size_t at = 0; at < size; at++) {
        struct failure failure = {0};
        struct key *key = NULL;
        bool lost = false;
        char kept = text[at];
        text[at] ^= 1;
        CU_ASSERT_EQUAL(load(text, size, &key, &lost, &failure) == 0, key != NULL);
        key_free(key);
        text[at] = kept;
        key = NULL;
        CU_ASSERT_EQUAL(load(text, at, &key, &lost, &failure) == 0, key != NULL);
        key_free(key);
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"create", test_create},
        {"forms", test_forms},
        {"refused-keys", test_refused_keys},
        {"too-large", test_too_large},
        {"mismatched-halves", test_mismatched_halves},
        {"damage", test_damage},
        {NULL, NULL},
    };
    scratch_make();
    int status = unit_run("key-file", tests, argc, argv);
    scratch_remove();
    return status;
}
