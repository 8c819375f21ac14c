/* Topic rules: what becomes of messages besides being handed on to subscribers. Part of the registry's file:
 *
 *   rules.NAME    sql, actions, description, awsIotSqlVersion, ruleDisabled (as CreateTopicRule takes them), createdAt
 *
 * Actions: {"lambda": {"functionArn"}}. A rule that has met a message is told in the event "rule". */
#pragma once

#include "standin.h"

#include <json-c/json.h>

struct rule_input {
    const char *topic;
    const char *client_id;
    const char *principal; /* as rule_sql.h says */
    const void *payload;
    size_t size;
};

/* Has the rules that it meets act on a message: those whose filter matches, or the one that Basic Ingest names by
 * $aws/rules/NAME/TOPIC. */
void rule_message(struct standin *standin, const struct rule_input *input);
