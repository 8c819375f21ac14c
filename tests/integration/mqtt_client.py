"""A plain MQTT client over TLS: it says what a test tells it to, and shows every acknowledgement as it came."""

import json
import socket
import ssl
import struct
import subprocess
import time

from harness import DEADLINE

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 1, 2, 3, 4, 8, 9, 14

TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

CREATE = "$aws/certificates/create/json"
CREATE_FROM_CSR = "$aws/certificates/create-from-csr/json"


def register_thing(template):
    """The topic of the request."""
    return f"$aws/provisioning-templates/{template}/provision/json"


class Closed(Exception):
    """The connection has ended; reason: that of a DISCONNECT, None if there was none."""

    def __init__(self, reason):
        super().__init__("no DISCONNECT" if reason is None else f"DISCONNECT 0x{reason:02x}")
        self.reason = reason


def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def length(value):
    """A Variable Byte Integer (MQTT 5.0, 1.5.5)."""
    data = b""
    while value > 127:
        data += bytes([value % 128 | 128])
        value //= 128
    return data + bytes([value])


def open_tls(cloud, certificate, key, server_name="localhost", tls=None, alpn=()):
    """A connection with that client certificate; its end without a close_notify is an SSLEOFError. server_name: what
    the ClientHello names, None for nothing. tls: the only version offered, 1.2 or 1.3. alpn: the protocols offered."""
    context = ssl.create_default_context(cafile=cloud.root_ca)
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # what is too weak is for the cloud to say
    context.load_cert_chain(certificate, key)
    context.check_hostname = server_name is not None
    if tls is not None:
        context.minimum_version = context.maximum_version = TLS_VERSIONS[tls]
    if alpn:
        context.set_alpn_protocols(list(alpn))
    plain = socket.create_connection(("127.0.0.1", cloud.port), timeout=DEADLINE)
    try:
        return context.wrap_socket(plain, server_hostname=server_name, suppress_ragged_eofs=False)
    except OSError:
        plain.close()
        raise


def connect_packet(client_id, version=5, flags=2, rest=b""):
    """rest: what the flags announce behind the client id."""
    no_properties = b"\0" if version == 5 else b""
    body = text("MQTT") + bytes([version, flags]) + struct.pack(">H", 60) + no_properties + text(client_id) + rest
    return bytes([CONNECT << 4]) + length(len(body)) + body


class Client:
    """One connection. version: 5, or 4 for MQTT 3.1.1. connect: what it sends first, None for an ordinary CONNECT.
    options: those of open_tls()."""

    def __init__(self, test, cloud, client_id, certificate, key, version=5, connect=None, **options):
        self.version = version
        self.identifier = 0
        self.buffer = b""
        self.packets = []  # that have come and that nobody has asked for
        self.socket = open_tls(cloud, certificate, key, **options)
        test.addCleanup(self.close)
        self.socket.sendall(connect_packet(client_id, version) if connect is None else connect)

    def connected(self):
        """Waits for CONNACK; returns its reason code."""
        return self.receive(CONNACK)[1]

    def close(self):
        self.socket.close()

    def disconnect(self):
        self.send(DISCONNECT, 0, b"")
        self.close()

    def no_properties(self):
        return b"\0" if self.version == 5 else b""

    def send(self, kind, flags, body):
        self.socket.sendall(bytes([kind << 4 | flags]) + length(len(body)) + body)

    def next_packet(self):
        """The next one's kind and flags as one byte, and its body; None if there is no whole one yet."""
        size = shift = 0
        for index in range(1, min(len(self.buffer), 5)):
            size |= (self.buffer[index] & 127) << shift
            shift += 7
            if self.buffer[index] < 128:
                end = index + 1 + size
                if len(self.buffer) < end:
                    return None
                packet = self.buffer[0], self.buffer[index + 1 : end]
                self.buffer = self.buffer[end:]
                return packet
        return None

    def read(self, seconds):
        """Reads until one more packet has come; False if there is none in time."""
        end = time.monotonic() + seconds
        while (packet := self.next_packet()) is None:
            self.socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return False
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                raise Closed(None)
            self.buffer += data
        if packet[0] >> 4 == DISCONNECT:
            raise Closed(packet[1][0] if packet[1] else 0)
        self.packets.append(packet)
        return True

    def take(self, wanted, seconds=DEADLINE):
        """The first packet for which wanted(kind, body) is true; None if there is none in time."""
        end = time.monotonic() + seconds
        while True:
            for packet in self.packets:
                if wanted(packet[0] >> 4, packet[1]):
                    self.packets.remove(packet)
                    return packet
            if not self.read(end - time.monotonic()):
                return None

    def receive(self, wanted):
        """The body of the next packet of that kind."""
        packet = self.take(lambda kind, _: kind == wanted)
        if packet is None:
            raise AssertionError(f"no packet of type {wanted} in time, but {self.packets}")
        return packet[1]

    def subscribe(self, *filters):
        """With QoS 0; returns the reason codes."""
        self.identifier += 1
        body = struct.pack(">H", self.identifier) + self.no_properties()
        self.send(SUBSCRIBE, 2, body + b"".join(text(name) + b"\0" for name in filters))
        return list(self.receive(SUBACK)[-len(filters) :])

    def send_publish(self, topic, payload):
        """With QoS 1, without waiting."""
        self.identifier += 1
        self.send(PUBLISH, 2, text(topic) + struct.pack(">H", self.identifier) + self.no_properties() + payload)

    def publish(self, topic, payload):
        """With QoS 1; returns the reason code of the PUBACK."""
        self.send_publish(topic, payload)
        body = self.receive(PUBACK)
        return body[2] if len(body) > 2 else 0

    def message(self, prefix, seconds=DEADLINE):
        """Topic and payload of the next message whose topic begins so; None if there is none in time."""
        packet = self.take(lambda kind, body: kind == PUBLISH and body[2:].startswith(prefix.encode()), seconds)
        if packet is None:
            return None
        flags, body = packet
        end = 2 + struct.unpack(">H", body[:2])[0]
        rest = body[end + (2 if flags & 6 else 0) :]
        # The stand-in sends no properties that take more than one byte to count.
        return body[2:end].decode(), rest[1 + rest[0] :] if self.version == 5 else rest

    def request(self, topic, **members):
        """Asks the provisioning API: whether it was accepted, and the payload of the reply."""
        self.subscribe(f"{topic}/accepted", f"{topic}/rejected")
        self.publish(topic, json.dumps(members).encode())
        return self.reply(topic)

    def reply(self, topic, seconds=DEADLINE):
        """None if there is none in time."""
        message = self.message(f"{topic}/", seconds)
        return None if message is None else (message[0].endswith("/accepted"), json.loads(message[1]))


def make_request(directory, name="device", subject="/CN=GW-0001"):
    """A key in NAME.key, and the text of a request for it."""
    words = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject]
    done = subprocess.run(
        [*words, "-keyout", directory / f"{name}.key"], check=True, capture_output=True, text=True, timeout=DEADLINE
    )
    return done.stdout
