/* Getting a worker: the only file that knows whether it is a unit that systemd starts per connection or a program
 * that is forked (ENROLLD_WORKER, for tests and other init systems). Never blocks. */
#pragma once

#include "common/failure.h"

#include <sys/types.h>

#define LAUNCH_SOCKETS "/run/enrolld-worker"

struct launch {
    const char *program; /* a path, NULL: connect to a socket */
    const char *sockets; /* directory of the sockets */
};

/* The name of a socket below that directory, of the unit enrolld-NAME.socket and its template enrolld-NAME@.service,
 * each with a sandbox of its own: "check" has no network and no secrets, "worker" a network, "claim" both. */
#define LAUNCH_CHECK "check"
#define LAUNCH_WORKER "worker"
#define LAUNCH_CLAIM "claim"

/* Gets a worker. *ret_channel is the daemon's end, non-blocking; *ret_pid the child, which the caller reaps, or 0 if
 * systemd looks after it. Class `internal`, step `worker`, with what to do. SIGCHLD should be blocked. */
int launch_worker(const struct launch *launch, const char *name, int *ret_channel, pid_t *ret_pid,
                  struct failure *failure);
