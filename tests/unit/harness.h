/* Runs one CUnit suite and reports in TAP, so that `make check` counts each test. */
#pragma once

#include <CUnit/CUnit.h>

struct unit_test {
    const char *name;
    CU_TestFunc function;
};

/* Runs the tests in order (ends at the entry with a NULL name); returns the exit code for main(). With a name as
 * argument only that test runs. */
int unit_run(const char *suite, const struct unit_test *tests, int argc, char **argv);

/* Says what was seen when a text differs, which CU_ASSERT_STRING_EQUAL does not. */
#define ASSERT_TEXT(actual, expected) unit_assert_text((actual), (expected), #actual, __FILE__, __LINE__)
void unit_assert_text(const char *actual, const char *expected, const char *what, const char *file, unsigned line);

/* The same for integers. */
#define ASSERT_NUMBER(actual, expected) unit_assert_number((actual), (expected), #actual, __FILE__, __LINE__)
void unit_assert_number(long long actual, long long expected, const char *what, const char *file, unsigned line);
