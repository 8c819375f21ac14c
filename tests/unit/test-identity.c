#include "worker/identity.h"

#include "common/cleanup.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct identity sample(void) {
    return (struct identity){.generation = 3,
                             .method = "fleet-claim",
                             .endpoint = "localhost",
                             .client_id = "gw-enrolld",
                             .thing_name = "gw",
                             .serial_number = "SN",
                             .certificate_id = ID,
                             .key_backend = "tpm2",
                             .key_algorithm = "P-256",
                             .key_origin = "tpm",
                             .parent_name = "000b00",
                             .ek_name = "000b01",
                             .not_before = 1,
                             .not_after = 2524607999,
                             .issued_at = 2};
}

static void test_round_trip(void) {
    struct identity identity = sample(), copy = {0};
    struct failure failure = {0};
    AUTO_FREE char *json = NULL;
    identity.device_configuration = strdup("{\"FallbackUrl\":\"https://x/y\"}");
    ASSERT_NUMBER(identity_encode(&identity, &json, &failure), 0);
    ASSERT_NUMBER(identity_parse(json, strlen(json), &copy, &failure), 0);
    ASSERT_NUMBER((long long)copy.generation, 3);
    ASSERT_TEXT(copy.client_id, "gw-enrolld");
    ASSERT_TEXT(copy.certificate_id, ID);
    ASSERT_TEXT(copy.parent_name, "000b00");
    ASSERT_TEXT(copy.ek_name, "000b01");
    ASSERT_NUMBER(copy.not_after, 2524607999);
    ASSERT_TEXT(copy.device_configuration, "{\"FallbackUrl\":\"https:\\/\\/x\\/y\"}");
    identity_clear(&identity);
    identity_clear(&copy);
}

static void test_bad_device_configuration(void) {
    static char *const bad[] = {"",  "[]",    "\"x\"",
                                "{", "{} {}", "{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":1}}}}}}}}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct identity identity = sample();
        struct failure failure = {0};
        char *json = NULL;
        identity.device_configuration = bad[i];
        ASSERT_NUMBER(identity_encode(&identity, &json, &failure), -1);
        CU_ASSERT_PTR_NULL(json);
    }
}

/* Each member is needed: an identity.json that lost one, or has one of another type, is refused by its name. */
static void test_members(void) {
    static const char *const names[] = {"schema",    "generation",   "method",        "endpoint",   "clientId",
                                        "thingName", "serialNumber", "certificateId", "keyBackend", "keyAlgorithm",
                                        "keyOrigin", "parentName",   "notBefore",     "notAfter",   "issuedAt"};
    struct identity identity = sample();
    struct failure failure = {0};
    AUTO_FREE char *json = NULL;
    ASSERT_NUMBER(identity_encode(&identity, &json, &failure), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char quoted[32], *copy = strdup(json);
        struct identity parsed = {0};
        snprintf(quoted, sizeof quoted, "\"%s\"", names[i]);
        char *at = strstr(copy, quoted);
        CU_ASSERT_PTR_NOT_NULL_FATAL(at);
        at[1] = 'X';
        ASSERT_NUMBER(identity_parse(copy, strlen(copy), &parsed, &failure), -1);
        CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, names[i]));
        CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "is missing or malformed"));
        free(copy);
    }
}

static void test_hostile(void) {
    static const char *const bad[] = {"",
                                      "null",
                                      "[]",
                                      "{",
                                      "{\"schema\":1",
                                      "{\"schema\":\"1\"}",
                                      "{\"schema\":0}",
                                      "{\"schema\":1}trailing",
                                      "\xff",
                                      "{\"schema\":1,\"generation\":-1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct identity identity = {.generation = 7};
        struct failure failure = {0};
        ASSERT_NUMBER(identity_parse(bad[i], strlen(bad[i]), &identity, &failure), -1);
        ASSERT_NUMBER(failure.class, FAILURE_INVALID);
        ASSERT_NUMBER((long long)identity.generation, 7);
    }
    /* Refused for its bytes, not for what is missing. */
    struct identity identity = {0};
    struct failure failure = {0};
    const char *overlong = "{\"schema\":1,\"x\":\"\xc0\x9d\"}";
    ASSERT_NUMBER(identity_parse(overlong, strlen(overlong), &identity, &failure), -1);
    ASSERT_TEXT(failure.message, "identity.json is not a JSON object");
}

/* The first version wrote no ekName: then it is unknown, but a wrong one is refused as all else is. */
static void test_older(void) {
    struct identity identity = sample(), parsed = {0};
    struct failure failure = {0};
    AUTO_FREE char *json = NULL;
    ASSERT_NUMBER(identity_encode(&identity, &json, &failure), 0);
    char *name = strstr(json, "\"ekName\""), *value = strstr(json, "\"000b01\"");
    CU_ASSERT_FATAL(name != NULL && value != NULL);
    memcpy(value, "12345678", 8);
    ASSERT_NUMBER(identity_parse(json, strlen(json), &parsed, &failure), -1);
    ASSERT_TEXT(failure.message, "identity.json: ekName is missing or malformed");
    name[1] = 'X';
    ASSERT_NUMBER(identity_parse(json, strlen(json), &parsed, &failure), 0);
    ASSERT_TEXT(parsed.ek_name, "");
    ASSERT_TEXT(parsed.parent_name, "000b00");
    identity_clear(&parsed);
}

/* A newer enrolld may have written more: an older one reads what it knows. */
static void test_newer(void) {
    struct identity identity = sample(), parsed = {0};
    struct failure failure = {0};
    AUTO_FREE char *json = NULL;
    AUTO_FREE char *newer = NULL;
    ASSERT_NUMBER(identity_encode(&identity, &json, &failure), 0);
    CU_ASSERT_TRUE(asprintf(&newer, "{\"future\":[1,2],%s", strchr(json, '{') + 1) > 0);
    ASSERT_NUMBER(identity_parse(newer, strlen(newer), &parsed, &failure), 0);
    ASSERT_TEXT(parsed.thing_name, "gw");
    identity_clear(&parsed);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"round-trip", test_round_trip},
        {"bad-device-configuration", test_bad_device_configuration},
        {"members", test_members},
        {"hostile", test_hostile},
        {"older", test_older},
        {"newer", test_newer},
        {NULL, NULL},
    };
    return unit_run("identity", tests, argc, argv);
}
