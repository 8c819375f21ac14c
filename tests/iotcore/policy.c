#include "policy.h"

#include "common/cleanup.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Limits of the Developer Guide: "X.509 Certificate AWS IoT Core policy variables", and the quota of a document. */
#define VALUE_LIMIT 1024
#define DOCUMENT_LIMIT 2048

enum applies { NO, YES, UNKNOWN };

static bool same_character(char one, char other, bool ignore_case) {
    return ignore_case ? tolower((unsigned char)one) == tolower((unsigned char)other) : one == other;
}

/* Goes back to the latest star only, which is enough and bounds the work by the product of both lengths. */
static bool glob_matches(const char *pattern, const char *text, bool ignore_case) {
    const char *star = NULL, *resume = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            resume = text;
        } else if (*pattern != '\0' && (*pattern == '?' || same_character(*pattern, *text, ignore_case))) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static bool value_usable(const char *value) {
    return value != NULL && strlen(value) <= VALUE_LIMIT && strpbrk(value, "*$+?#") == NULL;
}

/* Writes the pattern with all variables replaced; false if one of them can't be. */
static bool substitute(const char *pattern, const struct policy_variables *variables, FILE *output) {
    const char *start;
    while ((start = strstr(pattern, "${")) != NULL) {
        const char *end = strchr(start, '}');
        if (end == NULL)
            return false;
        AUTO_FREE char *name = strndup(start + 2, (size_t)(end - start - 2));
        AUTO_FREE char *value = name != NULL ? variables->get(variables->userdata, name) : NULL;
        if (!value_usable(value))
            return false;
        fprintf(output, "%.*s%s", (int)(start - pattern), pattern, value);
        pattern = end + 1;
    }
    fputs(pattern, output);
    return true;
}

static enum applies pattern_applies(const char *pattern, const char *text, const struct policy_variables *variables) {
    AUTO_FREE char *replaced = NULL;
    size_t size;
    FILE *output = open_memstream(&replaced, &size);
    if (output == NULL)
        return UNKNOWN;
    bool complete = substitute(pattern, variables, output);
    if (fclose(output) != 0 || !complete)
        return UNKNOWN;
    return glob_matches(replaced, text, false) ? YES : NO;
}

/* IAM writes one item as a scalar or as a list of one. */
static size_t items_count(struct json_object *items) {
    return json_object_is_type(items, json_type_array) ? json_object_array_length(items) : 1;
}

static const char *items_text(struct json_object *items, size_t index) {
    struct json_object *item = items;
    if (json_object_is_type(items, json_type_array))
        item = json_object_array_get_idx(items, index);
    return json_object_is_type(item, json_type_string) ? json_object_get_string(item) : NULL;
}

static bool items_are_text(struct json_object *items) {
    for (size_t i = 0; i < items_count(items); i++)
        if (items_text(items, i) == NULL)
            return false;
    return items_count(items) > 0;
}

static bool action_applies(struct json_object *actions, const char *action) {
    for (size_t i = 0; i < items_count(actions); i++)
        if (glob_matches(items_text(actions, i), action, true))
            return true;
    return false;
}

static enum applies any_pattern_applies(struct json_object *patterns, const char *text,
                                        const struct policy_variables *variables) {
    enum applies result = NO;
    for (size_t i = 0; i < items_count(patterns); i++) {
        enum applies one = pattern_applies(items_text(patterns, i), text, variables);
        if (one == YES)
            return YES;
        if (one == UNKNOWN)
            result = UNKNOWN;
    }
    return result;
}

/* A pattern that can't be resolved matches nothing; in NotResource that must not widen an Allow. */
static enum applies resource_applies(struct json_object *statement, const char *resource,
                                     const struct policy_variables *variables) {
    struct json_object *patterns;
    if (json_object_object_get_ex(statement, "Resource", &patterns))
        return any_pattern_applies(patterns, resource, variables) == YES ? YES : NO;
    json_object_object_get_ex(statement, "NotResource", &patterns);
    switch (any_pattern_applies(patterns, resource, variables)) {
    case NO:
        return YES;
    case YES:
        return NO;
    case UNKNOWN:
        return UNKNOWN;
    }
    return UNKNOWN;
}

static enum applies operator_applies(const char *operator, const char * value, struct json_object *wanted,
                                     const struct policy_variables *variables) {
    bool negated = strcmp(operator, "StringNotEquals") == 0, like = strcmp(operator, "StringLike") == 0;
    bool boolean = strcmp(operator, "Bool") == 0;
    if ((!negated && !like && !boolean && strcmp(operator, "StringEquals") != 0) || !items_are_text(wanted))
        return UNKNOWN;
    if (value == NULL)
        return negated ? YES : NO;
    bool found = false;
    if (like)
        found = any_pattern_applies(wanted, value, variables) == YES;
    else
        for (size_t i = 0; i < items_count(wanted) && !found; i++)
            found = boolean ? strcasecmp(items_text(wanted, i), value) == 0 : strcmp(items_text(wanted, i), value) == 0;
    return found != negated ? YES : NO;
}

