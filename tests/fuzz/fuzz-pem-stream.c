/* What people, shells and serial lines hand in to `enrollctl import`. */
#include "ctl/pem-stream.h"
#include "fuzz.h"

#include <stdbool.h>

/* Takes bytes until EOT; returns how many. */
static size_t feed(struct pem_stream *stream, const char *data, size_t size) {
    size_t used = 0;
    while (used < size && pem_stream_feed(stream, data[used]))
        used++;
    return used;
}

static void check_part(const struct pem_stream *stream, enum pem_part part) {
    size_t size, count = pem_stream_count(stream, part);
    const char *text = pem_stream_text(stream, part, &size);
    REQUIRE(size <= PEM_PART_MAX && strlen(text) == size);
    REQUIRE(count <= (part == PEM_KEY ? 1 : PEM_BLOCK_COUNT_MAX));
    if (pem_stream_problem(stream) == PEM_PROBLEM_NONE)
        REQUIRE((count > 0) == (size > 0));
    for (size_t i = 0; i < size; i++)
        REQUIRE(text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~'));
}

static void check_label(const char *label) {
    REQUIRE(strlen(label) <= PEM_LABEL_MAX);
    for (; *label != '\0'; label++)
        REQUIRE(*label >= ' ' && *label <= '~');
}

/* What came out has the form that goes through unchanged. */
static void check_again(const struct pem_stream *stream) {
    struct pem_stream *again = pem_stream_new();
    for (enum pem_part part = 0; part < PEM_PART_COUNT; part++) {
        size_t size;
        const char *text = pem_stream_text(stream, part, &size);
        REQUIRE(feed(again, text, size) == size && pem_stream_may_end(again));
    }
    pem_stream_finish(again);
    REQUIRE(pem_stream_problem(again) == PEM_PROBLEM_NONE);
    for (enum pem_part part = 0; part < PEM_PART_COUNT; part++) {
        size_t size, size_again;
        const char *text = pem_stream_text(stream, part, &size),
                   *text_again = pem_stream_text(again, part, &size_again);
        REQUIRE(pem_stream_count(again, part) == pem_stream_count(stream, part));
        REQUIRE(size_again == size && memcmp(text_again, text, size) == 0);
    }
    pem_stream_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct pem_stream *stream = pem_stream_new();
    size_t used = feed(stream, (const char *)data, size);
    bool may_end = pem_stream_may_end(stream);
    REQUIRE(used == size || data[used] == 0x04);
    pem_stream_finish(stream);
    REQUIRE(pem_stream_may_end(stream) && (may_end || pem_stream_problem(stream) == PEM_PROBLEM_NO_END));
    REQUIRE(pem_stream_line(stream) >= 1 && pem_stream_line(stream) <= used + 1);
    check_label(pem_stream_label(stream));
    for (enum pem_part part = 0; part < PEM_PART_COUNT; part++)
        check_part(stream, part);
    if (pem_stream_problem(stream) == PEM_PROBLEM_NONE)
        check_again(stream);
    pem_stream_free(stream);
    return 0;
}
