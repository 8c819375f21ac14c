#include "common/diagnosis.h"

#include "common/text.h"

#include <errno.h>
#include <string.h>

const char *diagnosis_verdict_name(enum diagnosis_verdict verdict) {
    switch (verdict) {
    case DIAGNOSIS_OK:
        return "ok";
    case DIAGNOSIS_WARNING:
        return "warning";
    case DIAGNOSIS_WRONG:
        return "wrong";
    case DIAGNOSIS_SKIPPED:
        return "skipped";
    }
    return "";
}

static bool is_verdict(const char *text) {
    for (enum diagnosis_verdict verdict = 0; verdict < DIAGNOSIS_VERDICT_COUNT; verdict++)
        if (strcmp(text, diagnosis_verdict_name(verdict)) == 0)
            return true;
    return false;
}

/* Neither C0 nor DEL: it is shown on terminals. C1 is left to who shows it (text_make_printable()). */
static bool is_printable(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return text_is_utf8(text, size);
}

static const char *next_text(const char *data, size_t size, size_t *at, size_t maximum) {
    const char *text = data + *at, *end = *at < size ? memchr(text, '\0', size - *at) : NULL;
    if (end == NULL || (size_t)(end - text) >= maximum || !is_printable(text, (size_t)(end - text)))
        return NULL;
    *at += (size_t)(end - text) + 1;
    return text;
}

int diagnosis_next(const char *data, size_t size, size_t *at, struct diagnosis_row *ret) {
    struct diagnosis_row row;
    size_t next = *at;
    if (next == size)
        return 0;
    if ((row.what = next_text(data, size, &next, DIAGNOSIS_WHAT_MAX)) == NULL || row.what[0] == '\0' ||
        (row.verdict = next_text(data, size, &next, DIAGNOSIS_WHAT_MAX)) == NULL || !is_verdict(row.verdict) ||
        (row.text = next_text(data, size, &next, DIAGNOSIS_TEXT_MAX)) == NULL ||
        (row.advice = next_text(data, size, &next, DIAGNOSIS_TEXT_MAX)) == NULL)
        return -EBADMSG;
    *at = next;
    *ret = row;
    return 1;
}
