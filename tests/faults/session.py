"""The inside of one connection: TLS with the server's own key, or a wrong one, and MQTT packets."""

import select
import ssl
import time

import mqtt
from ends import drain, finish, finish_tls
from harness import DEADLINE

# Larger than the 128 KiB that an AWS IoT message may have.
OVERSIZE = 140000


class Stream:
    """The MQTT packets of one side."""

    def __init__(self, tls):
        self.tls = tls
        self.data = b""
        self.ended = False

    def packets(self):
        """Those that are complete after one more read, which never waits: what select() saw may have been for TLS
        itself, a session ticket for instance."""
        self.tls.settimeout(0)
        try:
            received = self.tls.recv(65536)
        except ssl.SSLWantReadError:
            return []
        except OSError:
            received = b""
        finally:
            self.tls.settimeout(DEADLINE)
        self.ended = not received
        found, self.data = mqtt.split(self.data + received)
        return found

    def first(self):
        """The first packet; None if the device has left before."""
        found = []
        while not found and not self.ended:
            readable(self)
            found = self.packets()
        return found[0] if found else None


def readable(*streams):
    """Those that have something to read, once there is one."""
    pending = [stream for stream in streams if stream.tls.pending()]
    if pending:
        return pending
    sockets = select.select([stream.tls for stream in streams], [], [])[0]
    return [stream for stream in streams if stream.tls in sockets]


def place(packet):
    """Where in the exchange it stands, as faults call it; "" for what they do not name."""
    kind = mqtt.kind(packet)
    if kind != mqtt.PUBLISH:
        return {mqtt.CONNECT: "connect", mqtt.SUBSCRIBE: "subscribe"}.get(kind, "")
    topic = mqtt.topic(packet)
    operation = "create" if topic.startswith("$aws/certificates/") else "register"
    return operation + ("-reply" if topic.endswith(("/accepted", "/rejected")) else "")


class Session:
    """front: for what is shared by all connections. The socket is this object's from now on."""

    def __init__(self, front, device, fault):
        self.front = front
        self.fault = fault
        self.tls = self.server_context().wrap_socket(device, server_side=True, do_handshake_on_connect=False)

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        directory = self.front.cloud.directory
        certificate = f"server-{self.fault['certificate']}.pem" if self.fault["do"] == "server" else "server.pem"
        context.load_cert_chain(directory / certificate, directory / "server.key")
        # Its own authority has issued no certificate of a device.
        authority = "root-ca.pem" if self.fault["do"] == "distrust" else "state/issuer.pem"
        context.load_verify_locations(directory / authority)
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0  # AWS IoT sends none
        if self.fault.get("tls") == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def serve(self):
        try:
            self.tls.do_handshake()
        except ssl.SSLError:  # one of both has sent an alert
            finish(self.tls)
            return
        if self.tls.getpeercert(True) == self.front.asker_der:
            self.converse()
        else:
            self.judge_device()

    def converse(self):
        """Carries packets, with the key of who asks towards the broker, until the place of the fault is reached."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.front.cloud.root_ca)
        context.load_cert_chain(*self.front.asker)
        with context.wrap_socket(self.front.upstream(), server_hostname="localhost") as upstream:
            device, broker = Stream(self.tls), Stream(upstream)
            while not device.ended and not broker.ended:
                for source in readable(device, broker):
                    for packet in source.packets():
                        if self.meets(packet):
                            self.answer(packet)
                            return
                        if not self.swallows(packet):
                            (upstream if source is device else self.tls).sendall(packet)
        finish_tls(self.tls)

    def judge_device(self):
        """A connection with the new certificate, whose key is not known here: it gets no further than CONNECT."""
        packet = Stream(self.tls).first()
        if packet is None:
            finish(self.tls)
        elif self.fault["step"] in ("prove", "retire"):
            self.answer(packet)
        else:  # it is not registered yet, and the broker would say so
            self.note_connect(packet)
            finish_tls(self.tls, mqtt.connack(0x87))

    def meets(self, packet):
        here = self.fault["step"] not in ("prove", "retire") and self.fault["at"] == place(packet)
        return here and self.fault["do"] != "unacknowledged"

    def swallows(self, packet):
        return self.fault["do"] == "unacknowledged" and mqtt.kind(packet) == mqtt.PUBACK

    def note_connect(self, packet):
        if mqtt.kind(packet) == mqtt.CONNECT:
            self.front.connects.append((time.time(), mqtt.client_id(packet)))

    def answer(self, packet):
        """In the broker's place; the device decides when to leave after a refusal of a single packet."""
        code = self.code()
        self.note_connect(packet)
        match self.fault["do"]:
            case "notify":
                finish_tls(self.tls)
            case "connack":
                finish_tls(self.tls, mqtt.connack(code))
            case "connack-3.1.1":
                finish_tls(self.tls, mqtt.connack_3_1_1(code))
            case "disconnect":
                finish_tls(self.tls, mqtt.disconnect(code))
            case "suback":
                self.refuse(mqtt.suback(packet, self.suback_codes(packet)))
            case "puback":
                self.refuse(mqtt.puback(packet, code))
            case "rejected":
                self.refuse(mqtt.publish(mqtt.topic(packet) + "/rejected", self.fault["payload"].encode()))
            case "oversize":
                self.refuse(mqtt.publish(mqtt.topic(packet), b'{"padding": "' + b"x" * OVERSIZE + b'"}'))
            case _:
                self.front.end(self.tls, self.fault)

    def code(self):
        return int(self.fault.get("code", "0"), 16)

    def refuse(self, packet):
        self.tls.sendall(packet)
        drain(self.tls)

    def suback_codes(self, packet):
        """`only`: the number of the one filter that is refused; `missing`: so many are not answered."""
        count = mqtt.filter_count(packet)
        refused = {self.fault["only"]} if "only" in self.fault else range(count)
        codes = [self.code() if number in refused else 0 for number in range(count)]
        return codes[: count - self.fault.get("missing", 0)]
