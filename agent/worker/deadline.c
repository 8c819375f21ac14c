#include "worker/deadline.h"

#include "worker/report.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static void on_alarm(int signal) {
    (void)signal;
    report_stuck();
    _exit(1);
}

void deadline_start(unsigned seconds, enum failure_class class, const char *step, const char *what) {
    struct sigaction action = {.sa_handler = on_alarm};
    struct failure failure;
    (void)failure_set(&failure, class, step, "%s did not end within %u s", what, seconds);
    report_prepare_stuck(&failure);
    sigaction(SIGALRM, &action, NULL);
    alarm(seconds);
}

void deadline_stop(void) {
    alarm(0);
}
