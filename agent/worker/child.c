#include "worker/child.h"

#include "common/cleanup.h"
#include "worker/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noreturn)) static void run_in_child(void (*run)(void *data), void *data, pid_t parent) {
    signal(SIGTERM, SIG_DFL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent)
        run(data);
    _exit(EXIT_SUCCESS);
}

/* True if the other end of the pipe, which the child alone has, was closed in time. */
static bool wait_end(int end, unsigned seconds) {
    int64_t deadline = tls_now_ms() + (int64_t)seconds * 1000;
    for (int64_t left = deadline - tls_now_ms(); left > 0; left = deadline - tls_now_ms()) {
        struct pollfd pollfd = {end, POLLIN, 0};
        if (poll(&pollfd, 1, (int)left) > 0)
            return true;
    }
    return false;
}

static int reap(pid_t pid, bool ended) {
    int status = 0;
    if (!ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!ended)
        return -ETIMEDOUT;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int child_run(void (*run)(void *data), void *data, unsigned seconds) {
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return -errno;
    AUTO_CLOSE int ours = pair[0], theirs = pair[1];
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        run_in_child(run, data, parent);
    if (pid < 0)
        return -errno;
    close(take_fd(&theirs));
    return reap(pid, wait_end(ours, seconds));
}
