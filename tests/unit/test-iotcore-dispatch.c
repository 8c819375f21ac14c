#include "control_dispatch.h"
#include "harness.h"
#include "json_read.h"
#include "registry_authority.h"
#include "scratch.h"

#include <stdio.h>
#include <string.h>

#define ACCOUNT "arn:aws:iot:eu-central-1:123456789012:"
#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

#define NO_CERTIFICATE "\"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n\""

static const char content[] =
    "{\"region\":\"eu-central-1\",\"account\":\"123456789012\",\"things\":{\"gateway\":{\"attributes\":{},"
    "\"thingGroups\":[]}},\"policies\":{\"device\":{}},\"templates\":{},\"tokens\":{},\"certificates\":{\"" ID
    "\":{\"status\":\"INACTIVE\",\"createdAt\":1,\"policies\":[\"device\"],\"things\":{\"gateway\":"
    "\"EXCLUSIVE_THING\"},\"pem\":\"none\"}},\"authorities\":{\"" ID
    "\":{\"status\":\"INACTIVE\",\"autoRegistrationStatus\":\"DISABLE\",\"certificateMode\":\"DEFAULT\",\"createdAt\":"
    "1,\"pem\":\"none\"}}}";

static struct registry *open_registry(void) {
    char path[256];
    snprintf(path, sizeof path, "%s/registry.json", scratch_directory());
    CU_ASSERT_EQUAL_FATAL(scratch_write("registry.json", content, strlen(content)), 0);
    struct registry *registry = registry_open(path);
    CU_ASSERT_PTR_NOT_NULL_FATAL(registry);
    return registry;
}

/* The code of the rejection, "" for none. */
static const char *ask(struct registry *registry, const struct control_request *request) {
    static struct rejection rejection;
    static struct control_uri uri;
    enum control_operation operation;
    AUTO_JSON struct json_object *reply = json_object_new_object();
    struct control_call call = {.registry = registry, .endpoint = "localhost", .reply = reply, .rejection = &rejection};
    int result = control_dispatch(request, &uri, &call, &operation);
    json_object_put(call.body);
    return result < 0 ? rejection.error_code : "";
}

static struct control_request request_of(const char *method, const char *target, const char *body) {
    return (struct control_request){.method = method,
                                    .target = target,
                                    .principal = ACCOUNT "cert/" ID,
                                    .authorized = true,
                                    .body = body,
                                    .body_size = strlen(body)};
}

/* Each operation once, with what it needs to find. */
static const char *const operations[][2] = {
    {"GET", "/registrationcode"},
    {"DELETE", "/registrationcode"},
    {"POST", "/cacertificate"},
    {"GET", "/cacertificates"},
    {"GET", "/cacertificate/" ID},
    {"PUT", "/cacertificate/" ID},
    {"DELETE", "/cacertificate/" ID},
    {"POST", "/certificate/register"},
    {"POST", "/certificate/register-no-ca"},
    {"GET", "/certificates"},
    {"GET", "/certificates-by-ca/" ID},
    {"GET", "/certificates/" ID},
    {"PUT", "/certificates/" ID "?newStatus=INACTIVE"},
    {"DELETE", "/certificates/" ID},
    {"PUT", "/target-policies/device"},
    {"POST", "/target-policies/device"},
    {"POST", "/attached-policies/arn%3Aaws%3Aiot%3Aeu-central-1%3A123456789012%3Acert%2F" ID},
    {"POST", "/policies/device"},
    {"GET", "/policies/device"},
    {"POST", "/things/gateway"},
    {"GET", "/things/gateway"},
    {"PATCH", "/things/gateway"},
    {"DELETE", "/things/gateway"},
    {"GET", "/things"},
    {"PUT", "/things/gateway/principals"},
    {"DELETE", "/things/gateway/principals"},
    {"GET", "/things/gateway/principals"},
    {"GET", "/principals/things"},
    {"POST", "/provisioning-templates"},
    {"GET", "/provisioning-templates/line"},
    {"PATCH", "/provisioning-templates/line"},
    {"DELETE", "/provisioning-templates/line"},
    {"GET", "/endpoint?endpointType=iot:Data-ATS"},
    {"POST", "/rules/retire"},
    {"PATCH", "/rules/retire"},
    {"POST", "/rules/retire/enable"},
    {"POST", "/rules/retire/disable"},
    {"GET", "/rules/retire"},
    {"GET", "/rules"},
    {"DELETE", "/rules/retire"},
    {"POST", "/topics/things%2Fgateway%2Fretire?qos=1"},
};

static const char *const members[] = {
    "caCertificate",
    "verificationCertificate",
    "certificateMode",
    "registrationConfig",
    "certificatePem",
    "caCertificatePem",
    "status",
    "target",
    "policyDocument",
    "thingTypeName",
    "attributePayload",
    "templateName",
    "templateBody",
    "type",
    "provisioningRoleArn",
    "description",
    "enabled",
    "preProvisioningHook",
    "removePreProvisioningHook",
    "removeThingType",
    "sql",
    "actions",
    "awsIotSqlVersion",
    "ruleDisabled",
    "removeAutoRegistration",
};

