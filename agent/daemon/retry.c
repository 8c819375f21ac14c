#include "daemon/retry.h"

#include "daemon/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void retry_format(const struct retry *retry, char text[RETRY_TEXT_MAX]) {
    snprintf(text, RETRY_TEXT_MAX, "attempts=%u\nbegun=%s\nclass=%s\nnext=%llu\nasked=%u\n", retry->attempts,
             retry->begun ? "yes" : "no", failure_class_name(retry->class), (unsigned long long)retry->next_usec,
             retry->asked_s);
}

int retry_parse(const char *text, struct retry *ret) {
    char begun[RECORD_VALUE_SIZE], class_name[RECORD_VALUE_SIZE];
    uint64_t attempts, next_usec, asked_s;
    if (record_number(text, "attempts", UINT32_MAX, &attempts) < 0 || record_value(text, "begun", begun) < 0 ||
        record_value(text, "class", class_name) < 0 || record_number(text, "next", UINT64_MAX, &next_usec) < 0)
        return -EBADMSG;
    int class = failure_class_from_name(class_name);
    bool has_begun = strcmp(begun, "yes") == 0;
    if (class < 0 || (!has_begun && strcmp(begun, "no") != 0))
        return -EBADMSG;
    if (record_number(text, "asked", RETRY_AFTER_MAX_S, &asked_s) < 0) /* an older version has written none */
        asked_s = 0;
    *ret = (struct retry){(uint32_t)attempts, has_begun, (enum failure_class) class, next_usec, (uint32_t)asked_s};
    return 0;
}
