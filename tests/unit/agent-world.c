#include "agent-world.h"

#include "common/cleanup.h"
#include "daemon/directory.h"
#include "daemon/runtime.h"
#include "fake-worker.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct world world = {.route = -1, .clock = -1};

const char good_configuration[] = "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n"
                                  "[Retry]\nNetwork=20ms 40ms\nDenied=20ms 40ms\nInvalid=20ms 40ms\n"
                                  "TPM=20ms 40ms\nInternal=20ms 40ms\n";
const char slow_configuration[] = "[Agent]\nMethods=fleet-claim\n[Cloud]\nEndpoint=example.com\nRootCA=/ca.pem\n"
                                  "[Retry]\nNetwork=1h 2h\nDenied=1h 2h\nInternal=1h 2h\nTPM=1h 2h\n";

void write_file(const char *name, const char *text) {
    AUTO_CLOSE int fd = openat(world.top_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT_NUMBER(write(fd, text, strlen(text)), strlen(text));
}

const char *read_file(const char *name) {
    static char text[256];
    int r = directory_read(world.top_fd, name, text, sizeof text);
    if (r < 0)
        snprintf(text, sizeof text, "(%s)", strerror(-r));
    return text;
}

bool is_there(const char *name) {
    return faccessat(world.top_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void start(const char *workers) {
    struct failure failure = {0};
    setenv(FAKE_WORKER_VARIABLE, workers, 1);
    if (store_open(world.state_path, &world.store, &failure) < 0) {
        fprintf(stderr, "%s\n", failure.message);
        exit(99);
    }
    world.runtime = directory_make(world.top_fd, "run", 0755);
    sd_event_new(&world.event);
    struct agent_environment environment = {
        .event = world.event,
        .store = world.store,
        .runtime = world.runtime,
        .route = take_fd(&world.route),
        .clock = take_fd(&world.clock),
        .clock_directory = world.clock_path,
        .volatile_state = world.volatile_state,
        .launch = {.program = world.by_sockets ? NULL : "/proc/self/exe", .sockets = "/nonexistent"},
        .configuration_path = world.configuration_path,
        .credential_directory = world.current,
    };
    world.agent = agent_new(&environment);
    agent_start(world.agent);
}

void stop(void) {
    world.agent = agent_free(world.agent);
    world.event = sd_event_unref(world.event);
    close(world.runtime);
    world.store = store_close(world.store);
}

void set_up(const char *configuration) {
    snprintf(world.top, sizeof world.top, "/tmp/test-agent-XXXXXX");
    if (mkdtemp(world.top) == NULL)
        exit(99);
    world.top_fd = open(world.top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(world.state_path, sizeof world.state_path, "%s/state", world.top);
    snprintf(world.configuration_path, sizeof world.configuration_path, "%s/enrolld.conf", world.top);
    snprintf(world.record_path, sizeof world.record_path, "%s/record", world.top);
    snprintf(world.current, sizeof world.current, "%s/current", world.state_path);
    snprintf(world.clock_path, sizeof world.clock_path, "%s/clock", world.top);
    if (mkdirat(world.top_fd, "clock", 0700) < 0)
        exit(99);
    write_file("clock/synchronized", "");
    world.volatile_state = VOLATILE_NO;
    setenv(FAKE_RECORD_VARIABLE, world.record_path, 1);
    if (configuration != NULL)
        write_file("enrolld.conf", configuration);
}

void tear_down(void) {
    AUTO_CLOSE int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    stop();
    close(world.top_fd);
    ASSERT_NUMBER(directory_remove(parent, strrchr(world.top, '/') + 1), 0);
}

bool wait_for(bool (*condition)(const struct status *status)) {
    time_t deadline = time(NULL) + PATIENCE_S;
    while (!condition(agent_status(world.agent)) && time(NULL) < deadline)
        sd_event_run(world.event, 100000);
    return condition(agent_status(world.agent));
}

bool is_provisioned(const struct status *status) {
    return status->state == STATE_PROVISIONED;
}

bool is_waiting(const struct status *status) {
    return status->state == STATE_BACKOFF || status->state == STATE_FAILED;
}

void expect_state(bool (*condition)(const struct status *status), enum agent_state state) {
    if (!wait_for(condition) || agent_status(world.agent)->state != state)
        ASSERT_TEXT(status_state_name(agent_status(world.agent)->state), status_state_name(state));
}

void expect_error(const char *class, const char *text) {
    const struct status_error *error = &agent_status(world.agent)->error;
    ASSERT_TEXT(error->class, class);
    if (strstr(error->message, text) == NULL)
        ASSERT_TEXT(error->message, text);
}
