#define SD_JOURNAL_SUPPRESS_LOCATION /* before the header: no CODE_FILE= and the like */
#include "daemon/log.h"

#include "common/text.h"

#include <systemd/sd-journal.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define TEXT_MAX 1280
#define FIELDS_MAX 5

static enum log_target log_target;
static int log_level = LOG_INFO;

/* As in systemd/enrolld.catalog. */
static const char *message_id(enum log_event event) {
    switch (event) {
    case LOG_EVENT_NONE:
        return NULL;
    case LOG_EVENT_PROVISIONED:
        return "2353dfb52b4d4e99a635a0bdc177863e";
    case LOG_EVENT_LOST:
        return "3218889db726451b8916469e8ac92d04";
    case LOG_EVENT_ATTEMPT_FAILED:
        return "034b9725ed7d4ac8bbd5aac08d4530e4";
    case LOG_EVENT_NEEDS_OPERATOR:
        return "8930220396094092a617b95d7e47a99d";
    case LOG_EVENT_CONFIGURATION_REFUSED:
        return "67bde486123442cc98f53075459ad576";
    case LOG_EVENT_CLOCK_NOT_SET:
        return "f0b5a2ef4bb94f0a874e684904953392";
    case LOG_EVENT_VOLATILE_STATE:
        return "0bf8dc2759054e08a7a5a5fe92c6a8ea";
    case LOG_EVENT_FORGOTTEN:
        return "c1c5bd9216624a7f952fb0b9ba369197";
    case LOG_EVENT_RENEWAL_FAILED:
        return "d5779f6a26ca412eb50a56422de299dd";
    case LOG_EVENT_EXPIRES:
        return "216fad5a0fa945a781056f834cce7ea2";
    case LOG_EVENT_REFUSED:
        return "fbec7a67b83947de8ac84905ff55a432";
    case LOG_EVENT_NOT_RETIRED:
        return "6e13cc6506394f10ab4b893555772099";
    }
    return NULL;
}

/* The variable alone is not enough: standard error may have been redirected since (systemd.exec(5)). */
void log_open(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    char own[64];
    struct stat status;
    log_target = LOG_TARGET_CONSOLE;
    if (stream == NULL || fstat(STDERR_FILENO, &status) < 0)
        return;
    snprintf(own, sizeof own, "%llu:%llu", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
    if (strcmp(stream, own) == 0)
        log_target = LOG_TARGET_JOURNAL;
}

void log_set_target(enum log_target target) {
    log_target = target;
}

enum log_target log_get_target(void) {
    return log_target;
}

void log_set_level(int level) {
    log_level = level;
}

int log_get_level(void) {
    return log_level;
}

struct fields {
    struct iovec vectors[FIELDS_MAX];
    char texts[FIELDS_MAX][TEXT_MAX + 8];
    int count;
};

__attribute__((format(printf, 2, 3))) static void add_field(struct fields *fields, const char *format, ...) {
    char *text = fields->texts[fields->count];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof fields->texts[0], format, arguments);
    va_end(arguments);
    fields->vectors[fields->count++] = (struct iovec){text, strlen(text)};
}

static int send_to_journal(int priority, enum log_event event, const struct failure *failure, const char *text) {
    struct fields fields = {.count = 0};
    add_field(&fields, "MESSAGE=%s", text);
    add_field(&fields, "PRIORITY=%d", priority);
    if (event != LOG_EVENT_NONE)
        add_field(&fields, "MESSAGE_ID=%s", message_id(event));
    if (failure != NULL) {
        add_field(&fields, "ENROLLD_CLASS=%s", failure_class_name(failure->class));
        add_field(&fields, "ENROLLD_STEP=%s", failure->step);
    }
    return sd_journal_sendv(fields.vectors, fields.count);
}

__attribute__((format(printf, 4, 0))) static void
write_line(int priority, enum log_event event, const struct failure *failure, const char *format, va_list arguments) {
    char text[TEXT_MAX];
    if (priority > log_level)
        return;
    vsnprintf(text, sizeof text, format, arguments);
    text_make_printable(text);
    if (log_target == LOG_TARGET_CONSOLE || send_to_journal(priority, event, failure, text) < 0)
        fprintf(stderr, "enrolld: %s\n", text);
}

void log_message(int priority, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(priority, LOG_EVENT_NONE, NULL, format, arguments);
    va_end(arguments);
}

void log_event(enum log_event event, const struct failure *failure, int priority, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(priority, event, failure, format, arguments);
    va_end(arguments);
}
