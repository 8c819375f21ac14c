#include "rule.h"

#include "function.h"
#include "json_read.h"
#include "rule_sql.h"
#include "topic.h"

#include <stdlib.h>
#include <string.h>

#define BASIC_INGEST "$aws/rules/"

static void tell(struct standin *standin, const char *rule, const struct rule_sql_message *message, const char *error) {
    struct json_object *event = event_new("rule");
    event_text(event, "rule", rule);
    event_text(event, "topic", message->topic);
    event_text(event, "principal", message->principal);
    event_text(event, "result", error == NULL ? "met" : "failed");
    event_text(event, "reason", error);
    event_write(standin->events, event);
}

/* Nobody waits for it: what it said is in the event "function". AWS Lambda would try again twice after a failure, a
 * minute later and two; here the device has to ask again. */
static void forget(struct standin *standin, void *context, struct json_object *result, const char *error) {
    (void)standin;
    (void)context;
    (void)result;
    (void)error;
}

static void act(struct standin *standin, struct json_object *action, struct json_object *selected) {
    const char *arn = json_text(json_member(action, "lambda", json_type_object), "functionArn");
    function_call(standin, arn != NULL ? arn : "", selected, FUNCTION_MILLISECONDS, forget, NULL);
}

static void apply(struct standin *standin, const char *name, struct json_object *rule, const struct rule_sql *sql,
                  const struct rule_sql_message *message) {
    struct json_object *actions = json_member(rule, "actions", json_type_array);
    AUTO_JSON struct json_object *selected = rule_sql_select(sql, message);
    const char *error = selected == NULL ? "the payload is not a JSON object" : NULL;
    for (size_t i = 0; error == NULL && actions != NULL && i < json_object_array_length(actions); i++)
        act(standin, json_object_array_get_idx(actions, i), selected);
    tell(standin, name, message, error);
}

static bool enabled(struct json_object *rule) {
    return !json_object_get_boolean(json_member(rule, "ruleDisabled", json_type_boolean));
}

/* Basic Ingest: the one rule that is named, whatever its filter. A message for a rule that is not there is lost. */
static void ingest(struct standin *standin, struct rule_sql_message *message) {
    char name[129];
    const char *begin = message->topic + strlen(BASIC_INGEST);
    size_t length = strcspn(begin, "/");
    struct rule_sql sql;
    if (length >= sizeof name)
        return;
    memcpy(name, begin, length);
    name[length] = '\0';
    message->topic = begin[length] == '/' ? begin + length + 1 : "";
    struct json_object *rules = registry_section(standin->provisioning.registry, "rules");
    struct json_object *rule = json_member(rules, name, json_type_object);
    const char *text = json_text(rule, "sql");
    if (text != NULL && enabled(rule) && rule_sql_parse(text, &sql))
        apply(standin, name, rule, &sql, message);
    else
        tell(standin, name, message, "there is no such rule, or it is disabled");
}

static void match(struct standin *standin, const struct rule_sql_message *message) {
    json_object_object_foreach(registry_section(standin->provisioning.registry, "rules"), name, rule) {
        struct rule_sql sql;
        const char *text = json_text(rule, "sql");
        if (text != NULL && enabled(rule) && rule_sql_parse(text, &sql) && topic_matches(sql.filter, message->topic))
            apply(standin, name, rule, &sql, message);
    }
}

void rule_message(struct standin *standin, const struct rule_input *input) {
    const struct registry *registry = standin->provisioning.registry;
    AUTO_JSON struct json_object *payload = input->size > 0 ? json_parse(input->payload, input->size) : NULL;
    struct rule_sql_message message = {
        .topic = input->topic,
        .client_id = input->client_id,
        .principal = input->principal,
        .account = registry_account(registry),
        .milliseconds = registry_milliseconds(registry),
        .payload = json_object_is_type(payload, json_type_object) ? payload : NULL,
    };
    if (strncmp(input->topic, BASIC_INGEST, strlen(BASIC_INGEST)) == 0)
        ingest(standin, &message);
    else
        match(standin, &message);
}
