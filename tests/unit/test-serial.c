#include "worker/serial.h"

#include "common/cleanup.h"
#include "common/specifier.h"
#include "harness.h"

#include <fcntl.h>
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

static int resolve(const char *source, char replacement, char ret[SERIAL_MAX], struct failure *failure) {
    struct settings settings = {
        .serial_number = source, .serial_replacement = replacement, .tcti = "device:/nonexistent/tpmrm0"};
    struct tpm_endorsement endorsement = {0};
    return serial_resolve(&settings, &endorsement, ret, failure);
}

static void resolve_file(const char *text, const char *expected) {
    char path[] = "/tmp/enrolld-test-XXXXXX", source[64], serial[SERIAL_MAX] = "untouched";
    struct failure failure = {0};
    AUTO_CLOSE int fd = mkstemp(path);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    snprintf(source, sizeof source, "file:%s", path);
    int r = resolve(source, 0, serial, &failure);
    ASSERT_NUMBER(r, expected != NULL ? 0 : -1);
    ASSERT_TEXT(serial, expected != NULL ? expected : "untouched");
    unlink(path);
}

static void test_sources(void) {
    char serial[SERIAL_MAX] = "untouched";
    struct failure failure = {0};
    ASSERT_NUMBER(resolve("literal:GW-1", 0, serial, &failure), 0);
    ASSERT_TEXT(serial, "GW-1");
    resolve_file("SN-77\n", "SN-77");
    resolve_file("  SN-77 \r\n", "SN-77");
    resolve_file("", NULL);
    resolve_file("Default string\n", NULL);
    ASSERT_NUMBER(resolve("literal:", 0, serial, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "it is empty"));
    ASSERT_NUMBER(resolve("file:/nonexistent/serial", 0, serial, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "/nonexistent/serial: No such file"));
    ASSERT_NUMBER(resolve("mac", 0, serial, &failure), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(failure.message, "SerialNumber=mac is not auto"));
    ASSERT_NUMBER(failure.class, FAILURE_INVALID);
    ASSERT_TEXT(serial, "GW-1");
}

/* Which of the two files the kernel has is the test's choice. */
static const char *present = "";

int access(const char *path, int mode) {
    (void)mode;
    return strcmp(path, present) == 0 ? 0 : -1;
}

/* On a machine that has the file in truth, it would be read. */
static void expect_automatic(const char *path, const char *class, const char *words) {
    char serial[SERIAL_MAX];
    struct failure failure = {0};
    if (*path != '\0' && faccessat(AT_FDCWD, path, F_OK, 0) == 0)
        return;
    present = path;
    ASSERT_NUMBER(resolve("auto", 0, serial, &failure), -1);
    ASSERT_TEXT(failure_class_name(failure.class), class);
    if (strstr(failure.message, words) == NULL)
        ASSERT_TEXT(failure.message, words);
    present = "";
}

static void test_automatic(void) {
    expect_automatic("/sys/firmware/devicetree/base/serial-number", "invalid",
                     "from /sys/firmware/devicetree/base/serial-number: No such file");
    expect_automatic("/sys/class/dmi/id/product_serial", "invalid",
                     "from /sys/class/dmi/id/product_serial: No such file");
    expect_automatic("", "tpm", "no TPM at device:/nonexistent/tpmrm0");
    expect_automatic("", "tpm", "SerialNumber= in [Agent] names another source");
}

static void replaced(const char *text, char replacement, const char *expected) {
    char source[128], serial[SERIAL_MAX] = "untouched";
    struct failure failure = {0};
    snprintf(source, sizeof source, "literal:%s", text);
    ASSERT_NUMBER(resolve(source, replacement, serial, &failure), expected != NULL ? 0 : -1);
    ASSERT_TEXT(serial, expected != NULL ? expected : "untouched");
    if (expected == NULL && strstr(failure.message, text) == NULL) /* as it was found */
        ASSERT_TEXT(failure.message, text);
}

static void test_replacement(void) {
    replaced("AB/12 3", '-', "AB-12-3");
    replaced("AB/12 3", '\0', NULL);
    replaced("GW-0001", '_', "GW-0001");
    replaced("a.b", 'x', "axb");
    replaced("caf\xc3\xa9 1", '_', "caf__1"); /* one for a character of two bytes */
    replaced("\xe9\xe9 1", '_', "___1");      /* not UTF-8: one for each byte */
    replaced("", '-', NULL);
    replaced("...", '-', NULL);
    replaced("-", '-', "-");
    replaced("To be filled by O.E.M.", '-', NULL);
    replaced("N/A", '-', NULL);
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
        {"judge", test_judge},           {"sources", test_sources},
        {"automatic", test_automatic},   {"replacement", test_replacement},
        {"specifiers", test_specifiers}, {NULL, NULL},
    };
    return unit_run("serial", tests, argc, argv);
}
