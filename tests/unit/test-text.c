#include "common/failure.h"
#include "common/text.h"
#include "harness.h"

#include <errno.h>
#include <string.h>

static void test_utf8(void) {
    static const char *const good[] = {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xe0\x80\xaf",
                                      "\xed\xa0\x80",
                                      "\xe2\x82",
                                      "\xf0\x80\x80\xaf",
                                      "\xf4\x90\x80\x80",
                                      "\xff",
                                      "a\xc3(",
                                      "\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CU_ASSERT_TRUE(text_is_utf8(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CU_ASSERT_FALSE(text_is_utf8(bad[i], strlen(bad[i])));
    CU_ASSERT_FALSE(text_is_utf8("a\0b", 3));
}

static void test_printable(void) {
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"plain text", "plain text"},
        {"a\nb\tc\x1b[31m", "a b c [31m"},
        {"\x7f", " "},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"\xff\xfe", "??"},
        {"\xe2\x82", "??"},
        {"\xc2\x9b"
         "31m",
         "  31m"}, /* a C1 control sequence introducer */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        strcpy(text, cases[i].text);
        text_make_printable(text);
        ASSERT_TEXT(text, cases[i].expected);
        CU_ASSERT_TRUE(text_is_utf8(text, strlen(text)));
    }
}

static void test_numbers(void) {
    static const char *const bad[] = {"", " 1", "1 ", "-1", "+1", "0x1", "1e3"};
    uint64_t value = 7;
    CU_ASSERT_EQUAL(text_to_u64("0", &value), 0);
    ASSERT_NUMBER(value, 0);
    CU_ASSERT_EQUAL(text_to_u64("18446744073709551615", &value), 0);
    CU_ASSERT_TRUE(value == UINT64_MAX);
    value = 7;
    ASSERT_NUMBER(text_to_u64("18446744073709551616", &value), -ERANGE);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ASSERT_NUMBER(text_to_u64(bad[i], &value), -EINVAL);
    ASSERT_NUMBER(text_to_u64(NULL, &value), -EINVAL);
    ASSERT_NUMBER(value, 7);
}

static void test_hex(void) {
    char hex[7];
    text_to_hex((const uint8_t[]){0x00, 0xab, 0xff}, 3, hex);
    ASSERT_TEXT(hex, "00abff");
}

/* A peer that speaks too long, or in escape sequences, does no harm to logs and bus. */
static void test_failure(void) {
    struct failure failure;
    char huge[4096];
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    ASSERT_NUMBER(failure_set(&failure, FAILURE_DENIED, "register", "said \"%s\"", "a\x1b[2J\xff"), -1);
    ASSERT_TEXT(failure.message, "said \"a [2J?\"");
    ASSERT_TEXT(failure.step, "register");
    (void)failure_set(&failure, FAILURE_DENIED, "register", "%s", huge);
    ASSERT_NUMBER((long long)strlen(failure.message), FAILURE_MESSAGE_MAX - 1);
}

static void test_failure_names(void) {
    for (int class = 0; class < FAILURE_CLASS_COUNT; class ++)
        ASSERT_NUMBER(failure_class_from_name(failure_class_name((enum failure_class) class)), class);
    ASSERT_NUMBER(failure_class_from_name("nonsense"), -EINVAL);
}

static void test_spans(void) {
    static const struct {
        const char *text;
        long long ms;
    } good[] = {{"1ms", 1}, {"90s", 90000}, {"15min", 900000}, {"1h", 3600000}, {"365d", 31536000000}, {"0s", 0}};
    static const char *const bad[] = {
        "", "5", "s", "5 s", "-5s", "5sec", "1min30s", "99999999999999999999s", "366d", "18446744073709551615d"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t ms = 7;
        ASSERT_NUMBER(text_to_span(good[i].text, &ms), 0);
        ASSERT_NUMBER((long long)ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t ms = 7;
        CU_ASSERT_TRUE(text_to_span(bad[i], &ms) < 0);
        ASSERT_NUMBER((long long)ms, 7);
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"utf8", test_utf8},       {"printable", test_printable},         {"numbers", test_numbers}, {"hex", test_hex},
        {"failure", test_failure}, {"failure-names", test_failure_names}, {"spans", test_spans},     {NULL, NULL},
    };
    return unit_run("text", tests, argc, argv);
}
