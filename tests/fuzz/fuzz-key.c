/* A private key in a file: the first byte says whether the rest is a PEM text, or DER to be wrapped as PKCS#8, SEC1 or
 * PKCS#1. A key that loads is bounded, loads again as the same, and signs or says why not. */
#include "fuzz.h"
#include "worker/key.h"
#include "worker/tss2-pem.h"

#include <wolfssl/wolfcrypt/asn_public.h>

static void check_request(struct key *key) {
    const struct specifier_values none = {.serial_number = NULL};
    struct failure failure = {0};
    struct subject subject;
    char *pem = NULL;
    REQUIRE(subject_parse("CN=GW-0001", &none, &subject, &failure) == 0);
    if (key_make_request(key, &subject, &pem, &failure) == 0)
        REQUIRE(strncmp(pem, "-----BEGIN CERTIFICATE REQUEST-----", 35) == 0 && strlen(pem) <= KEY_REQUEST_MAX);
    else
        REQUIRE(failure.message[0] != '\0');
    free(pem);
}

static void check_same(struct key *key, struct key *again) {
    size_t size = 0, again_size = 0;
    const uint8_t *public = key_public_der(key, &size), *again_public = key_public_der(again, &again_size);
    REQUIRE(size > 2 && size <= KEY_PUBLIC_MAX && public[0] == 0x30);
    REQUIRE(size == again_size && memcmp(public, again_public, size) == 0);
}

static void check_text(const char *pem, size_t size) {
    const struct key_settings settings = {.backend = KEY_BACKEND_FILE};
    struct key *key = NULL, *again = NULL;
    struct failure failure = {0};
    size_t text_size = 0;
    bool lost = false;
    if (tss2_pem_is(pem, size)) /* fuzz-tss2; it needs a TPM */
        return;
    if (key_load(&settings, pem, size, &key, &lost, &failure) < 0) {
        REQUIRE(failure.class == FAILURE_INVALID && lost && failure.message[0] != '\0' && key == NULL);
        return;
    }
    REQUIRE(key_get_backend(key) == KEY_BACKEND_FILE && key_algorithm_name(key_get_algorithm(key)) != NULL);
    const char *text = key_private_pem(key, &text_size);
    REQUIRE(text_size == size && memcmp(text, pem, size) == 0);
    REQUIRE(key_load(&settings, text, text_size, &again, &lost, &failure) == 0);
    check_same(key, again);
    if (key_test(key, &failure) == 0)
        check_request(key);
    else
        REQUIRE(failure.message[0] != '\0');
    key_free(again);
    key_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int types[] = {PKCS8_PRIVATEKEY_TYPE, ECC_PRIVATEKEY_TYPE, PRIVATEKEY_TYPE};
    struct input input = {data, size};
    byte pem[2 * KEY_PEM_MAX];
    unsigned form = input_byte(&input) % 4;
    if (form == 0) {
        check_text((const char *)input.data, input.size);
        return 0;
    }
    int pem_size = input.size > 0 ? wc_DerToPem(input.data, (word32)input.size, pem, sizeof pem, types[form - 1]) : 0;
    if (pem_size > 0)
        check_text((const char *)pem, (size_t)pem_size);
    return 0;
}
