#include "worker/subject.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "common/text.h"
#include "worker/der.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Bytes: 128 characters of UTF-8, which has up to four each, and a NUL. */
#define VALUE_SIZE 513

#define NAMES "CN, O, OU, ST, C, dnQualifier and serialNumber"

/* RFC 5280, appendix A.1: X520name and others with their upper bounds, in characters. dnQualifier has none: as
 * serialNumber. */
static const struct attribute {
    const char *name;
    uint8_t type; /* the last number of 2.5.4.x, X.520 */
    uint8_t tag;
    size_t characters_max;
} attributes[] = {
    {"CN", 3, DER_UTF8_STRING, 64},
    {"O", 10, DER_UTF8_STRING, 64},
    {"OU", 11, DER_UTF8_STRING, 64},
    {"ST", 8, DER_UTF8_STRING, 128},
    {"C", 6, DER_PRINTABLE_STRING, 2},
    {"dnQualifier", 46, DER_PRINTABLE_STRING, 64},
    {"serialNumber", 5, DER_PRINTABLE_STRING, 64},
};
#define ATTRIBUTE_COUNT (sizeof attributes / sizeof *attributes)

struct value {
    const struct attribute *attribute;
    char text[VALUE_SIZE];
    size_t size;
};

struct parser {
    const char *at;
    const struct specifier_values *values;
    struct failure *failure;
    struct value found[ATTRIBUTE_COUNT];
    size_t count;
};

static int refuse(struct parser *parser, const char *name, const char *wrong) {
    return failure_set(parser->failure, FAILURE_INVALID, STEP_REQUEST, "Subject=: %s %s", name, wrong);
}

static void skip_blanks(struct parser *parser) {
    parser->at += strspn(parser->at, " ");
}

/* Reads "CN =" and finds out what that is. */
static int read_type(struct parser *parser, struct value *value) {
    char name[48];
    skip_blanks(parser);
    size_t length = strcspn(parser->at, "=,+ ");
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), parser->at);
    parser->at += length;
    skip_blanks(parser);
    if (*parser->at != '=')
        return failure_set(parser->failure, FAILURE_INVALID, STEP_REQUEST,
                           "Subject=: expected NAME=VALUE with commas between them, like CN=%%s,O=Example, but found "
                           "\"%s\" (within a value a comma is written \"\\,\")",
                           name);
    parser->at++;
    for (size_t i = 0; i < ATTRIBUTE_COUNT; i++)
        if (strcasecmp(attributes[i].name, name) == 0)
            value->attribute = &attributes[i];
    if (value->attribute == NULL)
        return failure_set(parser->failure, FAILURE_INVALID, STEP_REQUEST,
                           "Subject=: there is no attribute \"%s\", known are " NAMES, name);
    for (size_t i = 0; i < parser->count; i++)
        if (parser->found[i].attribute == value->attribute)
            return refuse(parser, value->attribute->name, "is there twice");
    return 0;
}

static int append(struct parser *parser, struct value *value, const char *text, size_t size) {
    if (size >= VALUE_SIZE - value->size)
        return refuse(parser, value->attribute->name, "is too long");
    memcpy(value->text + value->size, text, size);
    value->size += size;
    return 0;
}

static int hex_digit(char letter) {
    return isdigit((unsigned char)letter) ? letter - '0' : tolower((unsigned char)letter) - 'a' + 10;
}

/* RFC 4514, section 3: pair = ESC ( ESC / special / hexpair ). */
static int read_escape(struct parser *parser, struct value *value) {
    const char *at = parser->at + 1;
    if (isxdigit((unsigned char)at[0]) && isxdigit((unsigned char)at[1])) {
        const char byte = (char)(hex_digit(at[0]) << 4 | hex_digit(at[1]));
        parser->at += 3;
        return append(parser, value, &byte, 1);
    }
    if (*at == '\0' || strchr("\\\"+,;<>=# ", *at) == NULL)
        return refuse(parser, value->attribute->name,
                      "has a backslash that is neither before one of , + \" \\ < > ; = # and a blank, nor before two "
                      "hex digits");
    parser->at += 2;
    return append(parser, value, at, 1);
}

static int read_specifier(struct parser *parser, struct value *value) {
    const char specifier[] = {'%', parser->at[1], '\0'};
    AUTO_FREE char *expanded = NULL;
    if (specifier_expand(specifier, parser->values, "Subject", &expanded, parser->failure) < 0)
        return -1;
    parser->at += 2;
    return append(parser, value, expanded, strlen(expanded));
}

/* Up to the comma that ends it. Blanks before that one are not meant, unless they are escaped. */
static int read_value(struct parser *parser, struct value *value) {
    const char *name = value->attribute->name;
    size_t meant = 0;
    skip_blanks(parser);
    if (*parser->at == '#')
        return refuse(parser, name,
                      "begins with #: hexadecimal values are not supported, write \"\\#\" for the letter");
    while (*parser->at != '\0' && *parser->at != ',') {
        bool plain_blank = *parser->at == ' ';
        int r;
        if (*parser->at == '+')
            return refuse(parser, name,
                          "has a +: several attributes at one place are not supported, write \"\\+\" for "
                          "the letter");
        if (strchr("\";<>", *parser->at) != NULL)
            return refuse(parser, name, "has one of \" ; < > without a backslash before it");
        if (*parser->at == '\\')
            r = read_escape(parser, value);
        else if (*parser->at == '%')
            r = read_specifier(parser, value);
        else
            r = append(parser, value, parser->at++, 1);
        if (r < 0)
            return -1;
        meant = plain_blank ? meant : value->size;
    }
    value->size = meant;
    value->text[meant] = '\0';
    return 0;
}

