/* The record of attempts as it may lie on a disk that was damaged. */
#include "daemon/retry.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = input_text((struct input){data, size}), again[RETRY_TEXT_MAX];
    struct retry retry = {.attempts = 7}, copy;
    if (retry_parse(text, &retry) == 0) {
        REQUIRE(retry.asked_s <= RETRY_AFTER_MAX_S);
        REQUIRE((int)retry.class >= 0 && retry.class < FAILURE_CLASS_COUNT);
        retry_format(&retry, again);
        REQUIRE(strlen(again) < RETRY_TEXT_MAX - 1);
        REQUIRE(retry_parse(again, &copy) == 0);
        REQUIRE(copy.attempts == retry.attempts && copy.begun == retry.begun && copy.class == retry.class &&
                copy.next_usec == retry.next_usec && copy.asked_s == retry.asked_s);
    } else
        REQUIRE(retry.attempts == 7);
    free(text);
    return 0;
}
