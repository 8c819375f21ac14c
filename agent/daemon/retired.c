#include "daemon/retired.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ID_LENGTH (RETIRED_ID_SIZE - 1)

static bool starts_with_id(const char *text) {
    return strspn(text, "0123456789abcdef") == ID_LENGTH;
}

void retired_format(const struct retired *retired, char text[RETIRED_TEXT_MAX]) {
    text[0] = '\0';
    for (size_t i = 0, at = 0; i < retired->count; i++, at += RETIRED_ID_SIZE)
        snprintf(text + at, RETIRED_TEXT_MAX - at, "%s\n", retired->ids[i]);
}

int retired_parse(const char *text, struct retired *ret) {
    struct retired retired;
    char dropped[RETIRED_ID_SIZE];
    memset(&retired, 0, sizeof retired);
    for (; *text != '\0'; text += RETIRED_ID_SIZE) {
        char id[RETIRED_ID_SIZE] = "";
        if (!starts_with_id(text) || text[ID_LENGTH] != '\n')
            return -EBADMSG;
        memcpy(id, text, ID_LENGTH);
        retired_add(&retired, id, dropped);
    }
    *ret = retired;
    return 0;
}

bool retired_add(struct retired *retired, const char *id, char dropped[RETIRED_ID_SIZE]) {
    dropped[0] = '\0';
    if (!starts_with_id(id) || id[ID_LENGTH] != '\0')
        return false;
    for (size_t i = 0; i < retired->count; i++)
        if (strcmp(retired->ids[i], id) == 0)
            return true;
    if (retired->count == RETIRED_MAX) {
        memcpy(dropped, retired->ids[0], RETIRED_ID_SIZE);
        retired_remove(retired, dropped);
    }
    memcpy(retired->ids[retired->count++], id, RETIRED_ID_SIZE);
    return true;
}

bool retired_remove(struct retired *retired, const char *id) {
    for (size_t i = 0; i < retired->count; i++)
        if (strcmp(retired->ids[i], id) == 0) {
            memmove(retired->ids[i], retired->ids[i + 1], (retired->count - i - 1) * RETIRED_ID_SIZE);
            memset(retired->ids[--retired->count], 0, RETIRED_ID_SIZE);
            return true;
        }
    return false;
}
