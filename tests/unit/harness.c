#include "harness.h"

#include <CUnit/TestRun.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_failures(const CU_pFailureRecord first) {
    for (CU_pFailureRecord record = first; record != NULL; record = record->pNext)
        printf("#   %s:%u: %s\n", record->strFileName, record->uiLineNumber, record->strCondition);
}

static void on_test_complete(const CU_pTest test, const CU_pSuite suite, const CU_pFailureRecord failure) {
    static unsigned number;
    (void)suite;
    printf("%s %u - %s\n", failure == NULL ? "ok" : "not ok", ++number, test->pName);
    print_failures(failure);
    fflush(stdout);
}

int unit_run(const char *suite_name, const struct unit_test *tests, int argc, char **argv) {
    unsigned count = 0;
    if (CU_initialize_registry() != CUE_SUCCESS)
        return EXIT_FAILURE;
    CU_pSuite suite = CU_add_suite(suite_name, NULL, NULL);
    for (; tests->name != NULL; tests++)
        if ((argc < 2 || strcmp(argv[1], tests->name) == 0) && CU_add_test(suite, tests->name, tests->function) != NULL)
            count++;
    printf("1..%u\n", count);
    CU_set_test_complete_handler(on_test_complete);
    CU_run_all_tests();
    unsigned failed = CU_get_number_of_tests_failed();
    CU_cleanup_registry();
    return failed == 0 && count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

void unit_assert_text(const char *actual, const char *expected, const char *what, const char *file, unsigned line) {
    static char text[4096];
    CU_BOOL same = actual != NULL && expected != NULL ? strcmp(actual, expected) == 0 : actual == expected;
    snprintf(text, sizeof text, "%s is \"%s\", expected \"%s\"", what, actual != NULL ? actual : "(null)",
             expected != NULL ? expected : "(null)");
    CU_assertImplementation(same, line, text, file, "", CU_FALSE);
}

void unit_assert_number(long long actual, long long expected, const char *what, const char *file, unsigned line) {
    static char text[512];
    snprintf(text, sizeof text, "%s is %lld, expected %lld", what, actual, expected);
    CU_assertImplementation(actual == expected, line, text, file, "", CU_FALSE);
}
