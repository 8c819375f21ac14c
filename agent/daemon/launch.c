#include "daemon/launch.h"

#include "common/channel.h"
#include "common/cleanup.h"
#include "common/step.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

extern char **environ;

/* What systemd and the bus told the daemon about itself is not for the worker: a worker that sends READY=1 or answers
 * the watchdog would lie for it. */
static int is_private(const char *variable) {
    static const char *const private[] = {"NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "DBUS_"};
    for (size_t i = 0; i < sizeof private / sizeof *private; i++)
        if (strncmp(variable, private[i], strlen(private[i])) == 0)
            return 1;
    return 0;
}

/* The strings stay the environment's; only the array is new. */
static char **make_environment(void) {
    size_t count = 0, used = 0;
    while (environ[count] != NULL)
        count++;
    char **list = calloc(count + 1, sizeof *list);
    for (size_t i = 0; i < count && list != NULL; i++)
        if (!is_private(environ[i]))
            list[used++] = environ[i];
    return list;
}

/* Signals as after exec from a shell; the channel as CHANNEL_WORKER_FD; nothing above it; no terminal to read from. */
static int set_up(posix_spawnattr_t *attributes, posix_spawn_file_actions_t *actions, int channel) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int r = posix_spawnattr_setsigmask(attributes, &none);
    if (r == 0)
        r = posix_spawnattr_setsigdefault(attributes, &all);
    if (r == 0)
        r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(actions, channel, CHANNEL_WORKER_FD);
    if (r == 0)
        r = posix_spawn_file_actions_addclosefrom_np(actions, CHANNEL_WORKER_FD + 1);
    if (r == 0)
        r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    return r;
}

/* Returns 0 or an errno, also that of exec in the child. */
static int spawn(const char *program, int channel, pid_t *ret_pid) {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    AUTO_FREE char **environment = make_environment();
    char name[] = "enrolld-worker";
    char *arguments[] = {name, NULL};
    if (environment == NULL || posix_spawnattr_init(&attributes) != 0)
        return ENOMEM;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        posix_spawnattr_destroy(&attributes);
        return ENOMEM;
    }
    int r = set_up(&attributes, &actions, channel);
    if (r == 0)
        r = posix_spawn(ret_pid, program, &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return r;
}

static int fork_worker(const char *program, int *ret_channel, pid_t *ret_pid, struct failure *failure) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "cannot make a channel: %s", strerror(errno));
    AUTO_CLOSE int ours = pair[0], theirs = pair[1];
    if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "cannot make a channel: %s", strerror(errno));
    int r = spawn(program, theirs, ret_pid);
    if (r != 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "cannot run %s (ENROLLD_WORKER): %s", program,
                           strerror(r));
    *ret_channel = take_fd(&ours);
    return 0;
}

static int connect_worker(const struct launch *launch, const char *name, int *ret_channel, struct failure *failure) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", launch->sockets, name);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (size_t)length >= sizeof address.sun_path)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "cannot make a socket: %s",
                           strerror(fd < 0 ? errno : ENAMETOOLONG));
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return failure_set(
            failure, FAILURE_INTERNAL, STEP_WORKER,
            "cannot connect to %s: %s; is enrolld-%s.socket active? (without systemd, set ENROLLD_WORKER)",
            address.sun_path, strerror(errno), name);
    *ret_channel = take_fd(&fd);
    return 0;
}

int launch_worker(const struct launch *launch, const char *name, int *ret_channel, pid_t *ret_pid,
                  struct failure *failure) {
    pid_t pid = 0;
    int r = launch->program != NULL ? fork_worker(launch->program, ret_channel, &pid, failure)
                                    : connect_worker(launch, name, ret_channel, failure);
    if (r == 0)
        *ret_pid = pid;
    return r;
}
