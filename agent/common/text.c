#include "common/text.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Length of the UTF-8 sequence at text, 0 if there is none (RFC 3629 section 4). */
static size_t utf8_sequence(const unsigned char *text, size_t size) {
    static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = text[0] < 0x80             ? 1
                    : (text[0] & 0xe0) == 0xc0 ? 2
                    : (text[0] & 0xf0) == 0xe0 ? 3
                    : (text[0] & 0xf8) == 0xf0 ? 4
                                               : 0;
    if (length < 2 || length > size)
        return length <= size ? length : 0;
    uint32_t point = text[0] & (0x7f >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        point = point << 6 | (text[i] & 0x3f);
    }
    if (point < lowest[length] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        return 0;
    return length;
}

bool text_is_utf8(const char *text, size_t size) {
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < size;) {
        size_t length = bytes[i] == '\0' ? 0 : utf8_sequence(bytes + i, size - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

void text_make_printable(char *text) {
    unsigned char *bytes = (unsigned char *)text;
    size_t size = 0;
    while (bytes[size] != '\0')
        size++;
    for (size_t i = 0; i < size;) {
        size_t length = utf8_sequence(bytes + i, size - i);
        if (length == 0)
            bytes[i] = '?';
        else if (length == 1 && (bytes[i] < 0x20 || bytes[i] == 0x7f))
            bytes[i] = ' ';
        else if (length == 2 && bytes[i] == 0xc2 && bytes[i + 1] < 0xa0) /* C1 control characters */
            bytes[i] = bytes[i + 1] = ' ';
        i += length > 0 ? length : 1;
    }
}

bool text_is_thing_name(const char *text) {
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-";
    size_t length = strlen(text);
    return length > 0 && length <= 128 && strspn(text, legal) == length;
}

int text_to_u64(const char *text, uint64_t *ret) {
    uint64_t value = 0;
    if (text == NULL || *text == '\0')
        return -EINVAL;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        if (value > (UINT64_MAX - (uint64_t)(*text - '0')) / 10)
            return -ERANGE;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *ret = value;
    return 0;
}

int text_to_span(const char *text, uint64_t *ret_ms) {
    return text_to_span_within(text, 365ULL * 86400 * 1000, ret_ms);
}

int text_to_span_within(const char *text, uint64_t limit_ms, uint64_t *ret_ms) {
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"min", 60 * 1000}, {"h", 3600 * 1000}, {"d", 86400 * 1000}};
    char digits[16];
    size_t length = strspn(text, "0123456789");
    uint64_t number;
    if (length == 0 || length >= sizeof digits)
        return -EINVAL;
    memcpy(digits, text, length);
    digits[length] = '\0';
    int r = text_to_u64(digits, &number);
    if (r < 0)
        return r;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(text + length, units[i].unit) == 0) {
            if (number > limit_ms / units[i].ms)
                return -ERANGE;
            *ret_ms = number * units[i].ms;
            return 0;
        }
    return -EINVAL;
}

void text_to_hex(const uint8_t *bytes, size_t size, char *hex) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[2 * size] = '\0';
}

void text_free_secret(char *text) {
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}
