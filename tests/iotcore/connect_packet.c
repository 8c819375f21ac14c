#include "connect_packet.h"

#include <stdbool.h>
#include <string.h>

#define TYPE_CONNECT 0x10

enum {
    FLAG_RESERVED = 0x01,
    FLAG_WILL = 0x04,
    FLAG_PASSWORD = 0x40,
    FLAG_USER_NAME = 0x80,
};

/* What is left of the packet; bad once something lacked. */
struct reader {
    const uint8_t *bytes;
    size_t size;
    bool bad;
};

static void skip(struct reader *reader, size_t size) {
    if (size > reader->size) {
        reader->bad = true;
        size = reader->size;
    }
    reader->bytes += size;
    reader->size -= size;
}

static uint8_t read_byte(struct reader *reader) {
    uint8_t byte = reader->size > 0 ? reader->bytes[0] : 0;
    skip(reader, 1);
    return byte;
}

/* Text or binary data behind its length of two bytes. */
static void skip_field(struct reader *reader) {
    size_t length = (size_t)read_byte(reader) << 8;
    skip(reader, length | read_byte(reader));
}

/* A Variable Byte Integer has at most four bytes (MQTT 5.0, 1.5.5). */
static size_t read_variable(struct reader *reader) {
    size_t value = 0;
    for (unsigned shift = 0; shift <= 21; shift += 7) {
        uint8_t byte = read_byte(reader);
        value |= (size_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    reader->bad = true;
    return 0;
}

static size_t write_variable(uint8_t *output, size_t value) {
    size_t count = 0;
    do {
        output[count] = (uint8_t)(value % 128);
        value /= 128;
        if (value > 0)
            output[count] |= 0x80;
        count++;
    } while (value > 0);
    return count;
}

enum connect_packet_state connect_packet_measure(const uint8_t *bytes, size_t size, size_t *ret_size) {
    if (size == 0)
        return CONNECT_PACKET_INCOMPLETE;
    if (bytes[0] != TYPE_CONNECT)
        return CONNECT_PACKET_MALFORMED;
    struct reader reader = {bytes + 1, size - 1, false};
    size_t length = read_variable(&reader);
    if (reader.bad)
        return size < 5 ? CONNECT_PACKET_INCOMPLETE : CONNECT_PACKET_MALFORMED;
    size_t whole = (size_t)(reader.bytes - bytes) + length;
    if (whole > CONNECT_PACKET_LIMIT)
        return CONNECT_PACKET_MALFORMED;
    if (whole > size)
        return CONNECT_PACKET_INCOMPLETE;
    *ret_size = whole;
    return CONNECT_PACKET_WHOLE;
}

/* The protocol's name and its level: 3 for MQTT 3.1, 4 for 3.1.1, 5; 0 for any other. */
static uint8_t read_level(struct reader *reader) {
    struct reader name = *reader;
    skip_field(reader);
    if (reader->bad)
        return 0;
    size_t length = (size_t)(reader->bytes - name.bytes) - 2;
    uint8_t level = read_byte(reader);
    if (length == 4 && memcmp(name.bytes + 2, "MQTT", 4) == 0 && (level == 4 || level == 5))
        return level;
    return length == 6 && memcmp(name.bytes + 2, "MQIsdp", 6) == 0 && level == 3 ? level : 0;
}

static void skip_properties(struct reader *reader, uint8_t level) {
    if (level == 5)
        skip(reader, read_variable(reader));
}

/* Everything up to the user name. */
static void skip_payload(struct reader *reader, uint8_t level, uint8_t flags) {
    skip_field(reader);
    if ((flags & FLAG_WILL) == 0)
        return;
    skip_properties(reader, level);
    skip_field(reader);
    skip_field(reader);
}

size_t connect_packet_rewrite(const uint8_t *packet, size_t size, const char *user_name, uint8_t *output) {
    struct reader reader = {packet, size, false};
    size_t user_name_length = strlen(user_name), written = 1;
    skip(&reader, 1);
    read_variable(&reader);
    const uint8_t *body = reader.bytes;
    uint8_t level = read_level(&reader);
    const uint8_t *flags_place = reader.bytes;
    uint8_t flags = read_byte(&reader);
    if (level == 0 || (flags & FLAG_RESERVED) != 0 || user_name_length > UINT16_MAX)
        return 0;
    skip(&reader, 2);
    skip_properties(&reader, level);
    skip_payload(&reader, level, flags);
    size_t kept = (size_t)(reader.bytes - body);
    if ((flags & FLAG_USER_NAME) != 0)
        skip_field(&reader);
    if ((flags & FLAG_PASSWORD) != 0)
        skip_field(&reader);
    bool lonely = (flags & FLAG_PASSWORD) != 0 && (flags & FLAG_USER_NAME) == 0 && level < 5;
    if (reader.bad || reader.size != 0 || lonely)
        return 0;
    output[0] = packet[0];
    written += write_variable(output + written, kept + 2 + user_name_length);
    memcpy(output + written, body, kept);
    output[written + (size_t)(flags_place - body)] = (uint8_t)((flags & ~FLAG_PASSWORD) | FLAG_USER_NAME);
    written += kept;
    output[written++] = (uint8_t)(user_name_length >> 8);
    output[written++] = (uint8_t)user_name_length;
    memcpy(output + written, user_name, user_name_length);
    return written + user_name_length;
}