/* All operators and all keys must hold. */
static enum applies conditions_apply(struct json_object *statement, const struct policy_variables *variables) {
    struct json_object *conditions;
    enum applies result = YES;
    if (!json_object_object_get_ex(statement, "Condition", &conditions))
        return YES;
    json_object_object_foreach(conditions, operator, keys) {
        if (!json_object_is_type(keys, json_type_object))
            return UNKNOWN;
        json_object_object_foreach(keys, key, wanted) {
            AUTO_FREE char *value = variables->get(variables->userdata, key);
            enum applies one = operator_applies(operator, value, wanted, variables);
            if (one == NO)
                return NO;
            if (one == UNKNOWN)
                result = UNKNOWN;
        }
    }
    return result;
}

static bool effect_is(struct json_object *statement, const char *effect) {
    struct json_object *value;
    return json_object_object_get_ex(statement, "Effect", &value) && json_object_is_type(value, json_type_string) &&
           strcmp(json_object_get_string(value), effect) == 0;
}

static bool statement_valid(struct json_object *statement) {
    struct json_object *actions, *resources, *conditions;
    if (!json_object_is_type(statement, json_type_object) ||
        (!effect_is(statement, "Allow") && !effect_is(statement, "Deny")))
        return false;
    if (!json_object_object_get_ex(statement, "Action", &actions) || !items_are_text(actions))
        return false;
    if (json_object_object_get_ex(statement, "Condition", &conditions) &&
        !json_object_is_type(conditions, json_type_object))
        return false;
    return (json_object_object_get_ex(statement, "Resource", &resources) ||
            json_object_object_get_ex(statement, "NotResource", &resources)) &&
           items_are_text(resources);
}

static enum policy_decision statement_evaluate(struct json_object *statement, const char *action, const char *resource,
                                               const struct policy_variables *variables) {
    struct json_object *actions;
    bool deny = effect_is(statement, "Deny");
    json_object_object_get_ex(statement, "Action", &actions);
    if (!action_applies(actions, action))
        return POLICY_NO_STATEMENT;
    enum applies resources = resource_applies(statement, resource, variables);
    enum applies conditions = conditions_apply(statement, variables);
    if (resources == NO || conditions == NO || (!deny && (resources == UNKNOWN || conditions == UNKNOWN)))
        return POLICY_NO_STATEMENT;
    return deny ? POLICY_DENIED : POLICY_ALLOWED;
}

enum policy_decision policy_join(enum policy_decision one, enum policy_decision other) {
    if (one == POLICY_DENIED || other == POLICY_DENIED)
        return POLICY_DENIED;
    return one == POLICY_ALLOWED || other == POLICY_ALLOWED ? POLICY_ALLOWED : POLICY_NO_STATEMENT;
}

static size_t characters_without_space(const char *text) {
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += !isspace((unsigned char)*text);
    return count;
}

/* A single statement may stand for the list of one. */
static struct json_object *statements_get(struct json_object *document) {
    struct json_object *version, *statements;
    if (!json_object_is_type(document, json_type_object) || !json_object_object_get_ex(document, "Version", &version) ||
        !json_object_is_type(version, json_type_string) || strcmp(json_object_get_string(version), "2012-10-17") != 0 ||
        !json_object_object_get_ex(document, "Statement", &statements))
        return NULL;
    return statements;
}

static struct json_object *statement_at(struct json_object *statements, size_t index) {
    return json_object_is_type(statements, json_type_array) ? json_object_array_get_idx(statements, index) : statements;
}

bool policy_valid(struct json_object *document) {
    struct json_object *statements = statements_get(document);
    if (statements == NULL)
        return false;
    for (size_t i = 0; i < items_count(statements); i++)
        if (!statement_valid(statement_at(statements, i)))
            return false;
    const char *text = json_object_to_json_string_ext(document, JSON_C_TO_STRING_NOSLASHESCAPE);
    return text != NULL && characters_without_space(text) <= DOCUMENT_LIMIT;
}

enum policy_decision policy_evaluate(struct json_object *document, const char *action, const char *resource,
                                     const struct policy_variables *variables) {
    enum policy_decision decision = POLICY_NO_STATEMENT;
    if (!policy_valid(document))
        return POLICY_NO_STATEMENT;
    struct json_object *statements = statements_get(document);
    for (size_t i = 0; i < items_count(statements); i++)
        decision = policy_join(decision, statement_evaluate(statement_at(statements, i), action, resource, variables));
    return decision;
}
