#include "daemon/log.h"

#include "common/text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_journal;

/* The variable alone is not enough: standard error may have been redirected since (systemd.exec(5)). */
void log_open(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    char own[64];
    struct stat status;
    if (stream == NULL || fstat(STDERR_FILENO, &status) < 0)
        return;
    snprintf(own, sizeof own, "%llu:%llu", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
    is_journal = strcmp(stream, own) == 0;
}

void log_message(int priority, const char *format, ...) {
    char text[1280];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    text_make_printable(text);
    if (is_journal)
        fprintf(stderr, "<%d>%s\n", priority, text);
    else
        fprintf(stderr, "enrolld: %s\n", text);
}
