/* enrolld.conf as a text, and the form in which the daemon hands it to a worker: the first byte chooses. */
#include "common/configuration.h"
#include "common/settings.h"
#include "common/text.h"
#include "fuzz.h"

#include <errno.h>

static void ignore_warning(const char *text, void *data) {
    REQUIRE(text[0] != '\0' && data == NULL);
}

static void count_row(const struct setting_row *row, void *data) {
    REQUIRE(row->section != NULL && row->key != NULL && row->value != NULL);
    ++*(size_t *)data;
}

static void check_same(const struct configuration *a, const struct configuration *b) {
    REQUIRE(a->count == b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct configuration_entry *x = &a->entries[i], *y = &b->entries[i];
        REQUIRE(strcmp(x->section, y->section) == 0 && strcmp(x->key, y->key) == 0);
        REQUIRE(strcmp(x->value, y->value) == 0 && strcmp(x->file, y->file) == 0 && x->line == y->line);
    }
}

/* The worker judges by the very configuration that the daemon has. */
static void check_handover(const struct configuration *configuration) {
    struct configuration *again = NULL;
    char *text = NULL;
    size_t size = 0;
    REQUIRE(configuration_serialize(configuration, &text, &size) == 0);
    REQUIRE(configuration_deserialize(text, size, &again) == 0);
    check_same(configuration, again);
    configuration_free(again);
    free(text);
}

static void check_settings(const struct configuration *configuration) {
    struct settings settings = {.port = 7};
    struct failure failure = {0};
    size_t rows = 0;
    settings_enumerate(configuration, count_row, &rows);
    REQUIRE(rows > 0);
    if (settings_read(configuration, &settings, &failure) < 0) {
        REQUIRE(failure.class == FAILURE_INVALID && failure.message[0] != '\0' && settings.port == 7);
        return;
    }
    REQUIRE(settings.methods[0][0] != '\0' && settings.endpoint[0] != '\0' && settings.root_ca[0] == '/');
    REQUIRE(strpbrk(settings.methods[0], "/. \t") == NULL);
    REQUIRE(settings.port > 0);
    for (int class = 0; class < FAILURE_CLASS_COUNT; class ++)
        REQUIRE(settings.retry[class].base_ms > 0 && settings.retry[class].cap_ms >= settings.retry[class].base_ms);
    settings_warn_unknown(configuration, &settings, ignore_warning, NULL);
}

static void check_text(struct input input) {
    struct configuration *configuration = configuration_new();
    struct failure failure = {0};
    if (configuration_parse(configuration, (const char *)input.data, input.size, "/etc/enrolld/enrolld.conf",
                            &failure) == 0) {
        REQUIRE(configuration->count <= CONFIGURATION_ENTRIES_MAX);
        check_handover(configuration);
        check_settings(configuration);
    } else
        REQUIRE(failure.class == FAILURE_INVALID && strncmp(failure.message, "/etc/enrolld/enrolld.conf:", 26) == 0);
    configuration_free(configuration);
}

static void check_handed_over(struct input input) {
    struct configuration *configuration = NULL;
    int r = configuration_deserialize((const char *)input.data, input.size, &configuration);
    if (r < 0) {
        REQUIRE((r == -EBADMSG || r == -E2BIG) && configuration == NULL);
        return;
    }
    check_handover(configuration);
    check_settings(configuration);
    configuration_free(configuration);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    if (input_byte(&input) % 2 == 0)
        check_text(input);
    else
        check_handed_over(input);
    return 0;
}
