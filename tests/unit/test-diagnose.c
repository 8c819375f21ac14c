#include "agent-world.h"

#include "common/diagnosis.h"
#include "fake-worker.h"
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char with_credentials[] = "[Agent]\nMethods=jitp fleet-claim\n[Cloud]\nEndpoint=example.com\n"
                                       "RootCA=/ca.pem\n[fleet-claim]\nPrivateKey=credential:claim-key\n";

/* "VERDICT TEXT" of the row, "" if there is none. */
static const char *row(const char *what) {
    static char text[DIAGNOSIS_TEXT_MAX + 16];
    struct diagnosis_row found;
    size_t size = 0, at = 0;
    const char *rows = agent_diagnosis(world.agent, &size);
    text[0] = '\0';
    while (rows != NULL && diagnosis_next(rows, size, &at, &found) > 0)
        if (strcmp(found.what, what) == 0)
            snprintf(text, sizeof text, "%s %s", found.verdict, found.text);
    return text;
}

static void expect_row(const char *what, const char *text) {
    if (strstr(row(what), text) == NULL)
        ASSERT_TEXT(row(what), text);
}

static bool is_over(const struct status *status) {
    size_t size = 0;
    (void)status;
    return agent_diagnosis(world.agent, &size) != NULL;
}

static void diagnose(const char *workers) {
    struct failure failure = {0};
    uint32_t id = 0;
    start(workers);
    ASSERT_NUMBER(agent_diagnose(world.agent, &id, &failure), ANSWER_YES);
    ASSERT_NUMBER(agent_diagnose(world.agent, &id, &failure), ANSWER_BUSY);
    CU_ASSERT(wait_for(is_over));
}

static void test_rows(void) {
    set_up(slow_configuration);
    diagnose("enroll=hold diagnose=done");
    expect_row("dns", "ok it answers");
    expect_row("store", "the state directory is");
    expect_row("identity", "none yet: enrolling");
    ASSERT_TEXT(row("worker"), "");
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_ENROLLING);
    tear_down();
}

/* The other worker, which has the credentials, is asked, too. */
static void test_both_workers(void) {
    set_up(with_credentials);
    diagnose("enroll=hold diagnose=done");
    const char *first = strstr(read_file("record"), "diagnose\n");
    CU_ASSERT_FATAL(first != NULL);
    if (strstr(first + 1, "diagnose\n") == NULL)
        ASSERT_TEXT(first, "two of them");
    tear_down();
}

static void test_worker_fails(void) {
    set_up(slow_configuration);
    diagnose("enroll=hold diagnose=failed");
    expect_row("worker", "wrong the fake worker was told to fail");
    expect_row("store", "the state directory is");
    tear_down();
    set_up(slow_configuration);
    diagnose("enroll=hold diagnose=missing");
    expect_row("worker", "wrong the worker broke the protocol");
    tear_down();
}

/* What comes before the bad one counts, and what follows does not. */
static void test_worker_lies(void) {
    set_up(slow_configuration);
    diagnose("enroll=hold diagnose=bad-rows");
    expect_row("dns", "ok it answers");
    ASSERT_TEXT(row("tcp"), "");
    expect_row("worker", "wrong the worker's rows cannot be read");
    tear_down();
}

static void test_no_sockets(void) {
    set_up(with_credentials);
    world.by_sockets = true;
    diagnose("");
    world.by_sockets = false;
    expect_row("worker", "enrolld-worker.socket");
    expect_row("credentials", "enrolld-claim.socket");
    tear_down();
}

static void test_cancel(void) {
    struct failure failure = {0};
    uint32_t id = 0;
    set_up(slow_configuration);
    start("enroll=hold diagnose=hold");
    ASSERT_NUMBER(agent_diagnose(world.agent, &id, &failure), ANSWER_YES);
    ASSERT_NUMBER(agent_cancel(world.agent, id + 1), ANSWER_NO_SUCH_JOB);
    ASSERT_NUMBER(agent_cancel(world.agent, id), ANSWER_YES);
    ASSERT_NUMBER(agent_cancel(world.agent, id), ANSWER_NO_SUCH_JOB);
    ASSERT_NUMBER(agent_status(world.agent)->state, STATE_ENROLLING);
    ASSERT_NUMBER(agent_diagnose(world.agent, &id, &failure), ANSWER_YES);
    tear_down(); /* in the middle */
}

static void test_parser(void) {
    static const struct {
        const char *data;
        size_t size;
        int rows, end;
    } cases[] = {
        {"", 0, 0, 0},
        {"a\0ok\0t\0", 8, 1, 0},
        {"a\0ok\0t\0\0b\0wrong\0u\0v", 20, 2, 0},
        {"a\0ok\0t\0", 7, 0, -EBADMSG},        /* cut off */
        {"\0ok\0t\0", 7, 0, -EBADMSG},         /* nameless */
        {"a\0good\0t\0", 10, 0, -EBADMSG},     /* no verdict */
        {"a\0ok\0\033[1m\0", 11, 0, -EBADMSG}, /* a control character */
        {"a\0ok\0\xff\0", 8, 0, -EBADMSG},     /* not UTF-8 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct diagnosis_row found;
        size_t at = 0;
        int r, count = 0;
        while ((r = diagnosis_next(cases[i].data, cases[i].size, &at, &found)) > 0)
            count++;
        ASSERT_NUMBER(count, cases[i].rows);
        ASSERT_NUMBER(r, cases[i].end);
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"the rows of worker and daemon", test_rows},
        {"both workers are asked", test_both_workers},
        {"a worker that fails costs its rows", test_worker_fails},
        {"a worker that lies", test_worker_lies},
        {"no sockets", test_no_sockets},
        {"Cancel, and the end of the daemon", test_cancel},
        {"rows are judged", test_parser},
        {NULL, NULL},
    };
    return fake_worker_unit_run("diagnose", tests, argc, argv);
}
