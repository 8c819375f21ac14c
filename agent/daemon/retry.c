#include "daemon/retry.h"

#include "common/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void retry_format(const struct retry *retry, char text[RETRY_TEXT_MAX]) {
    snprintf(text, RETRY_TEXT_MAX, "attempts=%u\nbegun=%s\nclass=%s\nnext=%llu\nasked=%u\n", retry->attempts,
             retry->begun ? "yes" : "no", failure_class_name(retry->class), (unsigned long long)retry->next_usec,
             retry->asked_s);
}

/* Older versions have written no SEEN_ASKED. */
enum { SEEN_ATTEMPTS = 1, SEEN_BEGUN = 2, SEEN_CLASS = 4, SEEN_NEXT = 8, SEEN_ALL = 15, SEEN_ASKED = 16 };

/* Returns which line it was, 0 for one of a newer version, -EBADMSG for a wrong value. */
static int parse_line(const char *name, const char *value, struct retry *retry) {
    uint64_t number;
    bool asked = strcmp(name, "asked") == 0;
    if (asked || strcmp(name, "attempts") == 0) {
        if (text_to_u64(value, &number) < 0 || number > (asked ? RETRY_AFTER_MAX_S : UINT32_MAX))
            return -EBADMSG;
        *(asked ? &retry->asked_s : &retry->attempts) = (uint32_t)number;
        return asked ? SEEN_ASKED : SEEN_ATTEMPTS;
    }
    if (strcmp(name, "begun") == 0) {
        retry->begun = strcmp(value, "yes") == 0;
        return retry->begun || strcmp(value, "no") == 0 ? SEEN_BEGUN : -EBADMSG;
    }
    if (strcmp(name, "class") == 0) {
        int class = failure_class_from_name(value);
        if (class < 0)
            return -EBADMSG;
        retry->class = (enum failure_class) class;
        return SEEN_CLASS;
    }
    if (strcmp(name, "next") == 0)
        return text_to_u64(value, &retry->next_usec) < 0 ? -EBADMSG : SEEN_NEXT;
    return 0;
}

int retry_parse(const char *text, struct retry *ret) {
    struct retry retry = {0};
    char copy[RETRY_TEXT_MAX];
    int seen = 0;
    size_t length = strlen(text);
    if (length == 0 || length >= sizeof copy || text[length - 1] != '\n')
        return -EBADMSG;
    char *rest = strcpy(copy, text);
    for (char *line = strsep(&rest, "\n"); rest != NULL; line = strsep(&rest, "\n")) {
        char *value = strchr(line, '=');
        if (value == NULL)
            return -EBADMSG;
        *value++ = '\0';
        int r = parse_line(line, value, &retry);
        if (r < 0 || (seen & r) != 0)
            return -EBADMSG;
        seen |= r;
    }
    if ((seen & SEEN_ALL) != SEEN_ALL)
        return -EBADMSG;
    *ret = retry;
    return 0;
}
