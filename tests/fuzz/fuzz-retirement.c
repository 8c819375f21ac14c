/* What comes on the topics where retirements are acknowledged, and the list of a job: the same bytes as each. */
#include "fuzz.h"
#include "worker/retirement.h"

#define OLD "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void check_answer(const char *payload, size_t size) {
    char reason[RETIREMENT_REASON_SIZE] = "untouched";
    if (!retirement_is_about(payload, size, OLD, reason)) {
        REQUIRE(strcmp(reason, "untouched") == 0);
        return;
    }
    REQUIRE(size >= strlen(OLD));
    REQUIRE(memchr(reason, '\0', sizeof reason) != NULL);
    for (const char *at = reason; *at != '\0'; at++)
        REQUIRE((unsigned char)*at >= ' ' && *at != 0x7f);
    REQUIRE(!retirement_is_about(payload, size, "b" OLD, reason));
}

static void check_list(const char *data, size_t size) {
    char *text = input_text((struct input){(const uint8_t *)data, size}), id[CERTIFICATE_ID_SIZE];
    const char *list = text;
    size_t count = 0;
    while (retirement_next(&list, id) > 0) {
        REQUIRE(certificate_is_id(id) && list <= text + strlen(text));
        count++;
    }
    REQUIRE(count <= size / (CERTIFICATE_ID_SIZE - 1));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_answer((const char *)data, size);
    check_list((const char *)data, size);
    return 0;
}
