#include "function.h"

#include "common/cleanup.h"
#include "control.h"
#include "json_read.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* The others wait, and their time does not run meanwhile: a machine has few processors, AWS many. */
#define RUNNING_LIMIT 4

extern char **environ;

struct function_work {
    char *name;
    char *input; /* what its process reads */
    int64_t milliseconds, deadline;
    pid_t process; /* 0: it waits */
    int output;    /* -1: it waits */
    function_done done;
    void *context;
    struct function_work *next;
};

static void free_work(struct function_work *work) {
    if (work->output >= 0)
        close(work->output);
    free(work->name);
    free(work->input);
    free(work);
}

/* arn:aws:lambda:REGION:ACCOUNT:function:NAME, maybe with a version or an alias behind it. */
static char *name_of(const char *arn) {
    static const char mark[] = ":function:";
    const char *name = strstr(arn, mark);
    return name != NULL ? strndup(name + strlen(mark), strcspn(name + strlen(mark), ":")) : NULL;
}

static void copy_member(struct json_object *to, struct json_object *from, const char *name) {
    struct json_object *value;
    if (json_object_object_get_ex(from, name, &value))
        json_object_object_add(to, name, json_object_get(value));
}

static char *make_input(const struct standin *standin, struct json_object *function, struct json_object *event) {
    struct json_object *root = registry_root(standin->provisioning.registry);
    AUTO_JSON struct json_object *input = json_object_new_object();
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u", (unsigned)control_port(standin->control));
    copy_member(input, function, "file");
    copy_member(input, function, "policy");
    copy_member(input, function, "environment");
    copy_member(input, root, "region");
    copy_member(input, root, "account");
    json_object_object_add(
        input, "clockOffset",
        json_object_new_int64(json_object_get_int64(json_member(root, "clockOffset", json_type_int))));
    json_object_object_add(input, "url", json_object_new_string(url));
    json_object_object_add(input, "event", json_object_get(event));
    return strdup(json_object_to_json_string_ext(input, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

void function_call(struct standin *standin, const char *arn, struct json_object *event, int64_t milliseconds,
                   function_done done, void *context) {
    struct function_work **last = &standin->function_works, *work = calloc(1, sizeof *work);
    if (work == NULL) {
        done(standin, context, NULL, "out of memory");
        return;
    }
    *work = (struct function_work){
        .name = name_of(arn), .milliseconds = milliseconds, .output = -1, .done = done, .context = context};
    struct json_object *functions = registry_section(standin->provisioning.registry, "functions");
    struct json_object *function = work->name != NULL ? json_member(functions, work->name, json_type_object) : NULL;
    if (function != NULL && standin->control != NULL)
        work->input = make_input(standin, function, event);
    while (*last != NULL)
        last = &(*last)->next;
    *last = work;
}

static int write_all(int fd, const char *text) {
    size_t size = strlen(text);
    return write(fd, text, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0 ? 0 : -EIO;
}

/* The broker's own descriptors and signals are not for it. */
static int spawn(const struct standin *standin, struct function_work *work, int input, int log) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    char *const words[] = {standin->function_program, NULL};
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, work->output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, log, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    int error = posix_spawn(&work->process, standin->function_program, &actions, &attributes, words, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0)
        work->process = 0;
    return -error;
}

/* NULL, or why there is no process. */
static const char *start(const struct standin *standin, struct function_work *work) {
    if (standin->control == NULL || standin->function_program == NULL)
        return "functions need the control plane";
    if (work->input == NULL)
        return "there is no such function";
    AUTO_CLOSE int input = memfd_create("function-input", MFD_CLOEXEC);
    AUTO_CLOSE int log = open(standin->functions_log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    work->output = memfd_create("function-output", MFD_CLOEXEC);
    if (input < 0 || log < 0 || work->output < 0 || write_all(input, work->input) < 0 ||
        spawn(standin, work, input, log) < 0)
        return "it can't be started";
    work->deadline = standin_milliseconds() + work->milliseconds;
    return NULL;
}

static struct json_object *read_output(const struct function_work *work) {
    char output[65536];
    ssize_t size = pread(work->output, output, sizeof output, 0);
    return size > 0 ? json_parse(output, (size_t)size) : NULL;
}

/* Takes the work out of the list. */
static void finish(struct standin *standin, struct function_work **link, struct json_object *output,
                   const char *error) {
    struct function_work *work = *link;
    struct json_object *result = NULL, *event = event_new("function");
    *link = work->next;
    if (error == NULL)
        error = json_text(output, "error");
    if (error == NULL && !json_object_object_get_ex(output, "result", &result))
        error = "it has ended without an answer";
    event_text(event, "name", work->name);
    json_object_object_add(event, "result", json_object_get(result));
    event_text(event, "error", error);
    event_write(standin->events, event);
    work->done(standin, work->context, result, error);
    free_work(work);
}

/* NULL: it goes on. */
static const char *end_late(struct function_work *work) {
    if (standin_milliseconds() < work->deadline)
        return NULL;
    kill(work->process, SIGKILL);
    waitpid(work->process, NULL, 0);
    return "it has not ended in time";
}

static unsigned count_running(const struct standin *standin) {
    unsigned count = 0;
    for (const struct function_work *work = standin->function_works; work != NULL; work = work->next)
        count += work->process > 0;
    return count;
}

static struct function_work **find_waiting(struct standin *standin) {
    struct function_work **link = &standin->function_works;
    while (*link != NULL && (*link)->process > 0)
        link = &(*link)->next;
    return link;
}

static void start_waiting(struct standin *standin) {
    struct function_work **link;
    while (*(link = find_waiting(standin)) != NULL && count_running(standin) < RUNNING_LIMIT) {
        const char *error = start(standin, *link);
        if (error != NULL)
            finish(standin, link, NULL, error);
    }
}

void function_tick(struct standin *standin) {
    start_waiting(standin);
    for (struct function_work **link = &standin->function_works; *link != NULL;) {
        struct function_work *work = *link;
        bool ended = work->process > 0 && waitpid(work->process, NULL, WNOHANG) == work->process;
        const char *late = work->process > 0 && !ended ? end_late(work) : NULL;
        if (!ended && late == NULL) {
            link = &work->next;
            continue;
        }
        AUTO_JSON struct json_object *output = ended ? read_output(work) : NULL;
        finish(standin, link, output, late);
    }
}

bool function_busy(const struct standin *standin) {
    return standin->function_works != NULL;
}

void function_clear(struct standin *standin) {
    while (standin->function_works != NULL) {
        struct function_work *work = standin->function_works;
        standin->function_works = work->next;
        if (work->process > 0) {
            kill(work->process, SIGKILL);
            waitpid(work->process, NULL, 0);
        }
        work->done(NULL, work->context, NULL, NULL);
        free_work(work);
    }
}
