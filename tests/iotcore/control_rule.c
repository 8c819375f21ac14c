#include "control_handler.h"

#include "common/cleanup.h"
#include "control_page.h"
#include "json_read.h"
#include "registry.h"
#include "rule_sql.h"

#include <string.h>

/* API reference: RuleName, SQL, ActionList */
#define NAME_LIMIT 128
#define SQL_LIMIT 2048
#define ACTIONS_LIMIT 10
#define DESCRIPTION_LIMIT 2048

static struct json_object *rules_of(const struct control_call *call) {
    return registry_section(call->registry, "rules");
}

/* AWS does not tell a rule that is not there from one that is not yours. */
static int find_rule(const struct control_call *call, struct json_object **ret) {
    *ret = json_member(rules_of(call), call->name, json_type_object);
    return *ret != NULL ? 0
                        : rejection_set(call->rejection, 401, "UnauthorizedException",
                                        "Access to topic rule '%.128s' was denied", call->name);
}

static bool name_valid(const char *name) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    size_t length = strlen(name);
    return length <= NAME_LIMIT && strspn(name, letters) == length;
}

static int check_actions(const struct control_call *call, struct json_object *actions) {
    if (actions == NULL || json_object_array_length(actions) > ACTIONS_LIMIT)
        return control_invalid(call, "actions is no list of at most %d", ACTIONS_LIMIT);
    for (size_t i = 0; i < json_object_array_length(actions); i++) {
        struct json_object *action = json_object_array_get_idx(actions, i);
        if (json_text(json_member(action, "lambda", json_type_object), "functionArn") == NULL)
            return control_invalid(call, "The stand-in knows no action but lambda with functionArn");
    }
    return 0;
}

static int check_rule(const struct control_call *call) {
    static const char *const versions[] = {"2015-10-08", "2016-03-23", "beta", NULL};
    const char *sql, *version, *description;
    struct rule_sql parsed;
    bool disabled;
    if (!name_valid(call->name))
        return control_invalid(call, "The name of the rule is not valid");
    if (control_text(call, call->body, "sql", SQL_LIMIT, &sql) < 0 ||
        control_text(call, call->body, "awsIotSqlVersion", 32, &version) < 0 ||
        control_text(call, call->body, "description", DESCRIPTION_LIMIT, &description) < 0 ||
        control_boolean(call, "ruleDisabled", &disabled) < 0 ||
        control_one_of(call, "awsIotSqlVersion", version, versions) < 0 ||
        check_actions(call, json_member(call->body, "actions", json_type_array)) < 0)
        return -1;
    if (sql == NULL || !rule_sql_parse(sql, &parsed))
        return rejection_set(call->rejection, 400, "SqlParseException", "The SQL is not what the stand-in knows");
    return 0;
}

static void set_rule(const struct control_call *call) {
    static const char *const members[] = {"sql", "actions", "description", "awsIotSqlVersion", "ruleDisabled"};
    struct json_object *rule = json_object_new_object(), *value;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (json_object_object_get_ex(call->body, members[i], &value))
            json_object_object_add(rule, members[i], json_object_get(value));
    json_object_object_add(rule, "createdAt", json_object_new_int64(registry_now(call->registry)));
    json_object_object_add(rules_of(call), call->name, rule);
}

int control_create_topic_rule(const struct control_call *call) {
    if (check_rule(call) < 0)
        return -1;
    if (json_member(rules_of(call), call->name, json_type_object) != NULL)
        return rejection_set(call->rejection, 409, "ResourceAlreadyExistsException", "Rule %.128s already exists",
                             call->name);
    set_rule(call);
    return 0;
}

int control_replace_topic_rule(const struct control_call *call) {
    struct json_object *rule;
    if (find_rule(call, &rule) < 0 || check_rule(call) < 0)
        return -1;
    set_rule(call);
    return 0;
}

static int disable(const struct control_call *call, bool disabled) {
    struct json_object *rule;
    if (find_rule(call, &rule) < 0)
        return -1;
    json_object_object_add(rule, "ruleDisabled", json_object_new_boolean(disabled));
    return 0;
}

int control_enable_topic_rule(const struct control_call *call) {
    return disable(call, false);
}

int control_disable_topic_rule(const struct control_call *call) {
    return disable(call, true);
}

static bool is_disabled(struct json_object *rule) {
    return json_object_get_boolean(json_member(rule, "ruleDisabled", json_type_boolean));
}

int control_get_topic_rule(const struct control_call *call) {
    struct json_object *rule, *copy = NULL;
    if (find_rule(call, &rule) < 0)
        return -1;
    AUTO_FREE char *arn = registry_arn(call->registry, "rule", call->name);
    if (json_object_deep_copy(rule, &copy, NULL) < 0)
        return control_out_of_memory(call);
    control_set(copy, "ruleName", call->name);
    json_object_object_add(copy, "ruleDisabled", json_object_new_boolean(is_disabled(rule)));
    control_set(call->reply, "ruleArn", arn);
    json_object_object_add(call->reply, "rule", copy);
    return 0;
}

int control_list_topic_rules(const struct control_call *call) {
    static const struct control_paging paging = {"maxResults", "nextToken", "nextToken", "rules", "ruleName"};
    struct json_object *entries = json_object_new_array();
    json_object_object_foreach(rules_of(call), name, rule) {
        struct json_object *entry = json_object_new_object();
        AUTO_FREE char *arn = registry_arn(call->registry, "rule", name);
        const char *text = json_text(rule, "sql");
        struct rule_sql sql;
        control_set(entry, "ruleArn", arn);
        control_set(entry, "ruleName", name);
        if (text != NULL && rule_sql_parse(text, &sql))
            control_set(entry, "topicPattern", sql.filter);
        json_object_object_add(entry, "createdAt", json_object_get(json_member(rule, "createdAt", json_type_int)));
        json_object_object_add(entry, "ruleDisabled", json_object_new_boolean(is_disabled(rule)));
        json_object_array_add(entries, entry);
    }
    return control_page(&paging, call->uri, entries, call->reply, call->rejection);
}

/* One that is not there is deleted already. */
int control_delete_topic_rule(const struct control_call *call) {
    json_object_object_del(rules_of(call), call->name);
    return 0;
}
