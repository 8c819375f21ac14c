#include "harness.h"
#include "topic.h"

#include <stdlib.h>

static void test_requests(void) {
    struct topic_request request;
    ASSERT_NUMBER(topic_classify("$aws/certificates/create-from-csr/json", &request), TOPIC_REQUEST);
    ASSERT_NUMBER(request.operation, TOPIC_CREATE_FROM_CSR);
    ASSERT_NUMBER(request.format, TOPIC_JSON);
    ASSERT_TEXT(request.template_name, "");
    ASSERT_NUMBER(topic_classify("$aws/certificates/create/cbor", &request), TOPIC_REQUEST);
    ASSERT_NUMBER(request.operation, TOPIC_CREATE_KEYS);
    ASSERT_NUMBER(request.format, TOPIC_CBOR);
    ASSERT_NUMBER(topic_classify("$aws/provisioning-templates/fleet_1/provision/json", &request), TOPIC_REQUEST);
    ASSERT_NUMBER(request.operation, TOPIC_REGISTER_THING);
    ASSERT_TEXT(request.template_name, "fleet_1");
}

static void test_other_topics(void) {
    static const char *const invalid[] = {
        "$aws/certificates/create-from-csr",
        "$aws/certificates/create-from-csr/json/accepted",
        "$aws/certificates/create/xml",
        "$aws/certificates/",
        "$aws/provisioning-templates/a b/provision/json",
        "$aws/provisioning-templates//provision/json",
        "$aws/provisioning-templates/0123456789012345678901234567890123456/provision/json",
        "$aws/provisioning-templates/a/provision",
        "$aws/events/presence/connected/x",
        "$SYS/broker",
        "$",
    };
    struct topic_request request;
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
        if (topic_classify(invalid[i], &request) != TOPIC_INVALID)
            ASSERT_TEXT("accepted", invalid[i]);
    ASSERT_NUMBER(topic_classify("things/a/state", &request), TOPIC_ORDINARY);
    ASSERT_NUMBER(topic_classify("$aws/things/a/shadow/update", &request), TOPIC_SERVICE);
    ASSERT_NUMBER(topic_classify("$aws/rules/a/b", &request), TOPIC_SERVICE);
}

static void test_filter_that_can_match_nothing(void) {
    ASSERT_NUMBER(topic_filter_valid("$aws/certificates/create-from-csr/json/accepted"), true);
    ASSERT_NUMBER(topic_filter_valid("$aws/certificates/create-from-csr/json/+"), true);
    ASSERT_NUMBER(topic_filter_valid("$aws/certificates/create-from-csr/#"), true);
    ASSERT_NUMBER(topic_filter_valid("$aws/certificates/create-from-csr/accepted"), false);
    ASSERT_NUMBER(topic_filter_valid("$aws/certificates/create/accepted"), false);
    ASSERT_NUMBER(topic_filter_valid("$aws/provisioning-templates/enrolld/provision/json/rejected"), true);
    ASSERT_NUMBER(topic_filter_valid("$aws/provisioning-templates/+/provision/+/+"), true);
    ASSERT_NUMBER(topic_filter_valid("$aws/provisioning-templates/#"), true);
    ASSERT_NUMBER(topic_filter_valid("$aws/provisioning-templates/enrolld/provision/accepted"), false);
    ASSERT_NUMBER(
        topic_filter_valid("$aws/provisioning-templates/0123456789012345678901234567890123456/provision/json/+"),
        false);
    ASSERT_NUMBER(topic_filter_valid("$SYS/#"), false);
    ASSERT_NUMBER(topic_filter_valid("#"), true);
}

static void test_matching(void) {
    ASSERT_NUMBER(topic_matches("a/+/c", "a/b/c"), true);
    ASSERT_NUMBER(topic_matches("a/+", "a/b/c"), false);
    ASSERT_NUMBER(topic_matches("a/#", "a/b/c"), true);
    ASSERT_NUMBER(topic_matches("a/b", "a/b/c"), false);
    ASSERT_NUMBER(topic_matches("a/b/c", "a/b"), false);
    ASSERT_NUMBER(topic_matches("a/+", "a/"), true);
    ASSERT_NUMBER(topic_matches("#", "a/b"), true);
    ASSERT_NUMBER(topic_matches("ab", "abc"), false);
    ASSERT_NUMBER(topic_matches("", ""), true);
}

static void test_unlike_the_specification(void) {
    ASSERT_NUMBER(topic_matches("sensor/#", "sensor"), false);
    ASSERT_NUMBER(topic_matches("#", "$aws/things/a"), false);
    ASSERT_NUMBER(topic_matches("+/things/a", "$aws/things/a"), false);
}

static void test_limits(void) {
    char topic[300];
    for (size_t i = 0; i < sizeof topic; i++)
        topic[i] = 'a';
    topic[256] = '\0';
    ASSERT_NUMBER(topic_within_limits(topic), true);
    topic[256] = 'a';
    topic[257] = '\0';
    ASSERT_NUMBER(topic_within_limits(topic), false);
    ASSERT_NUMBER(topic_within_limits("1/2/3/4/5/6/7/8"), true);
    ASSERT_NUMBER(topic_within_limits("1/2/3/4/5/6/7/8/9"), false);
    ASSERT_NUMBER(topic_within_limits("$aws/rules/rule/1/2/3/4/5/6/7/8"), true);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"requests of the provisioning API", test_requests},
        {"topics that are none", test_other_topics},
        {"a filter that can match nothing", test_filter_that_can_match_nothing},
        {"filters match topics", test_matching},
        {"filters match less than in the specification", test_unlike_the_specification},
        {"limits of length and levels", test_limits},
        {NULL, NULL},
    };
    return unit_run("topic", tests, argc, argv);
}
