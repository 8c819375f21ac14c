/* The rows of a diagnosis as they travel: from a worker (FILE_DIAGNOSIS) to the daemon, which adds its own. Each row is
 * four texts, each ended by a NUL: what was looked at, the verdict, what was found, what to do. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define DIAGNOSIS_ROWS_MAX 64
#define DIAGNOSIS_WHAT_MAX 96   /* bytes with the NUL; a method's name has 64 */
#define DIAGNOSIS_TEXT_MAX 1024 /* of what was found, and of what to do */

enum diagnosis_verdict {
    DIAGNOSIS_OK,
    DIAGNOSIS_WARNING, /* works, but for how long? */
    DIAGNOSIS_WRONG,
    DIAGNOSIS_SKIPPED, /* not looked at: not used, or something before it is wrong */
};
#define DIAGNOSIS_VERDICT_COUNT (DIAGNOSIS_SKIPPED + 1)

/* Borrowed. */
struct diagnosis_row {
    const char *what, *verdict, *text, *advice;
};

/* "ok", "warning", "wrong", "skipped" */
const char *diagnosis_verdict_name(enum diagnosis_verdict verdict);

/* Takes the row at *at and moves it behind that. 1, 0 at the end, -EBADMSG for anything that is no row: cut off, too
 * long, not UTF-8 or not printable, a verdict that does not exist. */
int diagnosis_next(const char *data, size_t size, size_t *at, struct diagnosis_row *ret);