static size_t count_characters(const char *text) {
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static bool is_printable(const char *text) {
    char copy[VALUE_SIZE];
    memcpy(copy, text, strlen(text) + 1);
    text_make_printable(copy);
    return strcmp(copy, text) == 0;
}

static int judge_value(struct parser *parser, const struct value *value) {
    static const char printable[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?";
    const struct attribute *attribute = value->attribute;
    const char *name = attribute->name, *text = value->text;
    size_t characters = count_characters(text);
    if (value->size == 0)
        return refuse(parser, name, "is empty");
    if (!text_is_utf8(text, value->size))
        return refuse(parser, name, "is not UTF-8");
    if (!is_printable(text))
        return refuse(parser, name, "has a control character");
    if (strcmp(name, "C") == 0 &&
        (strlen(text) != 2 || text[0] < 'A' || text[0] > 'Z' || text[1] < 'A' || text[1] > 'Z'))
        return failure_set(parser->failure, FAILURE_INVALID, STEP_REQUEST,
                           "Subject=: C must be the two capital letters of a country, like DE, but it is \"%.64s\"",
                           text);
    if (characters > attribute->characters_max)
        return failure_set(parser->failure, FAILURE_INVALID, STEP_REQUEST,
                           "Subject=: %s has %zu characters, at most %zu are allowed: \"%.140s\"", name, characters,
                           attribute->characters_max, text);
    if (attribute->tag == DER_PRINTABLE_STRING && strspn(text, printable) != value->size)
        return failure_set(parser->failure, FAILURE_INVALID, STEP_REQUEST,
                           "Subject=: %s may have letters and digits of ASCII, blanks and ' ( ) + , - . / : = ? only "
                           "(PrintableString), but it is \"%.140s\"",
                           name, text);
    return 0;
}

/* RFC 5280, section 4.1.2.4: SEQUENCE OF SET OF SEQUENCE { type, value }, last one first. */
static void encode(const struct parser *parser, struct der_writer *writer) {
    const uint8_t *end = writer->at;
    for (size_t i = parser->count; i > 0; i--) {
        const struct value *value = &parser->found[i - 1];
        const uint8_t type[] = {DER_OBJECT_IDENTIFIER, 3, 0x55, 0x04, value->attribute->type};
        const uint8_t *value_end = writer->at;
        der_prepend(writer, value->text, value->size);
        der_wrap(writer, value->attribute->tag, value_end);
        der_prepend(writer, type, sizeof type);
        der_wrap(writer, DER_SEQUENCE, value_end);
        der_wrap(writer, DER_SET, value_end);
    }
    der_wrap(writer, DER_SEQUENCE, end);
}

/* The way back to text, which is the same for the same name. False if it does not fit. */
static bool print(const struct parser *parser, char *text, size_t size) {
    size_t length = 0;
    for (size_t i = 0; i < parser->count; i++) {
        const struct value *value = &parser->found[i];
        length += (size_t)snprintf(text + length, size - length, "%s%s=", i > 0 ? "," : "", value->attribute->name);
        for (size_t k = 0; k < value->size && length + 3 < size; k++) {
            bool edge = k == 0 || k + 1 == value->size;
            if (strchr("\\\"+,;<>", value->text[k]) != NULL || (edge && strchr("# ", value->text[k]) != NULL))
                text[length++] = '\\';
            text[length++] = value->text[k];
        }
        if (length + 32 > size)
            return false;
    }
    text[length] = '\0';
    return true;
}

static int finish(const struct parser *parser, struct subject *ret) {
    uint8_t buffer[SUBJECT_DER_MAX];
    char text[SUBJECT_TEXT_MAX];
    struct der_writer writer;
    der_writer_open(&writer, buffer, sizeof buffer);
    encode(parser, &writer);
    if (writer.is_full || !print(parser, text, sizeof text))
        return failure_set(parser->failure, FAILURE_INVALID, STEP_REQUEST, "Subject=: it is too long");
    ret->common_name[0] = '\0';
    for (size_t i = 0; i < parser->count; i++)
        if (strcmp(parser->found[i].attribute->name, "CN") == 0)
            snprintf(ret->common_name, sizeof ret->common_name, "%.256s", parser->found[i].text);
    ret->size = (size_t)(buffer + sizeof buffer - writer.at);
    memcpy(ret->der, writer.at, ret->size);
    memcpy(ret->text, text, strlen(text) + 1);
    return 0;
}

int subject_parse(const char *text, const struct specifier_values *values, struct subject *ret,
                  struct failure *failure) {
    AUTO_FREE struct parser *parser = calloc(1, sizeof *parser);
    if (parser == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_REQUEST, "out of memory");
    parser->at = text;
    parser->values = values;
    parser->failure = failure;
    while (parser->count < ATTRIBUTE_COUNT) {
        struct value *value = &parser->found[parser->count];
        if (read_type(parser, value) < 0 || read_value(parser, value) < 0 || judge_value(parser, value) < 0)
            return -1;
        parser->count++;
        if (*parser->at == '\0')
            return finish(parser, ret);
        parser->at++;
    }
    struct value more = {0}; /* a known one is there twice, all others are not known */
    return read_type(parser, &more);
}
