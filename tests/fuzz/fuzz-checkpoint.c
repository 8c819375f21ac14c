/* A checkpoint as it may lie on a disk that was damaged, or be made by a worker that lies. */
#include "fuzz.h"
#include "worker/checkpoint.h"
#include "worker/document.h"

static bool is_same_text(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check_members(const struct checkpoint *checkpoint) {
    REQUIRE(checkpoint->stage >= CHECKPOINT_KEY && checkpoint->stage <= CHECKPOINT_REGISTERED);
    REQUIRE(checkpoint->private_pem != NULL);
    REQUIRE(checkpoint->stage < CHECKPOINT_ISSUED || checkpoint->certificate_pem != NULL);
    if (checkpoint->stage == CHECKPOINT_SENT)
        REQUIRE(checkpoint->secret != NULL);
}

static void check_same(const struct checkpoint *a, const struct checkpoint *b) {
    REQUIRE(a->stage == b->stage && a->refusals == b->refusals && a->abandoned == b->abandoned);
    REQUIRE(strcmp(a->binding, b->binding) == 0 && strcmp(a->key_origin, b->key_origin) == 0);
    REQUIRE(a->has_thing == b->has_thing && strcmp(a->thing_name, b->thing_name) == 0);
    REQUIRE(is_same_text(a->private_pem, b->private_pem) && is_same_text(a->certificate_pem, b->certificate_pem));
    REQUIRE(is_same_text(a->secret, b->secret) && is_same_text(a->device_configuration, b->device_configuration));
}

/* What was read can be written, and reads as the same; a text near the limit may grow above it. */
static void check_round_trip(const struct checkpoint *checkpoint, size_t size) {
    struct checkpoint again = {0};
    struct failure failure;
    char *json = NULL;
    int r = checkpoint_encode(checkpoint, &json, &failure);
    if (size <= DOCUMENT_MAX / 8 || (r == 0 && strlen(json) <= DOCUMENT_MAX)) {
        REQUIRE(r == 0 && checkpoint_parse(json, strlen(json), &again) == NULL);
        check_same(checkpoint, &again);
        checkpoint_clear(&again);
    }
    free(json);
}

/* What is given up leaves the key and no secret. */
static void check_dropping(struct checkpoint *checkpoint) {
    (void)checkpoint_is_hopeless(checkpoint, checkpoint->has_thing);
    checkpoint_drop_certificate(checkpoint);
    REQUIRE(checkpoint->stage == CHECKPOINT_KEY && checkpoint->private_pem != NULL && checkpoint->secret == NULL);
    REQUIRE(checkpoint->certificate_pem == NULL && checkpoint->refusals == 0 && !checkpoint->has_thing);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct checkpoint checkpoint = {.abandoned = 7};
    if (checkpoint_parse((const char *)data, size, &checkpoint) != NULL) {
        REQUIRE(checkpoint.abandoned == 7 && checkpoint.private_pem == NULL);
        return 0;
    }
    check_members(&checkpoint);
    check_round_trip(&checkpoint, size);
    check_dropping(&checkpoint);
    checkpoint_clear(&checkpoint);
    return 0;
}
