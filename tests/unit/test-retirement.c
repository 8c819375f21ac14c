#include "harness.h"
#include "worker/retirement.h"

#include <stdio.h>
#include <string.h>

#define OLD "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define NEW "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_message(void) {
    char text[RETIREMENT_SIZE];
    retirement_print(OLD, NEW, text);
    ASSERT_TEXT(text, "{\"old\":\"" OLD "\",\"new\":\"" NEW "\"}");
}

/* reason NULL: it is no answer about that certificate. */
static void assert_answer(const char *payload, const char *reason) {
    char found[RETIREMENT_REASON_SIZE] = "untouched";
    ASSERT_NUMBER(retirement_is_about(payload, strlen(payload), OLD, found), reason != NULL);
    ASSERT_TEXT(found, reason != NULL ? reason : "untouched");
}

static void test_answers(void) {
    assert_answer("{\"old\":\"" OLD "\"}", "");
    assert_answer("{\"old\": \"" OLD "\", \"message\": \"it is not yours\", \"more\": [1, {}]}", "it is not yours");
    assert_answer("{\"old\":\"" OLD "\",\"message\":7}", "");
    assert_answer("{\"old\":\"" OLD "\",\"message\":\"a\\u001b[31m\\n\\u00e9\"}", "a [31m \u00e9");
    assert_answer("{\"old\":\"" OLD "\",\"message\":\"a\\u0000b\"}", "");
    assert_answer("{\"old\":\"" NEW "\"}", NULL);
    assert_answer("{\"old\":\"" OLD "a\"}", NULL);
    assert_answer("{\"old\":\"\"}", NULL);
    assert_answer("{\"old\":{\"old\":\"" OLD "\"}}", NULL);
    assert_answer("{\"new\":\"" OLD "\"}", NULL);
    assert_answer("[\"" OLD "\"]", NULL);
    assert_answer("{\"old\":\"" OLD "\"", NULL);
    assert_answer("{\"old\":\"" OLD "\"}}", NULL);
    assert_answer("\xff\xfe", NULL);
    assert_answer("", NULL);
}

static void test_long_reason(void) {
    char payload[2000], reason[RETIREMENT_REASON_SIZE];
    memset(payload, 'x', sizeof payload);
    int length = snprintf(payload, sizeof payload, "{\"old\":\"" OLD "\",\"message\":\"");
    payload[length] = 'x';
    memcpy(payload + sizeof payload - 2, "\"}", 2);
    CU_ASSERT_TRUE(retirement_is_about(payload, sizeof payload, OLD, reason));
    ASSERT_NUMBER((long long)strspn(reason, "x"), RETIREMENT_REASON_SIZE - 1);
}

/* The ids of a list with blanks between; bad: it ends with something that is none. */
static void assert_list(const char *list, int count, bool bad) {
    char id[CERTIFICATE_ID_SIZE];
    int r, found = 0;
    while ((r = retirement_next(&list, id)) > 0) {
        CU_ASSERT_TRUE(certificate_is_id(id));
        found++;
    }
    ASSERT_NUMBER(found, count);
    ASSERT_NUMBER(r, bad ? -1 : 0);
}

static void test_list(void) {
    assert_list("", 0, false);
    assert_list("   ", 0, false);
    assert_list(OLD, 1, false);
    assert_list("  " OLD "  " NEW " ", 2, false);
    assert_list(OLD "a", 0, true);
    assert_list(OLD " x", 1, true);
    assert_list(OLD "\n" NEW, 0, true);
    assert_list("A" NEW, 0, true);
    assert_list("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0, true);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"message", test_message},
        {"answers", test_answers},
        {"long-reason", test_long_reason},
        {"list", test_list},
        {NULL, NULL},
    };
    return unit_run("retirement", tests, argc, argv);
}
