/* Text that came from elsewhere: the rules that everything else relies on. */
#include "common/failure.h"
#include "common/settings.h"
#include "common/specifier.h"
#include "common/text.h"
#include "fuzz.h"

static bool has_controls(const char *text) {
    for (const unsigned char *byte = (const unsigned char *)text; *byte != '\0'; byte++)
        if (*byte < 0x20 || *byte == 0x7f || (byte[0] == 0xc2 && byte[1] < 0xa0))
            return true;
    return false;
}

static void check_printable(const char *text) {
    char *printable = strdup(text), *again = NULL;
    bool good = text_is_utf8(text, strlen(text));
    text_make_printable(printable);
    REQUIRE(strlen(printable) == strlen(text));
    REQUIRE(text_is_utf8(printable, strlen(printable)) && !has_controls(printable));
    if (good && !has_controls(text))
        REQUIRE(strcmp(printable, text) == 0);
    again = strdup(printable);
    text_make_printable(again);
    REQUIRE(strcmp(again, printable) == 0);
    free(again);
    free(printable);
}

static void check_number(const char *text) {
    uint64_t number = 0, again = 0;
    char digits[24];
    if (text_to_u64(text, &number) < 0)
        return;
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    REQUIRE(strcmp(text + strspn(text, "0"), number == 0 ? "" : digits) == 0);
    REQUIRE(text_to_u64(digits, &again) == 0 && again == number);
}

/* A failure takes any words, cuts them, and stays printable. */
static void check_failure(const char *text) {
    struct failure failure;
    (void)failure_set(&failure, FAILURE_INTERNAL, "worker", "%s", text);
    failure_append(&failure, "%s", text);
    REQUIRE(strlen(failure.message) < FAILURE_MESSAGE_MAX);
    REQUIRE(text_is_utf8(failure.message, strlen(failure.message)) && !has_controls(failure.message));
}

/* What is judged good can be expanded where all values are known. */
static void check_specifiers(const char *text) {
    const struct specifier_values values = {.serial_number = "SN", .thing_name = "thing"};
    struct failure failure;
    char *expanded = NULL;
    const char *wrong = specifier_judge(text);
    if (specifier_expand(text, &values, "Name", &expanded, &failure) == 0) {
        REQUIRE(wrong == NULL);
        if (strchr(text, '%') == NULL)
            REQUIRE(strcmp(expanded, text) == 0);
    } else
        REQUIRE(wrong != NULL || strstr(text, "%m") != NULL); /* a system may have no machine id */
    free(expanded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = input_text((struct input){data, size});
    uint64_t span = 0;
    REQUIRE(!text_is_utf8((const char *)data, size) || strlen(text) == size);
    check_printable(text);
    check_number(text);
    check_failure(text);
    check_specifiers(text);
    REQUIRE(text_to_span(text, &span) < 0 || span <= 365ULL * 86400 * 1000);
    free(text);
    return 0;
}
