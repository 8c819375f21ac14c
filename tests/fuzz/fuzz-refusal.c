/* The record of a refused identity as it may lie on a disk that was damaged. */
#include "daemon/refusal.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = input_text((struct input){data, size}), again[REFUSAL_TEXT_MAX];
    struct refusal refusal = {.generation = 7}, copy;
    if (refusal_parse(text, &refusal) == 0) {
        REQUIRE(refusal.generation != 0);
        refusal_format(&refusal, again);
        REQUIRE(strlen(again) < REFUSAL_TEXT_MAX - 1);
        REQUIRE(refusal_parse(again, &copy) == 0);
        REQUIRE(copy.generation == refusal.generation && copy.since_usec == refusal.since_usec &&
                copy.lasted_usec == refusal.lasted_usec);
    } else
        REQUIRE(refusal.generation == 7 && refusal.since_usec == 0 && refusal.lasted_usec == 0);
    free(text);
    return 0;
}
