/* The text of Subject=, and a serial number that its specifiers bring in: the first byte says how long that one is. */
#include "common/text.h"
#include "fuzz.h"
#include "worker/der.h"
#include "worker/subject.h"

/* SEQUENCE OF SET OF SEQUENCE { OBJECT IDENTIFIER, text }, and each kind of attribute once. */
static size_t check_name(const struct subject *subject) {
    const uint8_t *at = subject->der, *end = subject->der + subject->size;
    struct der_element name, set, pair, type, value;
    size_t count = 0, seen = 0;
    REQUIRE(der_expect(&at, end, DER_SEQUENCE, &name) && at == end);
    for (at = name.content; at != name.end; count++) {
        REQUIRE(der_expect(&at, name.end, DER_SET, &set));
        const uint8_t *inside = set.content;
        REQUIRE(der_expect(&inside, set.end, DER_SEQUENCE, &pair) && inside == set.end);
        inside = pair.content;
        REQUIRE(der_expect(&inside, pair.end, DER_OBJECT_IDENTIFIER, &type) && type.end - type.content == 3);
        REQUIRE(der_next(&inside, pair.end, &value) && inside == pair.end && value.content != value.end);
        REQUIRE(value.tag == DER_UTF8_STRING || value.tag == DER_PRINTABLE_STRING);
        REQUIRE(text_is_utf8((const char *)value.content, (size_t)(value.end - value.content)));
        REQUIRE(type.content[2] < 64 && (seen & (size_t)1 << type.content[2]) == 0);
        seen |= (size_t)1 << type.content[2];
    }
    REQUIRE(count > 0);
    return count;
}

/* What it says is the same name; but for % which would begin a specifier there. */
static void check_again(const struct subject *subject, const struct specifier_values *values) {
    struct subject again = {.size = 0};
    struct failure failure;
    if (strchr(subject->text, '%') != NULL)
        return;
    REQUIRE(subject_parse(subject->text, values, &again, &failure) == 0);
    REQUIRE(strcmp(again.text, subject->text) == 0);
    REQUIRE(again.size == subject->size && memcmp(again.der, subject->der, again.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    size_t serial_size = input_byte(&input) % 64;
    struct input serial_part = {input.data, serial_size < input.size ? serial_size : input.size};
    input.data += serial_part.size;
    input.size -= serial_part.size;
    char *serial = input_text(serial_part), *text = input_text(input);
    const struct specifier_values values = {.serial_number = serial};
    struct subject subject = {.size = 7};
    struct failure failure = {.message = ""};
    if (subject_parse(text, &values, &subject, &failure) == 0) {
        /* As many as commas and names allow: those of the serial number make no more. */
        size_t names = 1;
        for (const char *at = text; *at != '\0'; at++)
            names += *at == ',';
        REQUIRE(check_name(&subject) <= names);
        check_again(&subject, &values);
    } else {
        REQUIRE(subject.size == 7 && failure.message[0] != '\0' && failure.class == FAILURE_INVALID);
    }
    free(serial);
    free(text);
    return 0;
}
