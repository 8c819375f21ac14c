/* What every fuzz target shares. A target is one program with LLVMFuzzerTestOneInput(): libFuzzer drives it where it
 * was configured with --enable-fuzzing; elsewhere replay.c runs it over its corpus, tests/fuzz/corpus/NAME. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns 0. The input has no NUL behind it, so that address sanitizers see a read too far. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold for every input: not assert(3), which NDEBUG removes. */
#define REQUIRE(condition) ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))

_Noreturn static inline void fuzz_fail(const char *condition, const char *file, int line) {
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

/* Structured inputs are taken from the front; what is missing reads as zeros. */
struct input {
    const uint8_t *data;
    size_t size;
};

static inline uint8_t input_byte(struct input *input) {
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->data++;
}

static inline uint64_t input_number(struct input *input, size_t bytes) {
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; i++)
        number = number << 8 | input_byte(input);
    return number;
}

/* A part with its length, two bytes, before it; cut where the input ends. */
static inline struct input input_part(struct input *input) {
    size_t size = (size_t)input_number(input, 2);
    struct input part = {input->data, size < input->size ? size : input->size};
    input->data += part.size;
    input->size -= part.size;
    return part;
}

/* A copy as text; NUL bytes in it end it early. The caller frees it. */
static inline char *input_text(struct input part) {
    char *text = malloc(part.size + 1);
    if (text == NULL)
        abort();
    if (part.size > 0)
        memcpy(text, part.data, part.size);
    text[part.size] = '\0';
    return text;
}
