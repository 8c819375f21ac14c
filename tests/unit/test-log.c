/* The log, and org.freedesktop.LogControl1 as a client sees it, over a pair of sockets. */
#include "daemon/log-control.h"
#include "daemon/log.h"
#include "harness.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS_MAX 1000

static struct {
    sd_bus *server, *client;
    bool may; /* whether the caller may change something */
    bool answered;
    char value[64], error[128];
} scene;

static int judge(sd_bus_message *message, sd_bus_error *error) {
    (void)message;
    return scene.may ? 0 : sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED, "no");
}

static void open_scene(void) {
    int pair[2];
    sd_id128_t id;
    scene.may = true;
    ASSERT_NUMBER(sd_id128_randomize(&id), 0);
    ASSERT_NUMBER(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    CU_ASSERT_FATAL(sd_bus_new(&scene.server) >= 0 && sd_bus_new(&scene.client) >= 0);
    CU_ASSERT_FATAL(sd_bus_set_fd(scene.server, pair[0], pair[0]) >= 0);
    CU_ASSERT_FATAL(sd_bus_set_fd(scene.client, pair[1], pair[1]) >= 0);
    CU_ASSERT_FATAL(sd_bus_set_server(scene.server, 1, id) >= 0);
    CU_ASSERT_FATAL(log_control_open(scene.server, judge) >= 0);
    CU_ASSERT_FATAL(sd_bus_start(scene.server) >= 0 && sd_bus_start(scene.client) >= 0);
}

static void close_scene(void) {
    scene.client = sd_bus_close_unref(scene.client);
    scene.server = sd_bus_close_unref(scene.server);
    log_set_level(LOG_INFO);
    log_set_target(LOG_TARGET_CONSOLE);
}

static int on_answer(sd_bus_message *reply, void *data, sd_bus_error *error) {
    const sd_bus_error *failed = sd_bus_message_get_error(reply);
    const char *text = "";
    (void)data, (void)error;
    scene.answered = true;
    if (failed == NULL && !sd_bus_message_is_empty(reply))
        sd_bus_message_read(reply, "v", "s", &text);
    snprintf(scene.value, sizeof scene.value, "%s", text);
    snprintf(scene.error, sizeof scene.error, "%s", failed != NULL ? failed->name : "");
    return 0;
}

/* Sets a property, or with NULL asks for it; the answer is in the scene. */
static const char *property(const char *name, const char *value) {
    static const char interface[] = "org.freedesktop.LogControl1";
    sd_bus_message *call = NULL;
    scene.answered = false;
    ASSERT_NUMBER(sd_bus_message_new_method_call(scene.client, &call, NULL, "/org/freedesktop/LogControl1",
                                                 "org.freedesktop.DBus.Properties", value != NULL ? "Set" : "Get"),
                  0);
    CU_ASSERT(sd_bus_message_append(call, "ss", interface, name) >= 0);
    if (value != NULL)
        CU_ASSERT(sd_bus_message_append(call, "v", "s", value) >= 0);
    CU_ASSERT(sd_bus_call_async(scene.client, NULL, call, on_answer, NULL, 0) >= 0);
    sd_bus_message_unref(call);
    for (int round = 0; !scene.answered && round < ROUNDS_MAX; round++) {
        sd_bus_process(scene.server, NULL);
        sd_bus_process(scene.client, NULL);
    }
    CU_ASSERT_FATAL(scene.answered);
    return value != NULL ? scene.error : scene.value;
}

static void test_log_control(void) {
    open_scene();
    ASSERT_TEXT(property("LogLevel", NULL), "info");
    ASSERT_TEXT(property("LogTarget", NULL), "console");
    ASSERT_TEXT(property("SyslogIdentifier", NULL), "enrolld");
    ASSERT_TEXT(property("LogLevel", "debug"), "");
    ASSERT_NUMBER(log_get_level(), LOG_DEBUG);
    ASSERT_TEXT(property("LogLevel", NULL), "debug");
    ASSERT_TEXT(property("LogLevel", "emerg"), "");
    ASSERT_TEXT(property("LogLevel", NULL), "emerg");
    ASSERT_TEXT(property("LogTarget", "journal"), "");
    ASSERT_TEXT(property("LogTarget", NULL), "journal");
    ASSERT_TEXT(property("LogTarget", "auto"), ""); /* what a test writes to is not the journal */
    ASSERT_TEXT(property("LogTarget", NULL), "console");
    close_scene();
}

static void test_log_control_refuses(void) {
    open_scene();
    ASSERT_TEXT(property("LogLevel", "loud"), SD_BUS_ERROR_INVALID_ARGS);
    ASSERT_TEXT(property("LogLevel", ""), SD_BUS_ERROR_INVALID_ARGS);
    ASSERT_TEXT(property("LogTarget", "printer"), SD_BUS_ERROR_INVALID_ARGS);
    ASSERT_TEXT(property("SyslogIdentifier", "x"), SD_BUS_ERROR_PROPERTY_READ_ONLY);
    scene.may = false;
    ASSERT_TEXT(property("LogLevel", "debug"), SD_BUS_ERROR_ACCESS_DENIED);
    ASSERT_TEXT(property("LogTarget", "journal"), SD_BUS_ERROR_ACCESS_DENIED);
    ASSERT_TEXT(property("LogLevel", NULL), "info");
    ASSERT_TEXT(property("LogTarget", NULL), "console");
    close_scene();
}

/* What write() puts on standard error. */
static const char *seen(void (*write_log)(void)) {
    static char text[4096];
    int file = memfd_create("log", MFD_CLOEXEC), before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    dup2(file, STDERR_FILENO);
    write_log();
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    ssize_t size = pread(file, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    close(file);
    close(before);
    return text;
}

static void write_three(void) {
    const struct failure failure = {.class = FAILURE_NETWORK, .step = "claim"};
    log_message(LOG_INFO, "one");
    log_event(LOG_EVENT_ATTEMPT_FAILED, &failure, LOG_ERR, "%s\nhalf", "two and a");
    log_message(LOG_DEBUG, "three");
}

static void test_levels(void) {
    ASSERT_TEXT(seen(write_three), "enrolld: one\nenrolld: two and a half\n");
    log_set_level(LOG_ERR);
    ASSERT_TEXT(seen(write_three), "enrolld: two and a half\n");
    log_set_level(LOG_DEBUG);
    ASSERT_TEXT(seen(write_three), "enrolld: one\nenrolld: two and a half\nenrolld: three\n");
    log_set_level(LOG_INFO);
}

static void open_with_stream(void) {
    struct stat status;
    char text[64];
    ASSERT_NUMBER(fstat(STDERR_FILENO, &status), 0);
    snprintf(text, sizeof text, "%llu:%llu", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
    setenv("JOURNAL_STREAM", text, 1);
    log_open();
}

static void test_target(void) {
    seen(open_with_stream);
    ASSERT_NUMBER(log_get_target(), LOG_TARGET_JOURNAL);
    log_open(); /* standard error is another file now */
    ASSERT_NUMBER(log_get_target(), LOG_TARGET_CONSOLE);
    unsetenv("JOURNAL_STREAM");
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"levels", test_levels},
        {"the journal is found by its stream", test_target},
        {"LogControl1", test_log_control},
        {"LogControl1 refuses", test_log_control_refuses},
        {NULL, NULL},
    };
    return unit_run("log", tests, argc, argv);
}
