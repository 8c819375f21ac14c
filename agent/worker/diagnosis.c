#include "worker/diagnosis.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/text.h"
#include "worker/child.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

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

struct run {
    struct diagnosis *diagnosis;
    const struct diagnosis_task *task;
    const struct diagnosis_subject *subject;
};

static void run_probe(void *data) {
    const struct run *run = data;
    run->task->probe(run->diagnosis, run->subject);
}

void diagnosis_run(struct diagnosis *diagnosis, const struct diagnosis_task *task,
                   const struct diagnosis_subject *subject) {
    struct run run = {diagnosis, task, subject};
    int r = child_run(run_probe, &run, task->seconds);
    if (r == -ETIMEDOUT)
        diagnosis_add(diagnosis, task->what, DIAGNOSIS_WRONG, task->advice, "no answer within %u s", task->seconds);
    else if (r < 0)
        diagnosis_add(diagnosis, task->what, DIAGNOSIS_WRONG, "is there memory, are there processes left?",
                      "cannot be looked at: %s", strerror(-r));
    else if (r > 0)
        diagnosis_add(diagnosis, task->what, DIAGNOSIS_WRONG, "please report this",
                      "the probe was ended by signal %d, %s", r, strsignal(r));
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
