#include "worker/checkpoint.h"

#include "common/cleanup.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

static void fill(struct checkpoint *checkpoint) {
    *checkpoint = (struct checkpoint){
        .stage = CHECKPOINT_SENT,
        .binding = "0123456789abcdef",
        .key_origin = "tpm",
        .private_pem = strdup("-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n"),
        .certificate_pem = strdup("-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n"),
        .secret = strdup("token"),
        .refusals = 1,
        .doubts = 7,
        .abandoned = 2,
    };
}

/* Encodes it and reads it back. */
static const char *copy(const struct checkpoint *checkpoint, struct checkpoint *ret) {
    AUTO_FREE char *json = NULL;
    struct failure failure = {0};
    if (checkpoint_encode(checkpoint, &json, &failure) < 0)
        return "it was not encoded";
    return checkpoint_parse(json, strlen(json), ret);
}

static void test_round_trip(void) {
    struct checkpoint checkpoint, again = {0};
    fill(&checkpoint);
    ASSERT_TEXT(copy(&checkpoint, &again) == NULL ? "ok" : "refused", "ok");
    ASSERT_NUMBER(again.stage, CHECKPOINT_SENT);
    ASSERT_TEXT(again.binding, checkpoint.binding);
    ASSERT_TEXT(again.key_origin, "tpm");
    ASSERT_TEXT(again.private_pem, checkpoint.private_pem);
    ASSERT_TEXT(again.certificate_pem, checkpoint.certificate_pem);
    ASSERT_TEXT(again.secret, "token");
    ASSERT_NUMBER(again.has_thing, false);
    ASSERT_NUMBER(again.refusals, 1);
    ASSERT_NUMBER(again.doubts, 7);
    ASSERT_NUMBER(again.abandoned, 2);
    checkpoint_clear(&checkpoint);
    checkpoint_clear(&again);
}

static void test_registered(void) {
    struct checkpoint checkpoint, again = {0};
    fill(&checkpoint);
    checkpoint.stage = CHECKPOINT_REGISTERED;
    checkpoint_drop_secret(&checkpoint);
    checkpoint.has_thing = true;
    snprintf(checkpoint.thing_name, sizeof checkpoint.thing_name, "gateway-1");
    checkpoint.device_configuration = strdup("{\"a\":\"b\"}");
    ASSERT_TEXT(copy(&checkpoint, &again) == NULL ? "ok" : "refused", "ok");
    ASSERT_NUMBER(again.has_thing, true);
    ASSERT_TEXT(again.thing_name, "gateway-1");
    ASSERT_TEXT(again.device_configuration, "{\"a\":\"b\"}");
    CU_ASSERT_PTR_NULL(again.secret);
    checkpoint_clear(&checkpoint);
    checkpoint_clear(&again);
}

/* A thing that the template does not make has no name, and is told all the same. */
static void test_no_thing(void) {
    struct checkpoint checkpoint, again = {0};
    fill(&checkpoint);
    checkpoint.has_thing = true;
    ASSERT_TEXT(copy(&checkpoint, &again) == NULL ? "ok" : "refused", "ok");
    ASSERT_NUMBER(again.has_thing, true);
    ASSERT_TEXT(again.thing_name, "");
    checkpoint_clear(&checkpoint);
    checkpoint_clear(&again);
}

