#include "harness.h"
#include "worker/client-id.h"
#include "worker/topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct specifier_values values = {
    .serial_number = "SN+1", .thing_name = "GW-1", .certificate_id = "c0ffee", .old_certificate_id = "0ddba11"};

static void assert_topic(const char *pattern, const char *topic, const char *wrong) {
    struct failure failure = {0};
    char *expanded = NULL;
    int r = topic_expand(pattern, &values, "ProveTopic", &expanded, &failure);
    ASSERT_NUMBER(r, wrong == NULL ? 0 : -1);
    ASSERT_TEXT(expanded, topic);
    if (wrong != NULL) {
        ASSERT_TEXT(failure_class_name(failure.class), "invalid");
        if (strstr(failure.message, wrong) == NULL || strstr(failure.message, "ProveTopic=") == NULL)
            ASSERT_TEXT(failure.message, wrong);
    }
    free(expanded);
}

static void test_expand(void) {
    char long_topic[258];
    memset(long_topic, 'x', sizeof long_topic);
    long_topic[257] = '\0';
    assert_topic("gateways/%t/alive", "gateways/GW-1/alive", NULL);
    assert_topic("$aws/rules/retire/%i/%o", "$aws/rules/retire/c0ffee/0ddba11", NULL);
    assert_topic("1/2/3/4/5/6/7/8", "1/2/3/4/5/6/7/8", NULL);
    assert_topic("1/2/3/4/5/6/7/8/9", NULL, "more than 7 slashes");
    assert_topic("$aws/rules/retire/1/2/3/4/5/6/7/8", "$aws/rules/retire/1/2/3/4/5/6/7/8", NULL);
    assert_topic("$aws/rules/retire/1/2/3/4/5/6/7/8/9", NULL, "more than 7 slashes");
    assert_topic("gateways/%s", NULL, "without the wildcards");
    assert_topic("gateways/%c", NULL, "%c is no specifier, or has no value here");
    assert_topic("gateways/\xff", NULL, "must be UTF-8");
    assert_topic(long_topic, NULL, "1 to 256 bytes");
    assert_topic(long_topic + 1, long_topic + 1, NULL);
}

static void test_without_rule(void) {
    ASSERT_TEXT(topic_without_rule("$aws/rules/retire/gateways/1"), "gateways/1");
    ASSERT_TEXT(topic_without_rule("$aws/rules/retire/"), "$aws/rules/retire/");
    ASSERT_TEXT(topic_without_rule("$aws/rules/retire"), "$aws/rules/retire");
    ASSERT_TEXT(topic_without_rule("gateways/1"), "gateways/1");
}

static void assert_own(const char *client_id, const char *thing_name, const char *used_id, const char *own) {
    struct settings settings = {.client_id = ""};
    struct identity identity = {.serial_number = "SN-1"};
    struct failure failure = {0};
    char *id = NULL;
    settings.client_id = client_id;
    snprintf(identity.thing_name, sizeof identity.thing_name, "%s", thing_name);
    snprintf(identity.client_id, sizeof identity.client_id, "%s", used_id);
    int r = client_id_own(&settings, &identity, "the-name", "c0ffee", &id, &failure);
    ASSERT_NUMBER(r, own != NULL ? 0 : -1);
    ASSERT_TEXT(id, own);
    if (own == NULL)
        CU_ASSERT(strstr(failure.message, "ClientId=") != NULL);
    free(id);
}

/* Never the bare name, even where the identity was proven by it. */
static void test_own_id(void) {
    char name[129];
    memset(name, 'n', sizeof name);
    name[128] = '\0';
    assert_own("", "GW-1", "GW-1-enrolld", "GW-1-enrolld");
    assert_own("", "GW-1", "GW-1", "GW-1-enrolld");
    assert_own("", "", "the-name-enrolld", "the-name-enrolld");
    assert_own("", "", "SN-1", "SN-1-enrolld");
    assert_own("agent-%t-%c-%i", "GW-1", "GW-1", "agent-GW-1-the-name-c0ffee");
    assert_own("agent-%t", "", "SN-1", NULL);
    assert_own("", name, name, NULL);
    assert_own("", name + 8, name + 8, strcat(strcpy((char[200]){0}, name + 8), "-enrolld"));
}

static void test_is_own(void) {
    const struct identity identity = {.serial_number = "SN-1", .thing_name = "GW-1"};
    ASSERT_NUMBER(client_id_is_own(&identity, "GW-1-enrolld"), true);
    ASSERT_NUMBER(client_id_is_own(&identity, "GW-1"), false);
    ASSERT_NUMBER(client_id_is_own(&identity, "SN-1"), false);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"topics", test_expand},
        {"Basic Ingest", test_without_rule},
        {"the agent's own client id", test_own_id},
        {"whose client id it is", test_is_own},
        {NULL, NULL},
    };
    return unit_run("topic", tests, argc, argv);
}