static const char *const values[] = {
    "null",
    "true",
    "1",
    "-1e999",
    "\"\"",
    "\"x\"",
    "\"\\u0000\"",
    "\"{}\"",
    "\"[]\"",
    "[]",
    "[null]",
    "{}",
    "{\"templateBody\":\"{}\",\"roleArn\":1}",
    "{\"templateName\":\"\"}",
    "{\"attributes\":{\"\":\"\"}}",
    "{\"attributes\":{\"a\":null}}",
    "{\"attributes\":[]}",
    "{\"targetArn\":\"\"}",
    "{\"payloadVersion\":\"1\"}",
    "[{\"lambda\":{\"functionArn\":\"\"}}]",
    "\"SELECT * FROM 'a'\"",
    NO_CERTIFICATE,
};

static void test_routes_are_complete(void) {
    ASSERT_NUMBER(sizeof operations / sizeof *operations, CONTROL_OPERATION_COUNT);
    for (unsigned i = 0; i < CONTROL_OPERATION_COUNT; i++) {
        struct control_uri uri;
        const char *name;
        CU_ASSERT_TRUE(control_uri_parse(&uri, operations[i][1]));
        ASSERT_NUMBER(control_route(operations[i][0], &uri, &name), i);
    }
}

/* Every operation with every member of every type, one at a time: nothing else is said than AWS's codes, and the
 * sanitizers find nothing. */
static void test_values_of_every_type(void) {
    char body[512];
    for (unsigned i = 0; i < CONTROL_OPERATION_COUNT; i++) {
        struct registry *registry = open_registry();
        for (unsigned member = 0; member < sizeof members / sizeof *members; member++)
            for (unsigned value = 0; value < sizeof values / sizeof *values; value++) {
                snprintf(body, sizeof body, "{\"%s\":%s}", members[member], values[value]);
                const struct control_request request = request_of(operations[i][0], operations[i][1], body);
                const char *code = ask(registry, &request);
                if (*code != '\0' && strstr(code, "Exception") == NULL)
                    ASSERT_TEXT(code, operations[i][1]);
            }
        registry_close(registry);
    }
}

static void test_bodies_of_every_kind(void) {
    static const char *const wrong[] = {"[", "[]", "null", "1", "\"x\"", "{}{}", "{\"a\"}", "\xff", "{\"a\":\"\xff\"}"};
    struct registry *registry = open_registry();
    for (unsigned i = 0; i < CONTROL_OPERATION_COUNT; i++)
        for (unsigned body = 0; body < sizeof wrong / sizeof *wrong; body++) {
            const struct control_request request = request_of(operations[i][0], operations[i][1], wrong[body]);
            /* What is published may be anything, and here is nobody to hand it on. */
            ASSERT_TEXT(ask(registry, &request),
                        i == CONTROL_PUBLISH ? "InternalFailureException" : "SerializationException");
        }
    registry_close(registry);
}

static void test_parameters_of_every_kind(void) {
    static const char *const names[] = {"setAsActive",
                                        "allowAutoRegistration",
                                        "newStatus",
                                        "forceDelete",
                                        "newAutoRegistrationStatus",
                                        "pageSize",
                                        "marker",
                                        "nextToken",
                                        "maxResults",
                                        "isAscendingOrder",
                                        "thingPrincipalType",
                                        "templateName",
                                        "endpointType"};
    static const char *const wrong[] = {"", "x", "%f0%9f%98%80", "-1", "99999999999999999999", "31312061"};
    char target[512];
    struct registry *registry = open_registry();
    for (unsigned i = 0; i < CONTROL_OPERATION_COUNT; i++)
        for (unsigned name = 0; name < sizeof names / sizeof *names; name++)
            for (unsigned value = 0; value < sizeof wrong / sizeof *wrong; value++) {
                snprintf(target, sizeof target, "%.*s?%s=%s", (int)strcspn(operations[i][1], "?"), operations[i][1],
                         names[name], wrong[value]);
                const struct control_request request = request_of(operations[i][0], target, "{}");
                ask(registry, &request);
            }
    registry_close(registry);
}

static void test_principals_of_every_kind(void) {
    static const char *const wrong[] = {
        NULL, "", "x", ACCOUNT, ACCOUNT "cert/", ACCOUNT "cert", ACCOUNT "thing/" ID, "\xff", ACCOUNT "cert/\xff"};
    struct registry *registry = open_registry();
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct control_request request = request_of("PUT", "/things/gateway/principals", "");
        request.principal = wrong[i];
        CU_ASSERT_TRUE(strcmp(ask(registry, &request), "InvalidRequestException") == 0 ||
                       strcmp(ask(registry, &request), "ResourceNotFoundException") == 0);
    }
    registry_close(registry);
}

static void test_who_is_nobody(void) {
    struct registry *registry = open_registry();
    for (unsigned i = 0; i < CONTROL_OPERATION_COUNT; i++) {
        struct control_request request = request_of(operations[i][0], operations[i][1], "{}");
        request.authorized = false;
        ASSERT_TEXT(ask(registry, &request), "MissingAuthenticationTokenException");
    }
    const struct control_request request = request_of("DELETE", "/registrationcode", "");
    ASSERT_TEXT(ask(registry, &request), "ResourceNotFoundException"); /* nobody has made one */
    registry_close(registry);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"there is a route to each operation", test_routes_are_complete},
        {"members of every type", test_values_of_every_type},
        {"bodies that are no objects", test_bodies_of_every_kind},
        {"parameters of every kind", test_parameters_of_every_kind},
        {"principals of every kind", test_principals_of_every_kind},
        {"who does not say who he is", test_who_is_nobody},
        {NULL, NULL},
    };
    scratch_make();
    int result = unit_run("dispatch", tests, argc, argv);
    scratch_remove();
    return result;
}
