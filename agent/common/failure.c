#include "common/failure.h"

#include "common/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const class_names[FAILURE_CLASS_COUNT] = {
    [FAILURE_NETWORK] = "network", [FAILURE_CLOUD_BUSY] = "cloud-busy", [FAILURE_NOT_YET] = "not-yet",
    [FAILURE_DENIED] = "denied",   [FAILURE_INVALID] = "invalid",       [FAILURE_CLOCK] = "clock",
    [FAILURE_TPM] = "tpm",         [FAILURE_INTERNAL] = "internal",
};

const char *failure_class_name(enum failure_class class) {
    return class_names[class];
}

int failure_class_from_name(const char *name) {
    for (int class = 0; class < FAILURE_CLASS_COUNT; class ++)
        if (strcmp(name, class_names[class]) == 0)
            return class;
    return -EINVAL;
}

void failure_record(struct failure *failure, enum failure_class class, const char *step, const char *format, ...) {
    va_list arguments;
    memset(failure, 0, sizeof *failure);
    failure->class = class;
    snprintf(failure->step, sizeof failure->step, "%s", step);
    va_start(arguments, format);
    vsnprintf(failure->message, sizeof failure->message, format, arguments);
    va_end(arguments);
    text_make_printable(failure->message);
}

void failure_append(struct failure *failure, const char *format, ...) {
    size_t length = strlen(failure->message);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure->message + length, sizeof failure->message - length, format, arguments);
    va_end(arguments);
    text_make_printable(failure->message);
}