static void test_refused(void) {
    static const struct {
        const char *json, *wrong;
    } cases[] = {
        {"", "it is not a JSON object"},
        {"[]", "it is not a JSON object"},
        {"{} {}", "it is not a JSON object"},
        {"{}", "it is of another version"},
        {"{\"schema\":2}", "it is of another version"},
        {"{\"schema\":1}", "its stage is unknown"},
        {"{\"schema\":1,\"stage\":\"nothing\"}", "its stage is unknown"},
        {"{\"schema\":1,\"stage\":7}", "its stage is unknown"},
        {"{\"schema\":1,\"stage\":\"key\"}", "its binding is malformed"},
        {"{\"schema\":1,\"stage\":\"key\",\"binding\":\"b\"}", "its keyOrigin is malformed"},
        {"{\"schema\":1,\"stage\":\"key\",\"binding\":\"b\",\"keyOrigin\":\"tpm\",\"refusals\":-1}",
         "its counts are malformed"},
        {"{\"schema\":1,\"stage\":\"key\",\"binding\":\"b\",\"keyOrigin\":\"tpm\",\"refusals\":0,\"doubts\":0,"
         "\"abandoned\":0}",
         "it has no key"},
        {"{\"schema\":1,\"stage\":\"spent\",\"binding\":\"b\",\"keyOrigin\":\"tpm\",\"refusals\":0,\"doubts\":0,"
         "\"abandoned\":0,"
         "\"privateKey\":\"k\"}",
         "it has no certificate"},
        {"{\"schema\":1,\"stage\":\"sent\",\"binding\":\"b\",\"keyOrigin\":\"tpm\",\"refusals\":0,\"doubts\":0,"
         "\"abandoned\":0,"
         "\"privateKey\":\"k\",\"certificate\":\"c\"}",
         "it has no secret"},
        {"{\"schema\":1,\"stage\":\"sent\",\"binding\":\"b\",\"keyOrigin\":\"tpm\",\"refusals\":0,\"doubts\":0,"
         "\"abandoned\":0,"
         "\"privateKey\":\"k\",\"certificate\":\"c\",\"secret\":\"s\\u0000t\"}",
         "it has no secret"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct checkpoint checkpoint = {0};
        const char *wrong = checkpoint_parse(cases[i].json, strlen(cases[i].json), &checkpoint);
        ASSERT_TEXT(wrong != NULL ? wrong : "accepted", cases[i].wrong);
        checkpoint_clear(&checkpoint);
    }
}

static void test_bad_device_configuration(void) {
    struct checkpoint checkpoint;
    struct failure failure = {0};
    char *json = NULL;
    fill(&checkpoint);
    checkpoint.device_configuration = strdup("[1]");
    ASSERT_NUMBER(checkpoint_encode(&checkpoint, &json, &failure), -1);
    ASSERT_NUMBER(failure.class, FAILURE_INVALID);
    CU_ASSERT_PTR_NULL(json);
    checkpoint_clear(&checkpoint);
}

static void test_drop_certificate(void) {
    struct checkpoint checkpoint;
    fill(&checkpoint);
    checkpoint.has_thing = true;
    checkpoint_drop_certificate(&checkpoint);
    ASSERT_NUMBER(checkpoint.stage, CHECKPOINT_KEY);
    CU_ASSERT_PTR_NULL(checkpoint.certificate_pem);
    CU_ASSERT_PTR_NULL(checkpoint.secret);
    CU_ASSERT_PTR_NOT_NULL(checkpoint.private_pem);
    ASSERT_NUMBER(checkpoint.has_thing, false);
    ASSERT_NUMBER(checkpoint.refusals, 0);
    ASSERT_NUMBER(checkpoint.abandoned, 2);
    checkpoint_clear(&checkpoint);
}

/* One attempt for the first certificate, 2, 4, 8, 16 for the next ones, then 24 for each. */
static void test_patience(void) {
    static const uint32_t patience[] = {1, 2, 4, 8, 16, 24, 24, 24};
    for (uint32_t i = 0; i < sizeof patience / sizeof *patience; i++) {
        struct checkpoint checkpoint = {.abandoned = i, .refusals = patience[i] - 1};
        ASSERT_NUMBER(checkpoint_is_hopeless(&checkpoint, false), false);
        checkpoint.refusals++;
        ASSERT_NUMBER(checkpoint_is_hopeless(&checkpoint, false), true);
    }
    ASSERT_NUMBER(checkpoint_is_hopeless(&(struct checkpoint){.abandoned = UINT32_MAX / 2, .refusals = 23}, false),
                  false);
    ASSERT_NUMBER(checkpoint_is_hopeless(&(struct checkpoint){.refusals = 23}, true), false);
    ASSERT_NUMBER(checkpoint_is_hopeless(&(struct checkpoint){.refusals = 24}, true), true);
}

static void test_doubts(void) {
    ASSERT_NUMBER(checkpoint_is_doubtful(&(struct checkpoint){.doubts = 0}), false);
    ASSERT_NUMBER(checkpoint_is_doubtful(&(struct checkpoint){.doubts = 143}), false);
    ASSERT_NUMBER(checkpoint_is_doubtful(&(struct checkpoint){.doubts = 144}), true);
    ASSERT_NUMBER(checkpoint_is_doubtful(&(struct checkpoint){.doubts = 145}), false);
    ASSERT_NUMBER(checkpoint_is_doubtful(&(struct checkpoint){.doubts = 288}), true);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"round trip", test_round_trip},
        {"a registered thing", test_registered},
        {"a thing without a name", test_no_thing},
        {"what is no checkpoint", test_refused},
        {"a device configuration that is no object", test_bad_device_configuration},
        {"forgetting the certificate keeps the key", test_drop_certificate},
        {"how long a refused certificate is kept", test_patience},
        {"how long one without an answer is kept", test_doubts},
        {NULL, NULL},
    };
    return unit_run("checkpoint", tests, argc, argv);
}
