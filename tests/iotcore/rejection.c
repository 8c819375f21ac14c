#include "rejection.h"

#include <stdarg.h>
#include <stdio.h>

int rejection_set(struct rejection *rejection, int status_code, const char *error_code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    rejection->status_code = status_code;
    rejection->error_code = error_code;
    vsnprintf(rejection->message, sizeof rejection->message, format, arguments);
    va_end(arguments);
    return -1;
}
