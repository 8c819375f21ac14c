"""As much of MQTT 5 as a front needs that stands between a device and the broker (OASIS, "MQTT Version 5.0")."""

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 1, 2, 3, 4, 8, 9, 14


def split(data):
    """The whole packets at the beginning of data, and what is left."""
    packets = []
    while True:
        size, shift, start = 0, 0, 1
        while start < len(data) and start <= 4:
            size |= (data[start] & 0x7F) << shift
            shift += 7
            start += 1
            if not data[start - 1] & 0x80:
                break
        else:
            return packets, data
        if len(data) < start + size:
            return packets, data
        packets.append(data[: start + size])
        data = data[start + size :]


def kind(packet):
    return packet[0] >> 4


def body(packet):
    """What follows the fixed header."""
    start = 1
    while packet[start] & 0x80:
        start += 1
    return packet[start + 1 :]


def text(data):
    """The string at the beginning of data, and what follows it (section 1.5.4)."""
    size = int.from_bytes(data[:2], "big")
    return data[2 : 2 + size].decode(), data[2 + size :]


def client_id(connect):
    """Without a property, whose length is then a single zero: as the agent sends it, and checked (section 3.1)."""
    rest = body(connect)[10:]
    size = rest[0]
    if size & 0x80:
        raise ValueError("more properties than expected")
    return text(rest[1 + size :])[0]


def topic(publish):
    return text(body(publish))[0]


def packet_id(packet):
    """Of a SUBSCRIBE, or a PUBLISH with QoS 1."""
    rest = body(packet)
    if kind(packet) == PUBLISH:
        rest = text(rest)[1]
    return rest[:2]


def filter_count(subscribe):
    rest = body(subscribe)[2:]
    rest = rest[1 + rest[0] :]
    count = 0
    while rest:
        rest = text(rest)[1][1:]
        count += 1
    return count


def packet(first, data):
    size, length = b"", len(data)
    while True:
        size += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
        length >>= 7
        if not length:
            return bytes([first]) + size + data


def connack(code):
    return packet(CONNACK << 4, bytes([0, code, 0]))


def connack_3_1_1(code):
    """The form of version 3.1.1: no properties (OASIS, "MQTT Version 3.1.1", section 3.2)."""
    return packet(CONNACK << 4, bytes([0, code]))


def suback(subscribe, codes):
    return packet(SUBACK << 4, packet_id(subscribe) + b"\0" + bytes(codes))


def puback(publish, code):
    return packet(PUBACK << 4, packet_id(publish) + bytes([code, 0]))


def disconnect(code):
    return packet(DISCONNECT << 4, bytes([code, 0]))


def publish(name, payload):
    """With QoS 0."""
    return packet(PUBLISH << 4, len(name).to_bytes(2, "big") + name.encode() + b"\0" + payload)
