#include "worker/lockdown.h"

#include "common/sanitizer.h"
#include "common/step.h"

#include <seccomp.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const int forbidden[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(clock_settime),
    SCMP_SYS(settimeofday),
    SCMP_SYS(sethostname),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(personality),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(quotactl),
};

int lockdown_begin(struct failure *failure) {
    const struct rlimit none = {0, 0};
    umask(0077);
    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        (!UNDER_SANITIZER && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "the worker cannot lock itself down: %s",
                           strerror(errno));
    return 0;
}

static int forbid_network(scmp_filter_ctx filter) {
    static const int families[] = {AF_INET, AF_INET6, AF_PACKET, AF_NETLINK};
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof families / sizeof *families; i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
    return r;
}

int lockdown_finish(bool network, struct failure *failure) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int r = filter != NULL ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && i < sizeof forbidden / sizeof *forbidden; i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), forbidden[i], 0);
    if (r == 0 && !UNDER_SANITIZER)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ptrace), 0);
    if (r == 0 && !network)
        r = forbid_network(filter);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER,
                           "the worker cannot lock itself down: %s (the kernel needs CONFIG_SECCOMP_FILTER)",
                           strerror(-r));
    return 0;
}
