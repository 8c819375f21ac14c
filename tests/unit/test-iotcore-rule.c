#include "harness.h"
#include "json_read.h"
#include "rule_sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the statement makes of the payload, as text in a static buffer. */
static const char *select_from(const char *text, const char *payload) {
    static char output[512];
    struct rule_sql sql;
    AUTO_JSON struct json_object *object = json_parse(payload, strlen(payload));
    const struct rule_sql_message message = {
        .topic = "things/a/retire",
        .client_id = "a-enrolld",
        .principal = "1234",
        .account = "123456789012",
        .milliseconds = 1700000000123,
        .payload = json_object_is_type(object, json_type_object) ? object : NULL,
    };
    if (!rule_sql_parse(text, &sql))
        return "no statement";
    AUTO_JSON struct json_object *selected = rule_sql_select(&sql, &message);
    if (selected == NULL)
        return "no object";
    snprintf(output, sizeof output, "%s",
             json_object_to_json_string_ext(selected, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    return output;
}

static void test_columns(void) {
    const char *payload = "{\"old\":\"x\",\"n\":{\"m\":[1]}}";
    ASSERT_TEXT(select_from("SELECT * FROM 'a'", payload), "{\"old\":\"x\",\"n\":{\"m\":[1]}}");
    ASSERT_TEXT(select_from("select old from 'a'", payload), "{\"old\":\"x\"}");
    ASSERT_TEXT(select_from("SELECT\n old AS o ,n\tFROM'a' ", payload), "{\"o\":\"x\",\"n\":{\"m\":[1]}}");
    ASSERT_TEXT(select_from("SELECT none, old", payload), "{\"old\":\"x\"}");
    ASSERT_TEXT(select_from("SELECT 'a b' AS c", payload), "{\"c\":\"a b\"}");
    ASSERT_TEXT(select_from("SELECT topic() AS t, principal() AS p, clientid() AS c", payload),
                "{\"t\":\"things/a/retire\",\"p\":\"1234\",\"c\":\"a-enrolld\"}");
    ASSERT_TEXT(select_from("SELECT accountid() AS a, Timestamp ( ) AS t", payload),
                "{\"a\":\"123456789012\",\"t\":1700000000123}");
}

/* Whoever selects * may be lied to. */
static void test_members_of_the_same_name(void) {
    const char *payload = "{\"old\":\"x\",\"principal\":\"lie\",\"topic\":\"lie\"}";
    ASSERT_TEXT(select_from("SELECT *, principal() AS principal", payload), payload);
    ASSERT_TEXT(select_from("SELECT principal() AS principal, *", payload),
                "{\"principal\":\"lie\",\"old\":\"x\",\"topic\":\"lie\"}");
    ASSERT_TEXT(select_from("SELECT old, principal() AS principal, topic() AS topic", payload),
                "{\"old\":\"x\",\"principal\":\"1234\",\"topic\":\"things/a/retire\"}");
}

static void test_payloads_that_are_no_objects(void) {
    static const char *const payloads[] = {"", "[]", "1", "null", "\"old\"", "{", "\xff"};
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        ASSERT_TEXT(select_from("SELECT * FROM 'a'", payloads[i]), "no object");
        ASSERT_TEXT(select_from("SELECT old FROM 'a'", payloads[i]), "no object");
        ASSERT_TEXT(select_from("SELECT topic() AS topic FROM 'a'", payloads[i]), "{\"topic\":\"things/a/retire\"}");
    }
}

static void test_filters(void) {
    struct rule_sql sql;
    char text[400] = "SELECT * FROM '";
    CU_ASSERT_TRUE(rule_sql_parse("SELECT * FROM '$aws/events/certificates/registered/+'", &sql));
    ASSERT_TEXT(sql.filter, "$aws/events/certificates/registered/+");
    CU_ASSERT_TRUE(rule_sql_parse("SELECT *", &sql));
    ASSERT_TEXT(sql.filter, "");
    memset(text + strlen(text), 'a', 256);
    strcat(text, "'");
    CU_ASSERT_TRUE(rule_sql_parse(text, &sql));
    text[strlen(text) - 1] = 'a';
    strcat(text, "'");
    CU_ASSERT_FALSE(rule_sql_parse(text, &sql));
}

static void test_what_is_no_statement(void) {
    static const char *const wrong[] = {
        "",
        "SELECT",
        "SELECT FROM 'a'",
        "SELECTold FROM 'a'",
        "SELECT old, FROM 'a'",
        "SELECT old,,new FROM 'a'",
        "SELECT * FROM a",
        "SELECT * FROM ''",
        "SELECT * FROM 'a",
        "SELECT * FROM 'a' WHERE x > 1",
        "SELECT principal() FROM 'a'",
        "SELECT principal( AS p FROM 'a'",
        "SELECT topic(2) AS t FROM 'a'",
        "SELECT nothing() AS t FROM 'a'",
        "SELECT 'a' FROM 'a'",
        "SELECT '' AS a FROM 'a'",
        "SELECT a.b FROM 'a'",
        "SELECT old AS FROM 'a'",
        "SELECT old new FROM 'a'",
        "SELECT * AS a FROM 'a'",
        "SELECT *;",
        "UPDATE a",
    };
    static const char many[] = "SELECT a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p";
    char longest[300] = "SELECT ";
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (strcmp(select_from(wrong[i], "{}"), "no statement") != 0)
            ASSERT_TEXT("accepted", wrong[i]);
    ASSERT_TEXT(select_from(many, "{}"), "{}");
    ASSERT_TEXT(select_from("SELECT a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", "{}"), "no statement");
    memset(longest + strlen(longest), 'a', 128);
    ASSERT_TEXT(select_from(longest, "{}"), "{}");
    strcat(longest, "a");
    ASSERT_TEXT(select_from(longest, "{}"), "no statement");
}

/* Cut short anywhere it is one or none, and nothing is read behind its end. */
static void test_pieces(void) {
    static const char whole[] = "SELECT *, old AS o, 'x' AS y, principal() AS p FROM 'things/+/retire'";
    for (size_t length = 0; length < sizeof whole; length++) {
        char *text = strndup(whole, length);
        struct rule_sql sql;
        CU_ASSERT_PTR_NOT_NULL_FATAL(text);
        rule_sql_parse(text, &sql);
        free(text);
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"columns", test_columns},
        {"members with the name of a column", test_members_of_the_same_name},
        {"payloads that are no objects", test_payloads_that_are_no_objects},
        {"filters", test_filters},
        {"what is no statement", test_what_is_no_statement},
        {"statements cut short", test_pieces},
        {NULL, NULL},
    };
    return unit_run("rule", tests, argc, argv);
}
