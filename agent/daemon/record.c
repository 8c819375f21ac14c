#include "daemon/record.h"

#include "common/text.h"

#include <errno.h>
#include <string.h>

int record_value(const char *text, const char *name, char value[RECORD_VALUE_SIZE]) {
    const char *found = NULL;
    size_t name_length = strlen(name), length = 0;
    for (size_t line_length; *text != '\0'; text += line_length + 1) {
        size_t before = strcspn(text, "=\n");
        line_length = strcspn(text, "\n");
        if (text[before] != '=' || text[line_length] != '\n')
            return -EBADMSG;
        if (before != name_length || memcmp(text, name, before) != 0)
            continue;
        if (found != NULL)
            return -EBADMSG;
        found = text + before + 1;
        length = line_length - before - 1;
    }
    if (found == NULL || length >= RECORD_VALUE_SIZE)
        return -EBADMSG;
    memcpy(value, found, length);
    value[length] = '\0';
    return 0;
}

int record_number(const char *text, const char *name, uint64_t max, uint64_t *ret) {
    char value[RECORD_VALUE_SIZE];
    uint64_t number;
    if (record_value(text, name, value) < 0 || text_to_u64(value, &number) < 0 || number > max)
        return -EBADMSG;
    *ret = number;
    return 0;
}
