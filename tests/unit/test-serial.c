#include "worker/serial.h"

#include "common/cleanup.h"
#include "common/specifier.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

static void test_judge(void) {
    static const char *const good[] = {"GW-0001", "a", "0", "AA:BB:CC:00:11:22", "x_y", "1001"};
    static const struct {
        const char *serial, *reason;
    } bad[] = {
        {"", "it is empty"},
        {"To be filled by O.E.M.", "it is a placeholder that the maker of the board never replaced"},
        {"TO BE FILLED BY O.E.M.", "it is a placeholder that the maker of the board never replaced"},
        {"Default string", "it is a placeholder that the maker of the board never replaced"},
        {"None", "it is a placeholder that the maker of the board never replaced"},
        {"123456789", "it is a placeholder that the maker of the board never replaced"},
        {"0000000000", "it is one character repeated, a placeholder"},
        {"XX", "it is one character repeated, a placeholder"},
        {"a b", "it has characters that AWS IoT does not allow in a thing name (allowed: a-z A-Z 0-9 : _ -)"},
        {"a.b", "it has characters that AWS IoT does not allow in a thing name (allowed: a-z A-Z 0-9 : _ -)"},
        {"a/b", "it has characters that AWS IoT does not allow in a thing name (allowed: a-z A-Z 0-9 : _ -)"},
        {"a+", "it has characters that AWS IoT does not allow in a thing name (allowed: a-z A-Z 0-9 : _ -)"},
        {"caf\xc3\xa9", "it has characters that AWS IoT does not allow in a thing name (allowed: a-z A-Z 0-9 : _ -)"},
    };
    char longest[SERIAL_MAX + 1];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ASSERT_TEXT(serial_judge(good[i]), NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ASSERT_TEXT(serial_judge(bad[i].serial), bad[i].reason);
    for (size_t i = 0; i < sizeof longest; i++)
        longest[i] = (char)('a' + i % 26);
    longest[63] = '\0';
    ASSERT_TEXT(serial_judge(longest), NULL);
    longest[63] = 'a';
    longest[64] = '\0';
    ASSERT_TEXT(serial_judge(longest), "it is longer than the 63 characters that fit into a certificate's common name");
}

static void resolve_file(const char *text, const char *expected) {
    char path[] = "/tmp/enrolld-test-XXXXXX", source[64], serial[SERIAL_MAX] = "untouched";
    struct failure failure = {0};
    AUTO_CLOSE int fd = mkstemp(path);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    snprintf(source, sizeof source, "file:%s", path);
    int r = serial_resolve(source, serial, &failure);
    ASSERT_NUMBER(r, expected != NULL ? 0 : -1);
    ASSERT_TEXT(serial, expected != NULL ? expected : "untouched");
    unlink(path);
}

static void test_sources(void) {
    char serial[SERIAL_MAX] = "untouched";
    struct failure failure = {0};
    ASSERT_NUMBER(serial_resolve("literal:GW-1", serial, &failure), 0);
    ASSERT_TEXT(serial, "GW-1");
    resolve_file("SN-77\n", "SN-77");
    resolve_file("  SN-77 \r\n", "SN-77");
    resolve_file("", NULL);
    resolve_file("Default string\n", NULL);
    ASSERT_NUMBER(serial_resolve("literal:", serial, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "it is empty"));
    ASSERT_NUMBER(serial_resolve("file:/nonexistent/serial", serial, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "/nonexistent/serial: No such file"));
    ASSERT_NUMBER(serial_resolve("mac", serial, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "SerialNumber=mac is not auto"));
    ASSERT_NUMBER(failure.class, FAILURE_INVALID);
    ASSERT_TEXT(serial, "GW-1");
}

static void expand(const char *text, const char *expected) {
    const struct specifier_values values = {.serial_number = "SN", .thing_name = NULL};
    struct failure failure = {0};
    AUTO_FREE char *expanded = NULL;
    ASSERT_NUMBER(specifier_expand(text, &values, "Key", &expanded, &failure), expected != NULL ? 0 : -1);
    ASSERT_TEXT(expanded, expected);
    if (expected == NULL)
        CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "Key=: %"));
}

static void test_specifiers(void) {
    const struct specifier_values values = {.serial_number = "SN", .thing_name = "gw"};
    struct failure failure = {0};
    AUTO_FREE char *expanded = NULL;
    expand("", "");
    expand("plain", "plain");
    expand("%s-x-%s", "SN-x-SN");
    expand("100%%", "100%");
    expand("%t", NULL); /* unknown before RegisterThing */
    expand("%q", NULL);
    expand("x%", NULL);
    ASSERT_NUMBER(specifier_expand("%t-enrolld", &values, "Key", &expanded, &failure), 0);
    ASSERT_TEXT(expanded, "gw-enrolld");
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"judge", test_judge},
        {"sources", test_sources},
        {"specifiers", test_specifiers},
        {NULL, NULL},
    };
    return unit_run("serial", tests, argc, argv);
}
