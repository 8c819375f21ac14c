/* The rows of a diagnosis as a worker that lies may send them. What is taken for a row can go to D-Bus and a terminal.
 */
#include "common/diagnosis.h"
#include "common/text.h"
#include "fuzz.h"

static void check_text(const char *text, size_t maximum) {
    size_t length = strlen(text);
    REQUIRE(length < maximum && text_is_utf8(text, length));
    for (size_t i = 0; i < length; i++)
        REQUIRE((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct diagnosis_row row = {NULL, NULL, NULL, NULL};
    char *copy = malloc(size + 1); /* without a NUL behind it */
    size_t at = 0, before = 0;
    int r;
    REQUIRE(copy != NULL);
    memcpy(copy, data, size);
    copy = realloc(copy, size > 0 ? size : 1);
    REQUIRE(copy != NULL);
    while ((r = diagnosis_next(copy, size, &at, &row)) > 0) {
        REQUIRE(at > before && at <= size);
        before = at;
        REQUIRE(row.what[0] != '\0');
        check_text(row.what, DIAGNOSIS_WHAT_MAX);
        check_text(row.verdict, DIAGNOSIS_WHAT_MAX);
        check_text(row.text, DIAGNOSIS_TEXT_MAX);
        check_text(row.advice, DIAGNOSIS_TEXT_MAX);
    }
    REQUIRE(at == before && (r == 0 ? at == size : r < 0));
    free(copy);
    return 0;
}
