/* identity.json. */
#include "common/step.h"
#include "common/text.h"
#include "fuzz.h"
#include "worker/document.h"
#include "worker/identity.h"

static bool is_printable(const char *text) {
    char copy[512];
    snprintf(copy, sizeof copy, "%s", text);
    text_make_printable(copy);
    return text_is_utf8(text, strlen(text)) && strcmp(copy, text) == 0;
}

static bool is_same_text(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check_same(const struct identity *a, const struct identity *b) {
    REQUIRE(strcmp(a->method, b->method) == 0 && strcmp(a->endpoint, b->endpoint) == 0);
    REQUIRE(strcmp(a->client_id, b->client_id) == 0 && strcmp(a->thing_name, b->thing_name) == 0);
    REQUIRE(strcmp(a->serial_number, b->serial_number) == 0 && strcmp(a->certificate_id, b->certificate_id) == 0);
    REQUIRE(strcmp(a->key_backend, b->key_backend) == 0 && strcmp(a->key_algorithm, b->key_algorithm) == 0);
    REQUIRE(strcmp(a->key_origin, b->key_origin) == 0 && strcmp(a->parent_name, b->parent_name) == 0);
    REQUIRE(a->generation == b->generation && a->issued_at == b->issued_at);
    REQUIRE(a->not_before == b->not_before && a->not_after == b->not_after);
    REQUIRE(is_same_text(a->device_configuration, b->device_configuration));
}

static void check_members(const struct identity *identity) {
    REQUIRE(is_printable(identity->method) && is_printable(identity->endpoint) && is_printable(identity->client_id));
    REQUIRE(is_printable(identity->thing_name) && is_printable(identity->serial_number));
    REQUIRE(is_printable(identity->key_backend) && is_printable(identity->key_algorithm));
    REQUIRE(identity->not_before >= 0 && identity->not_after >= 0 && identity->issued_at >= 0);
}

/* What was read can be written, and reads as the same; but a text near the limit may grow above it, by the blanks and
 * escapes of the printed form. */
static void check_round_trip(const struct identity *identity, size_t size) {
    struct identity again;
    struct failure failure;
    char *json = NULL;
    int r = identity_encode(identity, &json, &failure);
    if (size > DOCUMENT_MAX / 8 && (r < 0 || strlen(json) > DOCUMENT_MAX)) {
        free(json);
        return;
    }
    REQUIRE(r == 0);
    REQUIRE(identity_parse(json, strlen(json), &again, &failure) == 0);
    check_same(identity, &again);
    identity_clear(&again);
    free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct identity identity = {.generation = 7};
    struct failure failure = {0};
    if (identity_parse((const char *)data, size, &identity, &failure) < 0) {
        REQUIRE(failure.class == FAILURE_INVALID && strcmp(failure.step, STEP_VERIFY) == 0);
        REQUIRE(identity.generation == 7);
        return 0;
    }
    check_members(&identity);
    check_round_trip(&identity, size);
    identity_clear(&identity);
    return 0;
}
