#include "worker/staged.h"

#include "common/cleanup.h"
#include "harness.h"
#include "worker/document.h"

#include <stdio.h>
#include <string.h>

#define KEY "-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n"
#define REQUEST "-----BEGIN CERTIFICATE REQUEST-----\nBBBB\n-----END CERTIFICATE REQUEST-----\n"
#define CERTIFICATE "-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----\n"

static const char *parse(const char *json, struct staged *ret) {
    /* An exact copy, so that the sanitizer sees a read behind the end. */
    size_t size = strlen(json);
    AUTO_FREE char *copy = malloc(size + 1);
    memcpy(copy, json, size);
    return staged_parse(copy, size, ret);
}

static const char *copy(const struct staged *staged, struct staged *ret) {
    AUTO_FREE char *json = NULL;
    struct failure failure = {0};
    return staged_encode(staged, &json, &failure) < 0 ? "it was not encoded" : parse(json, ret);
}

static void test_round_trip(void) {
    struct staged staged = {.key_origin = "tpm", .private_pem = strdup(KEY)}, again = {0};
    ASSERT_TEXT(copy(&staged, &again), NULL);
    ASSERT_TEXT(again.private_pem, KEY);
    ASSERT_TEXT(again.key_origin, "tpm");
    ASSERT_TEXT(again.subject, NULL);
    ASSERT_TEXT(again.request_pem, NULL);
    ASSERT_TEXT(again.certificate_pem, NULL);
    staged_clear(&again);
    staged.request_pem = strdup(REQUEST);
    staged.certificate_pem = strdup(CERTIFICATE);
    staged.subject = strdup("CN=g-\xc3\xbc,O=Example\\, \\\"Inc.\\\"");
    ASSERT_TEXT(copy(&staged, &again), NULL);
    ASSERT_TEXT(again.subject, staged.subject);
    ASSERT_TEXT(again.request_pem, REQUEST);
    ASSERT_TEXT(again.certificate_pem, CERTIFICATE);
    staged_clear(&again);
    staged_clear(&staged);
    ASSERT_TEXT(staged.private_pem, NULL);
}

/* The largest of all its parts fit into one file of the channel. */
static void test_large(void) {
    struct staged staged = {.key_origin = "imported"}, again = {0};
    struct failure failure = {0};
    AUTO_FREE char *json = NULL;
    staged.private_pem = calloc(1, 8192 + 1);
    staged.certificate_pem = calloc(1, 16384 + 1);
    staged.request_pem = calloc(1, 4096 + 1);
    memset(staged.private_pem, '\n', 8192);
    memset(staged.certificate_pem, '\n', 16384);
    memset(staged.request_pem, '\n', 4096);
    staged.subject = calloc(1, 2048);
    memset(staged.subject, '"', 2047);
    ASSERT_NUMBER(staged_encode(&staged, &json, &failure), 0);
    CU_ASSERT_TRUE(strlen(json) <= DOCUMENT_MAX);
    ASSERT_TEXT(parse(json, &again), NULL);
    ASSERT_TEXT(again.subject, staged.subject);
    staged_clear(&again);
    staged_clear(&staged);
}

static void test_refused(void) {
    static const struct {
        const char *json, *wrong;
    } cases[] = {
        {"", "it is not a JSON object"},
        {"[]", "it is not a JSON object"},
        {"{}", "it is of another version"},
        {"{\"schema\":2,\"keyOrigin\":\"tpm\",\"privateKey\":\"x\"}", "it is of another version"},
        {"{\"schema\":1,\"privateKey\":\"x\"}", "its keyOrigin is malformed"},
        {"{\"schema\":1,\"keyOrigin\":\"01234567890123456\",\"privateKey\":\"x\"}", "its keyOrigin is malformed"},
        {"{\"schema\":1,\"keyOrigin\":\"tpm\"}", "it has no key"},
        {"{\"schema\":1,\"keyOrigin\":\"tpm\",\"privateKey\":7}", "it has no key"},
        {"{\"schema\":1,\"keyOrigin\":\"tpm\",\"privateKey\":\"a\\u0000b\"}", "it has no key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct staged staged = {.key_origin = "untouched"};
        ASSERT_TEXT(parse(cases[i].json, &staged), cases[i].wrong);
        ASSERT_TEXT(staged.key_origin, "untouched");
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"round-trip", test_round_trip},
        {"large", test_large},
        {"refused", test_refused},
        {NULL, NULL},
    };
    return unit_run("staged", tests, argc, argv);
}
