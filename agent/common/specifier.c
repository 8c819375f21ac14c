#include "common/specifier.h"

#include "common/cleanup.h"
#include "common/machine-id.h"
#include "common/step.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

const char *specifier_judge(const char *text) {
    for (; *text != '\0'; text++)
        if (*text == '%' && (*++text == '\0' || strchr("stciomH%", *text) == NULL))
            return "has a % that starts no specifier (there are %s, %t, %c, %i, %o, %m, %H and %%)";
    return NULL;
}

bool specifier_is_in(const char *text, char letter) {
    for (; *text != '\0'; text++) {
        if (*text != '%' || text[1] == '\0')
            continue;
        if (*++text == letter)
            return true;
    }
    return false;
}

static const char *machine_id(char *buffer, const char **wrong) {
    const char *unusable = machine_id_read(MACHINE_ID_PATH, buffer);
    if (unusable != NULL)
        *wrong = unusable;
    return unusable == NULL ? buffer : NULL;
}

/* NULL if there is none, and then perhaps why. */
static const char *value_of(char letter, const struct specifier_values *values, char *buffer, size_t size,
                            const char **wrong) {
    switch (letter) {
    case '%':
        return "%";
    case 's':
        return values->serial_number;
    case 't':
        return values->thing_name;
    case 'c':
        return values->common_name;
    case 'i':
        return values->certificate_id;
    case 'o':
        return values->old_certificate_id;
    case 'm':
        return machine_id(buffer, wrong);
    case 'H':
        return gethostname(buffer, size) == 0 ? buffer : NULL;
    default:
        return NULL;
    }
}

int specifier_expand(const char *text, const struct specifier_values *values, const char *name, char **ret,
                     struct failure *failure) {
    AUTO_FREE char *expanded = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&expanded, &size);
    if (stream == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    for (; *text != '\0'; text++) {
        char buffer[HOST_NAME_MAX + 1] = "";
        const char *wrong = NULL;
        if (*text != '%') {
            fputc(*text, stream);
            continue;
        }
        const char *value = value_of(*++text, values, buffer, sizeof buffer, &wrong);
        if (value == NULL) {
            fclose(stream);
            if (wrong != NULL)
                return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                                   "%s=: %%m, the machine id in " MACHINE_ID_PATH ", has no value here: %s", name,
                                   wrong);
            return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                               "%s=: %%%c is no specifier, or has no value here", name, *text != '\0' ? *text : ' ');
        }
        fputs(value, stream);
    }
    if (fclose(stream) != 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    *ret = TAKE_POINTER(expanded);
    return 0;
}
