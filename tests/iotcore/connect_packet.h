/* The CONNECT packet of MQTT 3.1, 3.1.1 and 5: how long it is, and the same with another user name. Pure functions.
 * Source: MQTT Version 5.0 and 3.1.1, sections 2.1 and 3.1 (OASIS). */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* AWS General Reference, AWS IoT Core quotas: the largest packet, and a fixed header of at most five bytes. */
#define CONNECT_PACKET_LIMIT (131072 + 5)

/* How much connect_packet_rewrite() can add: user name with its length, and a longer fixed header. */
#define CONNECT_PACKET_ROOM(user_name_length) ((user_name_length) + 2 + 5)

enum connect_packet_state {
    CONNECT_PACKET_INCOMPLETE, /* so far it may become one */
    CONNECT_PACKET_WHOLE,
    CONNECT_PACKET_MALFORMED, /* not a CONNECT, or longer than the limit */
};

/* Looks at the beginning of a connection's bytes; for a whole packet tells its size. Only the fixed header is judged.
 */
enum connect_packet_state connect_packet_measure(const uint8_t *bytes, size_t size, size_t *ret_size);

/* Writes the packet with that user name, and without the password, of the same session: output has room for
 * size + CONNECT_PACKET_ROOM(length of the user name). Returns the new size, or 0 for a packet that is malformed:
 * nothing may lack, and nothing be too much. What is inside of texts and properties is left to the broker. */
size_t connect_packet_rewrite(const uint8_t *packet, size_t size, const char *user_name, uint8_t *output);
