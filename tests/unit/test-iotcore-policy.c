#include "harness.h"
#include "json_read.h"
#include "policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The variables of one connection; NULL ends the list. */
static const char *const *variable_list;

static char *get_variable(void *userdata, const char *name) {
    (void)userdata;
    for (const char *const *pair = variable_list; pair != NULL && *pair != NULL; pair += 2)
        if (strcmp(pair[0], name) == 0)
            return strdup(pair[1]);
    return NULL;
}

static enum policy_decision decide(const char *document, const char *action, const char *resource) {
    struct policy_variables variables = {get_variable, NULL};
    AUTO_JSON struct json_object *object = json_parse(document, strlen(document));
    CU_ASSERT_PTR_NOT_NULL_FATAL(object);
    return policy_evaluate(object, action, resource, &variables);
}

/* One statement that allows iot:Publish on the resource. */
static enum policy_decision decide_resource(const char *pattern, const char *resource) {
    char document[4096];
    snprintf(document, sizeof document,
             "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:Publish\","
             "\"Resource\":\"%s\"}]}",
             pattern);
    return decide(document, "iot:Publish", resource);
}

static void test_default_deny(void) {
    ASSERT_NUMBER(decide("{\"Version\":\"2012-10-17\",\"Statement\":[]}", "iot:Connect", "arn:client/a"),
                  POLICY_NO_STATEMENT);
    ASSERT_NUMBER(decide_resource("arn:topic/a", "arn:topic/a"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide_resource("arn:topic/a", "arn:topic/b"), POLICY_NO_STATEMENT);
}

static void test_explicit_deny_wins(void) {
    const char *document = "{\"Version\":\"2012-10-17\",\"Statement\":["
                           "{\"Effect\":\"Deny\",\"Action\":[\"iot:Publish\"],\"Resource\":[\"arn:topic/secret/*\"]},"
                           "{\"Effect\":\"Allow\",\"Action\":\"iot:*\",\"Resource\":\"*\"}]}";
    ASSERT_NUMBER(decide(document, "iot:Publish", "arn:topic/open"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide(document, "iot:Publish", "arn:topic/secret/a"), POLICY_DENIED);
    ASSERT_NUMBER(decide(document, "iot:Receive", "arn:topic/secret/a"), POLICY_ALLOWED);
    ASSERT_NUMBER(policy_join(POLICY_ALLOWED, POLICY_DENIED), POLICY_DENIED);
    ASSERT_NUMBER(policy_join(POLICY_NO_STATEMENT, POLICY_ALLOWED), POLICY_ALLOWED);
}

static void test_wildcards(void) {
    ASSERT_NUMBER(decide_resource("arn:topic/a/*", "arn:topic/a/b/c"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide_resource("arn:topic/a?c", "arn:topic/abc"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide_resource("arn:topic/a?c", "arn:topic/ac"), POLICY_NO_STATEMENT);
    ASSERT_NUMBER(decide_resource("arn:*b*d", "arn:abcbd"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide_resource("arn:topic/A", "arn:topic/a"), POLICY_NO_STATEMENT);
}

/* MQTT's wildcards are ordinary characters here, so a/+ does not allow a/b but a/ * allows the filter a/#. */
static void test_mqtt_wildcards_are_literal(void) {
    ASSERT_NUMBER(decide_resource("arn:topicfilter/a/+", "arn:topicfilter/a/b"), POLICY_NO_STATEMENT);
    ASSERT_NUMBER(decide_resource("arn:topicfilter/a/+", "arn:topicfilter/a/+"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide_resource("arn:topicfilter/a/#", "arn:topicfilter/a/b"), POLICY_NO_STATEMENT);
    ASSERT_NUMBER(decide_resource("arn:topicfilter/a/*", "arn:topicfilter/a/#"), POLICY_ALLOWED);
}

/* The claim policy of the Developer Guide's example does not allow CreateCertificateFromCsr. */
static void test_create_does_not_match_create_from_csr(void) {
    const char *narrow = "arn:topic/$aws/certificates/create/*";
    ASSERT_NUMBER(decide_resource(narrow, "arn:topic/$aws/certificates/create/json"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide_resource(narrow, "arn:topic/$aws/certificates/create-from-csr/json"), POLICY_NO_STATEMENT);
}

static void test_variables(void) {
    static const char *const list[] = {"iot:ClientId", "gw-1", "iot:Connection.Thing.ThingName", "gw", NULL};
    variable_list = list;
    ASSERT_NUMBER(decide_resource("arn:client/${iot:ClientId}", "arn:client/gw-1"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide_resource("arn:client/${iot:Connection.Thing.ThingName}-1", "arn:client/gw-1"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide_resource("arn:topic/${iot:ClientId}/*", "arn:topic/gw-2/x"), POLICY_NO_STATEMENT);
    variable_list = NULL;
}

/* Not even text that is spelled as the variable matches a variable without a value. */
static void test_variable_without_value(void) {
    ASSERT_NUMBER(decide_resource("arn:client/${iot:Unknown}", "arn:client/${iot:Unknown}"), POLICY_NO_STATEMENT);
    ASSERT_NUMBER(decide_resource("arn:client/${iot:ClientId", "arn:client/${iot:ClientId"), POLICY_NO_STATEMENT);
}

static void test_dangerous_values(void) {
    static const char *const values[] = {"*", "a+", "#", "a?", "${iot:CertificateId}"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        const char *list[] = {"iot:ClientId", values[i], NULL};
        char resource[64];
        variable_list = list;
        snprintf(resource, sizeof resource, "arn:topicfilter/%s", values[i]);
        if (decide_resource("arn:topicfilter/${iot:ClientId}", resource) != POLICY_NO_STATEMENT)
            ASSERT_TEXT("substituted", values[i]);
    }
    variable_list = NULL;
}

static void test_long_value(void) {
    char value[1026], pattern[] = "arn:client/${iot:ClientId}", resource[1100];
    const char *list[] = {"iot:ClientId", value, NULL};
    memset(value, 'a', sizeof value);
    variable_list = list;
    value[1024] = '\0';
    snprintf(resource, sizeof resource, "arn:client/%s", value);
    ASSERT_NUMBER(decide_resource(pattern, resource), POLICY_ALLOWED);
    value[1024] = 'a';
    value[1025] = '\0';
    snprintf(resource, sizeof resource, "arn:client/%s", value);
    ASSERT_NUMBER(decide_resource(pattern, resource), POLICY_NO_STATEMENT);
    variable_list = NULL;
}

static void test_not_resource(void) {
    const char *document = "{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"iot:Publish\","
                           "\"NotResource\":[\"arn:topic/a\",\"arn:topic/${iot:Unknown}\"]}}";
    ASSERT_NUMBER(decide(document, "iot:Publish", "arn:topic/a"), POLICY_NO_STATEMENT);
    /* can't be told without the variable's value */
    ASSERT_NUMBER(decide(document, "iot:Publish", "arn:topic/b"), POLICY_NO_STATEMENT);
}

static enum policy_decision decide_condition(const char *effect, const char *condition) {
    char document[1024];
    snprintf(document, sizeof document,
             "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"x\"},"
             "{\"Effect\":\"%s\",\"Action\":\"iot:Connect\",\"Resource\":\"*\",\"Condition\":%s}]}",
             effect, condition);
    return decide(document, "iot:Connect", "arn:client/a");
}

static void test_conditions(void) {
    static const char *const list[] = {"iot:Connection.Thing.IsAttached", "true", "iot:ClientId", "gw-1", NULL};
    variable_list = list;
    ASSERT_NUMBER(decide_condition("Allow", "{\"Bool\":{\"iot:Connection.Thing.IsAttached\":[\"true\"]}}"),
                  POLICY_ALLOWED);
    ASSERT_NUMBER(decide_condition("Allow", "{\"Bool\":{\"iot:Connection.Thing.IsAttached\":\"false\"}}"),
                  POLICY_NO_STATEMENT);
    ASSERT_NUMBER(decide_condition("Allow", "{\"StringLike\":{\"iot:ClientId\":\"gw-*\"}}"), POLICY_ALLOWED);
    ASSERT_NUMBER(decide_condition("Deny", "{\"StringNotEquals\":{\"iot:ClientId\":[\"gw-2\"]}}"), POLICY_DENIED);
    ASSERT_NUMBER(decide_condition("Allow", "{\"NumericLessThan\":{\"a\":\"1\"}}"), POLICY_NO_STATEMENT);
    ASSERT_NUMBER(decide_condition("Deny", "{\"NumericLessThan\":{\"a\":\"1\"}}"), POLICY_DENIED);
    variable_list = NULL;
}

static void test_malformed_documents(void) {
    static const char *const documents[] = {
        "{}",
        "[]",
        "{\"Version\":\"2008-10-17\",\"Statement\":[]}",
        "{\"Version\":\"2012-10-17\"}",
        "{\"Version\":\"2012-10-17\",\"Statement\":[1]}",
        "{\"Version\":\"2012-10-17\",\"Statement\":\"\"}",
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Resource\":\"*\"}]}",
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"*\"}]}",
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[],\"Resource\":\"*\"}]}",
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":[1],\"Resource\":\"*\"}]}",
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"allow\",\"Action\":\"*\",\"Resource\":\"*\"}]}",
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":{}}]}",
    };
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++)
        if (decide(documents[i], "iot:Connect", "arn:client/a") != POLICY_NO_STATEMENT)
            ASSERT_TEXT("allowed", documents[i]);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"default deny", test_default_deny},
        {"an explicit deny wins", test_explicit_deny_wins},
        {"wildcards of resources", test_wildcards},
        {"MQTT's wildcards are literal", test_mqtt_wildcards_are_literal},
        {"create/* is not create-from-csr", test_create_does_not_match_create_from_csr},
        {"variables", test_variables},
        {"a variable without a value", test_variable_without_value},
        {"values that hold wildcards", test_dangerous_values},
        {"a value that is too long", test_long_value},
        {"NotResource", test_not_resource},
        {"conditions", test_conditions},
        {"malformed documents allow nothing", test_malformed_documents},
        {NULL, NULL},
    };
    return unit_run("policy", tests, argc, argv);
}
