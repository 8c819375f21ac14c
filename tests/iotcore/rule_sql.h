/* The SQL of topic rules, as far as rules of this project need it: SELECT of the whole payload (*), of members, of
 * texts and of functions, FROM a topic filter. Pure functions. Source: AWS IoT Core Developer Guide, "AWS IoT SQL
 * reference". */
#pragma once

#include <json-c/json.h>

#include <stdbool.h>
#include <stdint.h>

#define RULE_SQL_COLUMNS 16
/* A member's name, a text. */
#define RULE_SQL_WORD_SIZE 129
/* A topic filter: 256 bytes. */
#define RULE_SQL_FILTER_SIZE 257

enum rule_sql_kind {
    RULE_SQL_ALL,    /* * */
    RULE_SQL_MEMBER, /* old, or old AS other */
    RULE_SQL_TEXT,   /* 'text' AS name */
    RULE_SQL_ACCOUNT,
    RULE_SQL_CLIENT,
    RULE_SQL_PRINCIPAL,
    RULE_SQL_TIMESTAMP,
    RULE_SQL_TOPIC, /* accountid(), clientid(), principal(), timestamp(), topic(), each with AS name */
};

struct rule_sql {
    char filter[RULE_SQL_FILTER_SIZE]; /* empty: for Basic Ingest only */
    unsigned count;
    struct rule_sql_column {
        enum rule_sql_kind kind;
        char word[RULE_SQL_WORD_SIZE];
        char name[RULE_SQL_WORD_SIZE];
    } columns[RULE_SQL_COLUMNS];
};

struct rule_sql_message {
    const char *topic; /* without the prefix of Basic Ingest */
    const char *client_id;
    const char *principal; /* "principal()": of a connection with a certificate the certificate's id */
    const char *account;
    int64_t milliseconds;
    struct json_object *payload; /* an object, or NULL for anything else */
};

/* False for what is no such statement. */
bool rule_sql_parse(const char *text, struct rule_sql *ret);

/* What the statement makes of the message, owned by the caller; NULL if it needs a payload that is an object, and there
 * is none. A member that is not there is left out. Where * and a column have the same name, the payload's member stays:
 * AWS does not say which one does, and a device could say anything there. */
struct json_object *rule_sql_select(const struct rule_sql *sql, const struct rule_sql_message *message);
