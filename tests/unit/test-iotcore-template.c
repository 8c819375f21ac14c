#include "harness.h"
#include "json_read.h"
#include "template.h"
#include "template_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct json_object *parse(const char *text) {
    struct json_object *object = json_parse(text, strlen(text));
    if (object == NULL)
        ASSERT_TEXT("not JSON", text);
    return object;
}

/* Resolves one value with the parameters A=a1, List=x,y,z; gives its JSON or the error message in a static buffer. */
static const char *resolve_value(const char *text) {
    static char output[512];
    struct rejection rejection;
    AUTO_JSON struct json_object *declared = parse("{\"A\":{\"Type\":\"String\"},\"List\":{\"Type\":\"String\"},"
                                                   "\"D\":{\"Type\":\"String\",\"Default\":\"dd\"}}");
    AUTO_JSON struct json_object *given = parse("{\"A\":\"a1\",\"List\":\"x,y,z\",\"Undeclared\":\"u\"}");
    AUTO_JSON struct json_object *mappings = parse("{\"M\":{\"a1\":{\"url\":\"https://a\"}}}");
    AUTO_JSON struct json_object *value = parse(text);
    AUTO_JSON struct json_object *resolved = NULL;
    struct template_scope scope = {declared, given, mappings, ID};
    if (template_value_resolve(&scope, value, &resolved, &rejection) < 0)
        snprintf(output, sizeof output, "%d %s", rejection.status_code, rejection.message);
    else
        snprintf(output, sizeof output, "%s",
                 json_object_to_json_string_ext(resolved, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    return output;
}

static void test_references(void) {
    ASSERT_TEXT(resolve_value("{\"Ref\":\"A\"}"), "\"a1\"");
    ASSERT_TEXT(resolve_value("{\"Ref\":\"D\"}"), "\"dd\"");
    ASSERT_TEXT(resolve_value("{\"Ref\":\"AWS::IoT::Certificate::Id\"}"), "\"" ID "\"");
    ASSERT_TEXT(resolve_value("{\"Ref\":\"AWS::Region\"}"), "400 Cannot resolve reference value: AWS::Region");
    ASSERT_TEXT(resolve_value("{\"Ref\":\"Undeclared\"}"), "400 Cannot resolve reference value: Undeclared");
    ASSERT_TEXT(resolve_value("{\"Ref\":1}"), "400 The reference is not text in Ref");
}

static void test_functions(void) {
    ASSERT_TEXT(resolve_value("{\"Fn::Join\":[\"-\",[\"g\",{\"Ref\":\"A\"},\"h\"]]}"), "\"g-a1-h\"");
    ASSERT_TEXT(resolve_value("{\"Fn::Split\":[\",\",{\"Ref\":\"List\"}]}"), "[\"x\",\"y\",\"z\"]");
    ASSERT_TEXT(resolve_value("{\"Fn::Select\":[\"1\",{\"Fn::Split\":[\",\",{\"Ref\":\"List\"}]}]}"), "\"y\"");
    ASSERT_TEXT(resolve_value("{\"Fn::Select\":[2,[\"x\",\"y\",\"z\"]]}"), "\"z\"");
    ASSERT_TEXT(resolve_value("{\"Fn::FindInMap\":[\"M\",{\"Ref\":\"A\"},\"url\"]}"), "\"https://a\"");
    ASSERT_TEXT(resolve_value("{\"Fn::Sub\":\"g/${A}/${D}\"}"), "\"g/a1/dd\"");
    ASSERT_TEXT(resolve_value("{\"Fn::Sub\":[\"${A}${B}\",{\"B\":{\"Ref\":\"D\"}}]}"), "\"a1dd\"");
}

static void test_bad_functions(void) {
    ASSERT_TEXT(resolve_value("{\"Fn::Select\":[3,[\"x\"]]}"), "400 The index is out of the list in Fn::Select");
    ASSERT_TEXT(resolve_value("{\"Fn::Select\":[-1,[\"x\"]]}"), "400 The index is out of the list in Fn::Select");
    ASSERT_TEXT(resolve_value("{\"Fn::Select\":[\"\",[\"x\"]]}"), "400 The index is out of the list in Fn::Select");
    ASSERT_TEXT(resolve_value("{\"Fn::Select\":[null,null]}"), "400 The index is out of the list in Fn::Select");
    ASSERT_TEXT(resolve_value("{\"Fn::Select\":1}"), "400 Wrong number of arguments in Fn::Select");
    ASSERT_TEXT(resolve_value("{\"Fn::Join\":[\"-\",[\"g\",1]]}"), "400 An element is not text in Fn::Join");
    ASSERT_TEXT(resolve_value("{\"Fn::Join\":[[],[]]}"), "400 No delimiter or no list in Fn::Join");
    ASSERT_TEXT(resolve_value("{\"Fn::Split\":[\"\",\"abc\"]}"), "400 No delimiter or no text in Fn::Split");
    ASSERT_TEXT(resolve_value("{\"Fn::FindInMap\":[\"M\",\"b\",\"url\"]}"),
                "400 The mapping has no such key in Fn::FindInMap");
    ASSERT_TEXT(resolve_value("{\"Fn::Sub\":\"${X}\"}"), "400 Cannot resolve reference value: X");
    ASSERT_TEXT(resolve_value("{\"Fn::Sub\":[]}"), "400 No text in Fn::Sub");
    ASSERT_TEXT(resolve_value("{\"Fn::Sub\":\"${X\"}"), "\"${X\"");
}

/* A template with these members of Thing's Properties; the device sends SerialNumber=serial. */
static int resolve(const char *properties, const char *serial, struct template_result *ret,
                   struct rejection *rejection) {
    char text[2048];
    snprintf(text, sizeof text,
             "{\"Parameters\":{\"SerialNumber\":{\"Type\":\"String\"}},\"Resources\":{"
             "\"thing\":{\"Type\":\"AWS::IoT::Thing\",\"Properties\":{%s}},"
             "\"certificate\":{\"Type\":\"AWS::IoT::Certificate\",\"Properties\":{"
             "\"CertificateId\":{\"Ref\":\"AWS::IoT::Certificate::Id\"},\"Status\":\"Active\",\"ThingPrincipalType\":"
             "\"EXCLUSIVE_THING\"}},"
             "\"policy\":{\"Type\":\"AWS::IoT::Policy\",\"Properties\":{\"PolicyName\":\"p\"}}},"
             "\"DeviceConfiguration\":{\"serial\":{\"Ref\":\"SerialNumber\"}}}",
             properties);
    AUTO_JSON struct json_object *body = parse(text);
    AUTO_JSON struct json_object *parameters = json_object_new_object();
    json_object_object_add(parameters, "SerialNumber", json_object_new_string(serial));
    return template_resolve(body, parameters, ID, ret, rejection);
}

static void test_template(void) {
    struct template_result result = {0};
    struct rejection rejection;
    ASSERT_NUMBER(resolve("\"ThingName\":{\"Fn::Join\":[\"-\",[\"gw\",{\"Ref\":\"SerialNumber\"}]]},"
                          "\"AttributePayload\":{\"serial\":{\"Ref\":\"SerialNumber\"}}",
                          "SN1", &result, &rejection),
                  0);
    ASSERT_TEXT(result.thing.name, "gw-SN1");
    ASSERT_NUMBER(result.thing.exclusive, true);
    ASSERT_NUMBER(result.certificate_active, true);
    ASSERT_TEXT(json_text(result.thing.attributes, "serial"), "SN1");
    ASSERT_TEXT(json_text(result.device_configuration, "serial"), "SN1");
    ASSERT_NUMBER((long long)json_object_array_length(result.policy_names), 1);
    template_result_clear(&result);
}

static const char *rejected(const char *properties, const char *serial) {
    static struct rejection rejection;
    struct template_result result = {0};
    rejection = (struct rejection){.message = "accepted"};
    if (resolve(properties, serial, &result, &rejection) == 0)
        template_result_clear(&result);
    return rejection.message;
}

#define NAME "\"ThingName\":{\"Ref\":\"SerialNumber\"}"

static void test_names(void) {
    ASSERT_TEXT(rejected(NAME, "gw:a_b-c"), "accepted");
    CU_ASSERT_PTR_NOT_NULL(strstr(rejected(NAME, "gw.example.com"), "at 'thingName' failed to satisfy"));
    CU_ASSERT_PTR_NOT_NULL(strstr(rejected(NAME, ""), "at 'thingName' failed to satisfy"));
    ASSERT_TEXT(rejected("\"ThingTypeName\":\"t\"", "x"), "The thing has no ThingName");
    ASSERT_TEXT(rejected("\"ThingName\":null", "x"), "A value of the template is not text");
    ASSERT_TEXT(rejected(NAME ",\"ThingTypeName\":\"a b\"", "x"), "Invalid thing type name 'a b'");
    ASSERT_TEXT(rejected(NAME ",\"ThingGroups\":[1]", "x"), "Invalid thing group name");
    ASSERT_TEXT(rejected(NAME ",\"ThingGroups\":\"g\"", "x"), "ThingGroups is not a list");
    ASSERT_TEXT(rejected(NAME ",\"ThingPrincipalType\":\"X\"", "x"), "ThingPrincipalType belongs to the certificate");
}

/* Attribute values have no blanks, and a thing without a type has three attributes. */
static void test_attributes(void) {
    ASSERT_TEXT(rejected(NAME ",\"AttributePayload\":{\"a\":\"b_.,@/:#=[]-\"}", "x"), "accepted");
    CU_ASSERT_PTR_NOT_NULL(
        strstr(rejected(NAME ",\"AttributePayload\":{\"a\":\"two words\"}", "x"), "attributePayload.attributes.a"));
    ASSERT_TEXT(rejected(NAME ",\"AttributePayload\":[]", "x"), "AttributePayload is not a map");
    ASSERT_TEXT(rejected(NAME ",\"AttributePayload\":{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\"}", "x"),
                "A thing without a type may have 3 attributes");
    ASSERT_TEXT(rejected(NAME ",\"ThingTypeName\":\"t\","
                              "\"AttributePayload\":{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\"}",
                         "x"),
                "accepted");
}

static const char *rejected_resources(const char *resources) {
    static struct rejection rejection;
    char text[1024];
    struct template_result result = {0};
    snprintf(text, sizeof text, "{\"Resources\":{%s}}", resources);
    AUTO_JSON struct json_object *body = parse(text);
    rejection = (struct rejection){.message = "accepted"};
    if (template_resolve(body, NULL, ID, &result, &rejection) == 0)
        template_result_clear(&result);
    return rejection.message;
}

#define CERTIFICATE                                                                                                    \
    "\"c\":{\"Type\":\"AWS::IoT::Certificate\",\"Properties\":{\"CertificateId\":"                                     \
    "{\"Ref\":\"AWS::IoT::Certificate::Id\"}}}"
#define POLICY(properties) ",\"p\":{\"Type\":\"AWS::IoT::Policy\",\"Properties\":{" properties "}}"

static void test_resources(void) {
    ASSERT_TEXT(rejected_resources(CERTIFICATE), "accepted");
    ASSERT_TEXT(rejected_resources(""), "The template has no AWS::IoT::Certificate");
    ASSERT_TEXT(rejected_resources("\"c\":1"), "A resource has no Type or no Properties");
    ASSERT_TEXT(rejected_resources("\"c\":{\"Type\":\"AWS::S3::Bucket\",\"Properties\":{}}"),
                "Unknown resource type AWS::S3::Bucket");
    ASSERT_TEXT(
        rejected_resources("\"c\":{\"Type\":\"AWS::IoT::Certificate\",\"Properties\":{\"CertificateId\":\"x\"}}"),
        "CertificateId must be {\"Ref\": \"AWS::IoT::Certificate::Id\"}");
    ASSERT_TEXT(rejected_resources(CERTIFICATE POLICY("")), "A policy needs either PolicyName or PolicyDocument");
    ASSERT_TEXT(rejected_resources(CERTIFICATE POLICY("\"PolicyDocument\":\"{}\"")), "accepted");
    ASSERT_TEXT(rejected_resources(CERTIFICATE POLICY("\"PolicyDocument\":{\"Version\":\"2012-10-17\"}")), "accepted");
    ASSERT_TEXT(rejected_resources(CERTIFICATE POLICY("\"PolicyDocument\":\"not JSON\"")),
                "PolicyDocument is not JSON");
}

static void test_override_settings(void) {
#define THING(settings)                                                                                                \
    CERTIFICATE                                                                                                        \
    ",\"t\":{\"Type\":\"AWS::IoT::Thing\",\"Properties\":{\"ThingName\":\"t\"},\"OverrideSettings\":{" settings "}}"
    ASSERT_TEXT(rejected_resources(THING("\"AttributePayload\":\"MERGE\",\"ThingTypeName\":\"FAIL\"")), "accepted");
    ASSERT_TEXT(rejected_resources(THING("\"ThingTypeName\":\"MERGE\"")),
                "OverrideSettings: ThingTypeName can't be MERGE");
    ASSERT_TEXT(rejected_resources(THING("\"ThingGroups\":\"NEVER\"")), "OverrideSettings: ThingGroups can't be NEVER");
}

static void test_parameters_must_be_text(void) {
    struct template_result result = {0};
    struct rejection rejection = {0};
    AUTO_JSON struct json_object *body =
        parse("{\"Parameters\":{\"S\":{\"Type\":\"String\"}},\"Resources\":{" CERTIFICATE "}}");
    AUTO_JSON struct json_object *parameters = parse("{\"S\":1}");
    ASSERT_NUMBER(template_resolve(body, parameters, ID, &result, &rejection), -1);
    ASSERT_TEXT(rejection.message, "Parameter S is not text");
    ASSERT_TEXT(rejection.error_code, "InvalidParameters");
}

static void test_json(void) {
    static const char *const bad[] = {"", "{", "{}x", "{} {}", "nul", "\"\xff\"", "[1,]", "{\"a\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        AUTO_JSON struct json_object *object = json_parse(bad[i], strlen(bad[i]));
        if (object != NULL)
            ASSERT_TEXT("accepted", bad[i]);
    }
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    CU_ASSERT_PTR_NULL(json_parse(deep, sizeof deep));
    AUTO_JSON struct json_object *number = json_parse("12", 2);
    ASSERT_NUMBER(json_object_get_int(number), 12);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"references", test_references},
        {"functions", test_functions},
        {"functions with bad arguments", test_bad_functions},
        {"a template", test_template},
        {"names", test_names},
        {"attributes", test_attributes},
        {"resources", test_resources},
        {"OverrideSettings", test_override_settings},
        {"parameters must be text", test_parameters_must_be_text},
        {"JSON is parsed strictly", test_json},
        {NULL, NULL},
    };
    return unit_run("template", tests, argc, argv);
}
