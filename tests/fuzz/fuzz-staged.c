/* What is staged, as it may lie on a disk that was damaged, or be made by a worker that lies. */
#include "fuzz.h"
#include "worker/document.h"
#include "worker/staged.h"

static bool is_same_text(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* What was read can be written, and reads as the same; a text near the limit may grow above it. */
static void check_round_trip(const struct staged *staged, size_t size) {
    struct staged again = {.private_pem = NULL};
    struct failure failure;
    char *json = NULL;
    int r = staged_encode(staged, &json, &failure);
    if (size <= DOCUMENT_MAX / 8 || (r == 0 && strlen(json) <= DOCUMENT_MAX)) {
        REQUIRE(r == 0 && staged_parse(json, strlen(json), &again) == NULL);
        REQUIRE(strcmp(staged->key_origin, again.key_origin) == 0);
        REQUIRE(strcmp(staged->private_pem, again.private_pem) == 0);
        REQUIRE(is_same_text(staged->subject, again.subject) && is_same_text(staged->request_pem, again.request_pem));
        REQUIRE(is_same_text(staged->certificate_pem, again.certificate_pem));
        staged_clear(&again);
    }
    free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct staged staged = {.key_origin = "untouched"};
    if (staged_parse((const char *)data, size, &staged) != NULL) {
        REQUIRE(strcmp(staged.key_origin, "untouched") == 0 && staged.private_pem == NULL);
        return 0;
    }
    REQUIRE(staged.private_pem != NULL);
    check_round_trip(&staged, size);
    staged_clear(&staged);
    return 0;
}
