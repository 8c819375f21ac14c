#include "worker/diagnosis.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/text.h"
#include "worker/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct row {
    char what[DIAGNOSIS_WHAT_MAX];
    enum diagnosis_verdict verdict;
    char text[DIAGNOSIS_TEXT_MAX], advice[DIAGNOSIS_TEXT_MAX];
};

struct diagnosis {
    size_t count;
    struct row rows[DIAGNOSIS_ROWS_MAX];
};

struct diagnosis *diagnosis_new(void) {
    struct diagnosis *diagnosis =
        mmap(NULL, sizeof *diagnosis, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return diagnosis != MAP_FAILED ? diagnosis : NULL;
}

struct diagnosis *diagnosis_free(struct diagnosis *diagnosis) {
    if (diagnosis != NULL)
        munmap(diagnosis, sizeof *diagnosis);
    return NULL;
}

void diagnosis_add(struct diagnosis *diagnosis, const char *what, enum diagnosis_verdict verdict, const char *advice,
                   const char *format, ...) {
    va_list arguments;
    if (diagnosis->count >= DIAGNOSIS_ROWS_MAX)
        return;
    struct row *row = &diagnosis->rows[diagnosis->count];
    va_start(arguments, format);
    vsnprintf(row->text, sizeof row->text, format, arguments);
    va_end(arguments);
    snprintf(row->what, sizeof row->what, "%s", what);
    snprintf(row->advice, sizeof row->advice, "%s", advice);
    text_make_printable(row->text);
    row->verdict = verdict;
    diagnosis->count++; /* last: a probe that dies before leaves no half row */
}

void diagnosis_add_failure(struct diagnosis *diagnosis, const char *what, const struct failure *failure,
                           const char *advice) {
    diagnosis_add(diagnosis, what, DIAGNOSIS_WRONG, advice, "%s", failure->message);
}

/* In the child. It ends with its parent, however that ends. */
__attribute__((noreturn)) static void run_probe(struct diagnosis *diagnosis, diagnosis_probe *probe,
                                                const struct diagnosis_subject *subject, pid_t parent) {
    signal(SIGTERM, SIG_DFL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent)
        probe(diagnosis, subject);
    _exit(EXIT_SUCCESS);
}

/* True if the other end of the pipe, which the probe alone has, was closed in time. */
static bool wait_end(int end, unsigned seconds) {
    int64_t deadline = tls_now_ms() + (int64_t)seconds * 1000;
    for (int64_t left = deadline - tls_now_ms(); left > 0; left = deadline - tls_now_ms()) {
        struct pollfd pollfd = {end, POLLIN, 0};
        if (poll(&pollfd, 1, (int)left) > 0)
            return true;
    }
    return false;
}

static void reap(struct diagnosis *diagnosis, const struct diagnosis_task *task, pid_t pid, bool ended) {
    int status = 0;
    if (!ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!ended)
        diagnosis_add(diagnosis, task->what, DIAGNOSIS_WRONG, task->advice, "no answer within %u s", task->seconds);
    else if (WIFSIGNALED(status))
        diagnosis_add(diagnosis, task->what, DIAGNOSIS_WRONG, "please report this",
                      "the probe was ended by signal %d, %s", WTERMSIG(status), strsignal(WTERMSIG(status)));
}

static void add_failed_call(struct diagnosis *diagnosis, const char *what, int error) {
    diagnosis_add(diagnosis, what, DIAGNOSIS_WRONG, "is there memory, are there processes left?",
                  "cannot be looked at: %s", strerror(error));
}

void diagnosis_run(struct diagnosis *diagnosis, const struct diagnosis_task *task,
                   const struct diagnosis_subject *subject) {
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0) {
        add_failed_call(diagnosis, task->what, errno);
        return;
    }
    AUTO_CLOSE int ours = pair[0], theirs = pair[1];
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        run_probe(diagnosis, task->probe, subject, parent);
    if (pid < 0) {
        add_failed_call(diagnosis, task->what, errno);
        return;
    }
    close(take_fd(&theirs));
    reap(diagnosis, task, pid, wait_end(ours, task->seconds));
}

bool diagnosis_is_wrong(const struct diagnosis *diagnosis, const char *what) {
    for (size_t i = 0; i < diagnosis->count; i++)
        if (strcmp(diagnosis->rows[i].what, what) == 0 && diagnosis->rows[i].verdict == DIAGNOSIS_WRONG)
            return true;
    return false;
}

char *diagnosis_encode(const struct diagnosis *diagnosis, size_t *ret_size) {
    char *data = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&data, &size);
    for (size_t i = 0; stream != NULL && i < diagnosis->count; i++) {
        const struct row *row = &diagnosis->rows[i];
        const char *verdict = diagnosis_verdict_name(row->verdict);
        size_t row_size = strlen(row->what) + strlen(verdict) + strlen(row->text) + strlen(row->advice) + 4;
        if ((size_t)ftell(stream) + row_size <= MEMFD_SIZE_MAX)
            fprintf(stream, "%s%c%s%c%s%c%s%c", row->what, 0, verdict, 0, row->text, 0, row->advice, 0);
    }
    if (stream == NULL || fclose(stream) != 0) {
        free(data);
        return NULL;
    }
    *ret_size = size;
    return data;
}
