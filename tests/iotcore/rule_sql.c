#include "rule_sql.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    enum rule_sql_kind kind;
} functions[] = {
    {"accountid", RULE_SQL_ACCOUNT},   {"clientid", RULE_SQL_CLIENT}, {"principal", RULE_SQL_PRINCIPAL},
    {"timestamp", RULE_SQL_TIMESTAMP}, {"topic", RULE_SQL_TOPIC},
};

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";

static void skip_blanks(const char **text) {
    *text += strspn(*text, " \t\r\n");
}

static bool take(const char **text, const char *wanted) {
    size_t length = strlen(wanted);
    skip_blanks(text);
    if (strncmp(*text, wanted, length) != 0)
        return false;
    *text += length;
    return true;
}

/* Keywords in either case. */
static bool take_keyword(const char **text, const char *wanted) {
    size_t length = strlen(wanted);
    skip_blanks(text);
    if (strncasecmp(*text, wanted, length) != 0 || (*text)[length] == '\0' || strchr(letters, (*text)[length]) != NULL)
        return false;
    *text += length;
    return true;
}

static bool take_run(const char **text, size_t length, char *ret, size_t size) {
    if (length == 0 || length >= size)
        return false;
    memcpy(ret, *text, length);
    ret[length] = '\0';
    *text += length;
    return true;
}

static bool take_name(const char **text, char ret[RULE_SQL_WORD_SIZE]) {
    skip_blanks(text);
    return take_run(text, strspn(*text, letters), ret, RULE_SQL_WORD_SIZE);
}

/* 'text', without any way to write a quote. */
static bool take_text(const char **text, char *ret, size_t size) {
    return take(text, "'") && take_run(text, strcspn(*text, "'"), ret, size) && take(text, "'");
}

static bool find_function(struct rule_sql_column *column) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcasecmp(functions[i].name, column->word) == 0) {
            column->kind = functions[i].kind;
            return true;
        }
    return false;
}

static bool parse_column(const char **text, struct rule_sql_column *column) {
    skip_blanks(text);
    if (**text == '*') {
        column->kind = RULE_SQL_ALL;
        return take(text, "*");
    }
    if (**text == '\'') {
        column->kind = RULE_SQL_TEXT;
        return take_text(text, column->word, sizeof column->word) && take_keyword(text, "AS") &&
               take_name(text, column->name);
    }
    if (!take_name(text, column->word))
        return false;
    column->kind = RULE_SQL_MEMBER;
    memcpy(column->name, column->word, sizeof column->name);
    bool function = take(text, "(");
    if (function && (!take(text, ")") || !find_function(column)))
        return false;
    if (take_keyword(text, "AS"))
        return take_name(text, column->name);
    return !function;
}

bool rule_sql_parse(const char *text, struct rule_sql *ret) {
    struct rule_sql sql = {0};
    if (!take_keyword(&text, "SELECT"))
        return false;
    do {
        if (sql.count == RULE_SQL_COLUMNS || !parse_column(&text, &sql.columns[sql.count++]))
            return false;
    } while (take(&text, ","));
    if (take_keyword(&text, "FROM") && !take_text(&text, sql.filter, sizeof sql.filter))
        return false;
    skip_blanks(&text);
    *ret = sql;
    return *text == '\0';
}

static void add_text(struct json_object *object, const char *name, const char *text) {
    if (text != NULL && !json_object_object_get_ex(object, name, NULL))
        json_object_object_add(object, name, json_object_new_string(text));
}

static void add_all(struct json_object *object, struct json_object *payload) {
    json_object_object_foreach(payload, name, value) {
        json_object_object_add(object, name, json_object_get(value));
    }
}

static void add_column(struct json_object *object, const struct rule_sql_column *column,
                       const struct rule_sql_message *message) {
    struct json_object *value = NULL;
    switch (column->kind) {
    case RULE_SQL_ALL:
        add_all(object, message->payload);
        return;
    case RULE_SQL_MEMBER:
        if (json_object_object_get_ex(message->payload, column->word, &value))
            json_object_object_add(object, column->name, json_object_get(value));
        return;
    case RULE_SQL_TEXT:
        add_text(object, column->name, column->word);
        return;
    case RULE_SQL_ACCOUNT:
        add_text(object, column->name, message->account);
        return;
    case RULE_SQL_CLIENT:
        add_text(object, column->name, message->client_id);
        return;
    case RULE_SQL_PRINCIPAL:
        add_text(object, column->name, message->principal);
        return;
    case RULE_SQL_TIMESTAMP:
        if (!json_object_object_get_ex(object, column->name, NULL))
            json_object_object_add(object, column->name, json_object_new_int64(message->milliseconds));
        return;
    case RULE_SQL_TOPIC:
        add_text(object, column->name, message->topic);
        return;
    }
}

static bool needs_payload(const struct rule_sql *sql) {
    for (unsigned i = 0; i < sql->count; i++)
        if (sql->columns[i].kind == RULE_SQL_ALL || sql->columns[i].kind == RULE_SQL_MEMBER)
            return true;
    return false;
}

struct json_object *rule_sql_select(const struct rule_sql *sql, const struct rule_sql_message *message) {
    if (message->payload == NULL && needs_payload(sql))
        return NULL;
    struct json_object *object = json_object_new_object();
    for (unsigned i = 0; i < sql->count; i++)
        add_column(object, &sql->columns[i], message);
    return object;
}
