#include "daemon/methods.h"

#include "harness.h"

#include <string.h>

#define SECOND 1000000ULL

static struct settings settings_with(enum setting_on_denied on_denied) {
    struct settings settings = {.method_count = 2, .on_denied = on_denied};
    strcpy(settings.methods[0], "jitp");
    strcpy(settings.methods[1], "fleet-claim");
    return settings;
}

static struct methods begin(void) {
    struct methods methods = {0};
    struct settings settings = settings_with(SETTING_DENIED_WAIT);
    methods_set(&methods, &settings);
    methods_begin(&methods);
    return methods;
}

static struct failure make_failure(enum failure_class class, bool unusable, const char *text) {
    struct failure failure;
    failure_record(&failure, class, "step", "%s", text);
    failure.unusable = unusable;
    return failure;
}

static void test_falls_through_when_unusable(void) {
    struct methods methods = begin();
    struct failure failure = make_failure(FAILURE_INVALID, true, "nothing was imported");
    ASSERT_TEXT(methods_name(&methods), "jitp");
    ASSERT_TEXT(method_outcome_name(&methods.states[0]), "trying");
    ASSERT_TEXT(method_outcome_name(&methods.states[1]), "");
    ASSERT_NUMBER(methods_fail(&methods, SETTING_DENIED_WAIT, &failure, SECOND), true);
    ASSERT_TEXT(methods_name(&methods), "fleet-claim");
    ASSERT_TEXT(method_outcome_name(&methods.states[0]), "unusable");
    ASSERT_TEXT(methods.states[0].message, "nothing was imported");
    ASSERT_TEXT(method_outcome_name(&methods.states[1]), "trying");
    methods_done(&methods, "fleet-claim");
    ASSERT_TEXT(method_outcome_name(&methods.states[1]), "done");
    methods_begin(&methods);
    ASSERT_TEXT(methods_name(&methods), "jitp");
}

/* A refusal leads on only where that is asked for; anything that may pass never does. */
static void test_falls_through_when_denied(void) {
    static const struct {
        enum failure_class class;
        enum setting_on_denied on_denied;
        bool next;
    } cases[] = {
        {FAILURE_DENIED, SETTING_DENIED_WAIT, false},  {FAILURE_DENIED, SETTING_DENIED_NEXT, true},
        {FAILURE_NOT_YET, SETTING_DENIED_NEXT, false}, {FAILURE_NETWORK, SETTING_DENIED_NEXT, false},
        {FAILURE_INVALID, SETTING_DENIED_NEXT, false}, {FAILURE_TPM, SETTING_DENIED_NEXT, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct methods methods = begin();
        struct failure failure = make_failure(cases[i].class, false, "no");
        ASSERT_NUMBER(methods_fail(&methods, cases[i].on_denied, &failure, SECOND), cases[i].next);
        ASSERT_TEXT(method_outcome_name(&methods.states[0]), failure_class_name(cases[i].class));
        ASSERT_NUMBER(failure.class, cases[i].class);
    }
}

/* What is told of the attempt: the failure of the method that was tried, not of the input that another one lacks. */
static void test_what_is_told(void) {
    struct methods methods = begin();
    struct failure denied = make_failure(FAILURE_DENIED, false, "refused");
    struct failure unusable = make_failure(FAILURE_INVALID, true, "no claim");
    ASSERT_NUMBER(methods_fail(&methods, SETTING_DENIED_NEXT, &denied, SECOND), true);
    ASSERT_NUMBER(methods_fail(&methods, SETTING_DENIED_NEXT, &unusable, SECOND), false);
    ASSERT_NUMBER(unusable.class, FAILURE_DENIED);
    ASSERT_TEXT(unusable.message, "refused");
    methods_begin(&methods);
    struct failure first = make_failure(FAILURE_INVALID, true, "nothing was imported");
    unusable = make_failure(FAILURE_INVALID, true, "no claim");
    ASSERT_NUMBER(methods_fail(&methods, SETTING_DENIED_NEXT, &first, SECOND), true);
    ASSERT_NUMBER(methods_fail(&methods, SETTING_DENIED_NEXT, &unusable, SECOND), false);
    ASSERT_NUMBER(unusable.class, FAILURE_INVALID);
    ASSERT_TEXT(unusable.message, "none of the methods can be used: jitp: nothing was imported; fleet-claim: no claim");
}

static void test_waited(void) {
    struct methods methods = begin();
    struct failure failure = make_failure(FAILURE_NOT_YET, false, "wait");
    ASSERT_NUMBER(methods_waited_s(&methods, 5 * SECOND), 0);
    methods_fail(&methods, SETTING_DENIED_WAIT, &failure, 5 * SECOND);
    ASSERT_NUMBER(methods_waited_s(&methods, 6 * SECOND - 1), 1);
    ASSERT_NUMBER(methods_waited_s(&methods, 4 * SECOND), 1);
    methods_fail(&methods, SETTING_DENIED_WAIT, &failure, 9 * SECOND);
    ASSERT_NUMBER(methods_waited_s(&methods, 65 * SECOND), 60);
    /* The time without a network is nobody's refusal. */
    struct failure offline = make_failure(FAILURE_NETWORK, false, "no route");
    methods_fail(&methods, SETTING_DENIED_WAIT, &offline, 15 * SECOND);
    ASSERT_NUMBER(methods_waited_s(&methods, 1000 * SECOND), 4);
    methods_fail(&methods, SETTING_DENIED_WAIT, &failure, 2000 * SECOND);
    ASSERT_NUMBER(methods_waited_s(&methods, 2001 * SECOND), 5);
    ASSERT_TEXT(methods.states[0].message, "wait");
    methods_forget(&methods);
    ASSERT_NUMBER(methods_waited_s(&methods, 65 * SECOND), 0);
    ASSERT_TEXT(methods.states[0].message, "");
    ASSERT_TEXT(method_outcome_name(&methods.states[0]), "");
}

/* A configuration that is read again changes nothing for the methods that stay. */
static void test_set_again(void) {
    struct methods methods = begin();
    struct settings settings = {.method_count = 2};
    struct failure failure = make_failure(FAILURE_NOT_YET, false, "wait");
    methods_fail(&methods, SETTING_DENIED_WAIT, &failure, SECOND);
    strcpy(settings.methods[0], "mar");
    strcpy(settings.methods[1], "jitp");
    methods_set(&methods, &settings);
    ASSERT_NUMBER(methods.count, 2);
    ASSERT_TEXT(method_outcome_name(&methods.states[0]), "");
    ASSERT_TEXT(method_outcome_name(&methods.states[1]), "not-yet");
    ASSERT_TEXT(methods.states[1].message, "wait");
    ASSERT_NUMBER(methods.waits[1].told, true);
    ASSERT_TEXT(methods_name(&methods), "mar");
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"inputs that cannot be used lead to the next method", test_falls_through_when_unusable},
        {"a refusal leads there with OnDenied=next", test_falls_through_when_denied},
        {"what is told of all of them", test_what_is_told},
        {"how long it was not yet", test_waited},
        {"another configuration", test_set_again},
        {NULL, NULL},
    };
    return unit_run("methods", tests, argc, argv);
}
