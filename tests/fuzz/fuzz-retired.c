/* The list of replaced certificates as it may lie on a disk that was damaged, and what is done with it. */
#include "daemon/retired.h"
#include "fuzz.h"

/* As many as there may be, each once, all padded with zeros. */
static void check(const struct retired *retired) {
    static const char padding[RETIRED_ID_SIZE];
    REQUIRE(retired->count <= RETIRED_MAX);
    for (size_t i = 0; i < RETIRED_MAX; i++) {
        const char *id = retired->ids[i];
        if (i >= retired->count) {
            REQUIRE(memcmp(id, padding, sizeof padding) == 0);
            continue;
        }
        REQUIRE(strspn(id, "0123456789abcdef") == RETIRED_ID_SIZE - 1 && id[RETIRED_ID_SIZE - 1] == '\0');
        for (size_t before = 0; before < i; before++)
            REQUIRE(strcmp(retired->ids[before], id) != 0);
    }
}

static void check_text(const struct retired *retired) {
    char text[RETIRED_TEXT_MAX];
    struct retired copy;
    retired_format(retired, text);
    REQUIRE(strlen(text) == retired->count * RETIRED_ID_SIZE);
    REQUIRE(retired_parse(text, &copy) == 0);
    REQUIRE(memcmp(&copy, retired, sizeof copy) == 0);
}

/* One by one, the first, the last, and one of those between. */
static void take_all(struct retired *retired, uint8_t which) {
    while (retired->count > 0) {
        char id[RETIRED_ID_SIZE];
        size_t count = retired->count;
        memcpy(id, retired->ids[which % count], sizeof id);
        REQUIRE(retired_remove(retired, id) && retired->count == count - 1);
        REQUIRE(!retired_remove(retired, id));
        check(retired);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = input_text((struct input){data, size}), dropped[RETIRED_ID_SIZE];
    struct retired retired;
    memset(&retired, 0, sizeof retired);
    if (retired_parse(text, &retired) == 0) {
        REQUIRE(strlen(text) % RETIRED_ID_SIZE == 0 && strspn(text, "0123456789abcdef\n") == strlen(text));
        check(&retired);
        check_text(&retired);
        take_all(&retired, size > 0 ? data[0] : 0);
    } else
        REQUIRE(retired.count == 0);
    REQUIRE(retired_add(&retired, text, dropped) == (retired.count == 1) && dropped[0] == '\0');
    check(&retired);
    free(text);
    return 0;
}
