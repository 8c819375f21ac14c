#include "worker/der.h"

#include <string.h>

/* X.690, section 8.1.3. */
static bool read_length(const uint8_t **at, const uint8_t *end, size_t *ret) {
    if (*at == end)
        return false;
    size_t length = *(*at)++;
    if (length >= 0x80) {
        size_t count = length & 0x7f;
        if (count == 0 || count > 2 || count > (size_t)(end - *at))
            return false;
        for (length = 0; count > 0; count--)
            length = length << 8 | *(*at)++;
    }
    *ret = length;
    return true;
}

bool der_next(const uint8_t **at, const uint8_t *end, struct der_element *ret) {
    const uint8_t *content = *at + 1;
    size_t length = 0;
    if (*at == end || (**at & 0x1f) == 0x1f || !read_length(&content, end, &length) || length > (size_t)(end - content))
        return false;
    *ret = (struct der_element){**at, *at, content, content + length};
    *at = ret->end;
    return true;
}

bool der_expect(const uint8_t **at, const uint8_t *end, uint8_t tag, struct der_element *ret) {
    return *at != end && **at == tag && der_next(at, end, ret);
}

bool der_content_is(const struct der_element *element, const void *bytes, size_t size) {
    return (size_t)(element->end - element->content) == size && memcmp(element->content, bytes, size) == 0;
}

void der_writer_open(struct der_writer *writer, uint8_t *buffer, size_t size) {
    *writer = (struct der_writer){.begin = buffer, .at = buffer + size};
}

void der_prepend(struct der_writer *writer, const void *bytes, size_t size) {
    if (writer->is_full || size > (size_t)(writer->at - writer->begin)) {
        writer->is_full = true;
        return;
    }
    writer->at -= size;
    memcpy(writer->at, bytes, size);
}

void der_wrap(struct der_writer *writer, uint8_t tag, const uint8_t *end) {
    size_t length = (size_t)(end - writer->at);
    uint8_t header[4] = {tag}, count = 2;
    if (length < 0x80) {
        header[1] = (uint8_t)length;
    } else if (length < 0x100) {
        header[1] = 0x81;
        header[count++] = (uint8_t)length;
    } else {
        writer->is_full = writer->is_full || length > UINT16_MAX;
        header[1] = 0x82;
        header[count++] = (uint8_t)(length >> 8);
        header[count++] = (uint8_t)length;
    }
    der_prepend(writer, header, count);
}
