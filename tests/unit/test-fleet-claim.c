#include "messages.h"

#include "common/cleanup.h"
#include "harness.h"

#include <string.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_requests(void) {
    const struct parameter parameters[] = {{"SerialNumber", "SN \"1\""}, {"Line", "a\nb"}};
    AUTO_FREE char *create = create_from_csr_request("-----BEGIN\nx/y\n");
    AUTO_FREE char *provision = register_thing_request("token", parameters, 2);
    AUTO_FREE char *bare = register_thing_request("token", NULL, 0);
    ASSERT_TEXT(create, "{\"certificateSigningRequest\":\"-----BEGIN\\nx/y\\n\"}");
    ASSERT_TEXT(provision, "{\"certificateOwnershipToken\":\"token\",\"parameters\":{\"SerialNumber\":\"SN \\\"1\\\"\","
                           "\"Line\":\"a\\nb\"}}");
    ASSERT_TEXT(bare, "{\"certificateOwnershipToken\":\"token\",\"parameters\":{}}");
}

static void test_created(void) {
    const char *json =
        " {\"certificateOwnershipToken\":\"t\",\"future\":[1],\"certificatePem\":\"P\",\"certificateId\":\"" ID "\"}\n";
    struct created_certificate created = {0};
    ASSERT_TEXT(created_certificate_parse(json, strlen(json), &created), NULL);
    ASSERT_TEXT(created.certificate_id, ID);
    ASSERT_TEXT(created.certificate_pem, "P");
    ASSERT_TEXT(created.ownership_token, "t");
    created_certificate_clear(&created);
    CU_ASSERT_PTR_NULL(created.ownership_token);
}

static void test_created_hostile(void) {
    static const struct {
        const char *json, *reason;
    } cases[] = {
        {"", "it is not a JSON object"},
        {"garbage", "it is not a JSON object"},
        {"[]", "it is not a JSON object"},
        {"{} x", "it is not a JSON object"},
        {"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}", "it is not a JSON object"},
        {"{}", "certificatePem is missing or malformed"},
        {"{\"certificatePem\":7}", "certificatePem is missing or malformed"},
        {"{\"certificatePem\":\"\"}", "certificatePem is missing or malformed"},
        {"{\"certificatePem\":\"a\\u0000b\"}", "certificatePem is missing or malformed"},
        {"{\"certificatePem\":\"P\"}", "certificateId is missing or malformed"},
        {"{\"certificatePem\":\"P\",\"certificateId\":\"abc\"}", "certificateId is missing or malformed"},
        {"{\"certificatePem\":\"P\",\"certificateId\":\"../../../../../../../../../../../../../../../../../../../../"
         "etc/pas\"}",
         "certificateId is missing or malformed"},
        {"{\"certificatePem\":\"P\",\"certificateId\":\"" ID "\"}",
         "certificateOwnershipToken is missing or malformed"},
        {"{\"certificatePem\":\"P\",\"certificateId\":\"" ID "\",\"certificateOwnershipToken\":null}",
         "certificateOwnershipToken is missing or malformed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct created_certificate created = {0};
        ASSERT_TEXT(created_certificate_parse(cases[i].json, strlen(cases[i].json), &created), cases[i].reason);
        CU_ASSERT_PTR_NULL(created.certificate_pem);
    }
}

static void test_huge(void) {
    static char json[200 * 1024];
    struct created_certificate created = {0};
    memset(json, ' ', sizeof json);
    json[0] = '{', json[1] = '}';
    ASSERT_TEXT(created_certificate_parse(json, sizeof json, &created), "it is not a JSON object");
}

static void registered(const char *json, const char *wrong, const char *name, const char *configuration) {
    struct registered_thing thing = {0};
    ASSERT_TEXT(registered_thing_parse(json, strlen(json), &thing), wrong);
    ASSERT_TEXT(thing.thing_name, name);
    ASSERT_TEXT(thing.device_configuration, configuration);
    registered_thing_clear(&thing);
}

static void test_registered(void) {
    registered("{\"deviceConfiguration\":{\"a\":\"b\"},\"thingName\":\"gw\"}", NULL, "gw", "{\"a\":\"b\"}");
    registered("{\"deviceConfiguration\":{},\"thingName\":\"gw\"}", NULL, "gw", "{}");
    registered("{\"thingName\":null}", NULL, "", NULL); /* a template without a thing */
    registered("{}", NULL, "", NULL);
    registered("{\"thingName\":7}", "thingName is malformed", NULL, NULL);
    registered("{\"thingName\":\"gw\",\"deviceConfiguration\":[]}", "deviceConfiguration is not a JSON object", NULL,
               NULL);
    registered("nonsense", "it is not a JSON object", NULL, NULL);
}

static void rejected(const char *json, int status, const char *code, const char *message) {
    struct rejection rejection;
    rejection_parse(json, strlen(json), &rejection);
    ASSERT_NUMBER(rejection.status_code, status);
    ASSERT_TEXT(rejection.error_code, code);
    ASSERT_TEXT(rejection.error_message, message);
}

static void test_rejected(void) {
    static char huge[4096] = "{\"statusCode\":403,\"errorMessage\":\"";
    rejected("{\"statusCode\":403,\"errorCode\":\"AccessDenied\",\"errorMessage\":\"no\"}", 403, "AccessDenied", "no");
    rejected("{}", 0, "", "");
    rejected("garbage", 0, "", "");
    rejected("{\"statusCode\":\"403\",\"errorCode\":7}", 0, "", "");
    rejected("{\"statusCode\":99999999999999}", 0, "", "");
    size_t length = strlen(huge);
    memset(huge + length, 'x', 3000);
    strcpy(huge + length + 3000, "\"}");
    struct rejection rejection;
    rejection_parse(huge, strlen(huge), &rejection);
    ASSERT_NUMBER(rejection.status_code, 403);
    ASSERT_NUMBER((long long)strlen(rejection.error_message), sizeof rejection.error_message - 1);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"requests", test_requests},
        {"created", test_created},
        {"created-hostile", test_created_hostile},
        {"huge", test_huge},
        {"registered", test_registered},
        {"rejected", test_rejected},
        {NULL, NULL},
    };
    return unit_run("fleet-claim", tests, argc, argv);
}
