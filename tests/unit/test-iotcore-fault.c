#include "fault.h"
#include "harness.h"
#include "json_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct fault_list list;

static int add(const char *text) {
    AUTO_JSON struct json_object *fault = json_parse(text, strlen(text));
    CU_ASSERT_PTR_NOT_NULL_FATAL(fault);
    return fault_add(&list, fault);
}

static enum fault_action take(const struct fault_target *target) {
    struct fault fault = fault_take(&list, target);
    enum fault_action action = fault.action;
    fault_clear(&fault);
    return action;
}

/* What a request of a claim is when it is carried out. */
static const struct fault_target at_work = {
    .stage = FAULT_AT_WORK, .operations = {[FAULT_REGISTER_THING] = true}, .topic = "a/provision/json"};

/* The same when its PUBLISH arrives. */
static const struct fault_target at_door = {.stage = FAULT_AT_DOOR,
                                            .operations = {[FAULT_REGISTER_THING] = true, [FAULT_PUBLISH] = true},
                                            .topic = "a/provision/json"};

static const struct fault_target device_connect = {
    .stage = FAULT_AT_DOOR, .operations = {[FAULT_CONNECT] = true}, .device = true};

static void test_times(void) {
    ASSERT_NUMBER(take(&at_work), FAULT_NONE);
    ASSERT_NUMBER(add("{\"operation\":\"register-thing\",\"action\":\"drop\"}"), 0);
    ASSERT_NUMBER(take(&at_work), FAULT_DROP);
    ASSERT_NUMBER(take(&at_work), FAULT_NONE);
    ASSERT_NUMBER(add("{\"operation\":\"register-thing\",\"action\":\"silence\",\"times\":2}"), 0);
    ASSERT_NUMBER(take(&at_work), FAULT_SILENCE);
    ASSERT_NUMBER(take(&at_work), FAULT_SILENCE);
    ASSERT_NUMBER(take(&at_work), FAULT_NONE);
    ASSERT_NUMBER(add("{\"operation\":\"register-thing\",\"action\":\"cut\",\"times\":0}"), 0);
    for (unsigned i = 0; i < 10; i++)
        ASSERT_NUMBER(take(&at_work), FAULT_CUT);
    fault_list_clear(&list);
    ASSERT_NUMBER(take(&at_work), FAULT_NONE);
}

/* The first fault counts, at the stage that is its own. */
static void test_order(void) {
    ASSERT_NUMBER(add("{\"operation\":\"register-thing\",\"action\":\"drop\"}"), 0);
    ASSERT_NUMBER(add("{\"operation\":\"publish\",\"action\":\"refuse\"}"), 0);
    ASSERT_NUMBER(add("{\"operation\":\"register-thing\",\"action\":\"hangup\"}"), 0);
    ASSERT_NUMBER(take(&at_door), FAULT_NONE);
    ASSERT_NUMBER(take(&at_work), FAULT_DROP);
    ASSERT_NUMBER(take(&at_door), FAULT_REFUSE);
    ASSERT_NUMBER(take(&at_door), FAULT_HANGUP);
    ASSERT_NUMBER(take(&at_door), FAULT_NONE);
    ASSERT_NUMBER(take(&at_work), FAULT_NONE);
}

static void test_who(void) {
    struct fault_target claim_connect = device_connect;
    claim_connect.device = false;
    ASSERT_NUMBER(add("{\"operation\":\"connect\",\"action\":\"refuse\",\"who\":\"device\",\"times\":0}"), 0);
    ASSERT_NUMBER(take(&claim_connect), FAULT_NONE);
    ASSERT_NUMBER(take(&device_connect), FAULT_REFUSE);
    fault_list_clear(&list);
    ASSERT_NUMBER(add("{\"operation\":\"connect\",\"action\":\"hangup\",\"who\":\"claim\"}"), 0);
    ASSERT_NUMBER(take(&device_connect), FAULT_NONE);
    ASSERT_NUMBER(take(&claim_connect), FAULT_HANGUP);
}

static void test_topic(void) {
    struct fault_target elsewhere = at_door;
    elsewhere.topic = "things/a";
    ASSERT_NUMBER(add("{\"operation\":\"publish\",\"action\":\"refuse\",\"topic\":\"*/provision/*\"}"), 0);
    ASSERT_NUMBER(take(&elsewhere), FAULT_NONE);
    ASSERT_NUMBER(take(&at_door), FAULT_REFUSE);
}

static void test_description(void) {
    ASSERT_NUMBER(add("{\"operation\":\"register-thing\",\"action\":\"reject\",\"statusCode\":429,"
                      "\"errorCode\":\"Throttled\"}"),
                  0);
    ASSERT_NUMBER(add("{\"operation\":\"register-thing\",\"action\":\"replace\",\"payload\":\"{\"}"), 0);
    struct fault fault = fault_take(&list, &at_work);
    ASSERT_NUMBER(fault.status_code, 429);
    ASSERT_TEXT(fault.error_code, "Throttled");
    ASSERT_TEXT(fault.operation_name, "register-thing");
    ASSERT_TEXT(fault.action_name, "reject");
    fault_clear(&fault);
    fault = fault_take(&list, &at_work);
    ASSERT_TEXT(fault.payload, "{");
    fault_clear(&fault);
}

static void test_no_fault(void) {
    static const char *const wrong[] = {
        "{}",
        "[]",
        "{\"operation\":\"register-thing\"}",
        "{\"operation\":\"register-thing\",\"action\":\"\"}",
        "{\"operation\":\"sleep\",\"action\":\"refuse\"}",
        "{\"operation\":\"connect\",\"action\":\"drop\"}",
        "{\"operation\":\"subscribe\",\"action\":\"silence\"}",
        "{\"operation\":\"publish\",\"action\":\"reject\"}",
        "{\"operation\":\"connect\",\"action\":\"refuse\",\"topic\":\"*\"}",
        "{\"operation\":\"publish\",\"action\":\"refuse\",\"who\":\"me\"}",
        "{\"operation\":\"publish\",\"action\":\"refuse\",\"times\":-1}",
        "{\"operation\":\"publish\",\"action\":\"refuse\",\"time\":1}",
        "{\"operation\":\"create\",\"action\":\"delay\"}",
        "{\"operation\":\"create\",\"action\":\"replace\"}",
        "{\"operation\":\"create\",\"action\":\"amend\",\"payload\":\"[]\"}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (add(wrong[i]) != -EINVAL)
            ASSERT_TEXT("added", wrong[i]);
    ASSERT_NUMBER(take(&at_work), FAULT_NONE);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"as often as it says", test_times},
        {"the first one counts, at its stage", test_order},
        {"claims and devices", test_who},
        {"topics", test_topic},
        {"what a fault brings along", test_description},
        {"what is no fault is refused", test_no_fault},
        {NULL, NULL},
    };
    int result = unit_run("fault", tests, argc, argv);
    fault_list_clear(&list);
    return result;
}
