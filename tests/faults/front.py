"""A front before the cloud's port, to which the gateway connects. It carries bytes to the broker and back, or does what
no broker can be asked to do: below TLS what anyone on the path could, inside TLS (session.py) what the cloud itself
could.

A fault is a dictionary:
    step  "prove" meets the connections with the new certificate, "retire" those after it is in use, all others those
          with the claim, or in a renewal with the identity in use
    at    tcp             in place of accepting the connection, or at once after it
          hello           after the ClientHello
          handshake       inside the server's first flight
          connect, subscribe, create, register
                          when the device has sent that packet, which the broker never sees
          create-reply, register-reply
                          when the broker answers a request, which it has fulfilled by then
    do    refuse          nobody listens
          reset           RST
          close           FIN; inside TLS without close_notify
          silence         nothing, for as long as the fault is armed
          alert           below TLS: a fatal alert with number `code`
          garbage         bytes of another protocol
          slow            all bytes go through, so many `bytes` each `milliseconds`
          flip            one bit is changed of what goes `up` or `down` once MQTT stands
          server          TLS with the certificate server-NAME.pem, NAME in `certificate`
          distrust        a server that does not know who issued the client's certificate: a true alert. `tls`: "1.2"
          notify          close_notify and FIN
          connack, connack-3.1.1, suback, puback, disconnect
                          that packet, with reason code `code`, as hexadecimal text
          rejected        the text `payload` on the topic of rejections
          oversize        a reply that is larger than any message of AWS IoT
          unacknowledged  all goes through but the PUBACK"""

import select
import socket
import ssl
import threading
import time

from ends import drain, finish, reset
from harness import DEADLINE
from parts import free_port
from session import Session

BELOW_TLS = ("tcp", "hello", "handshake")


class Front:
    """port: where the gateway connects to."""

    def __init__(self, test, cloud):
        self.cloud = cloud
        self.port = free_port()
        self.set_asker(cloud.claim_certificate, cloud.claim_key)
        self.committed = lambda: False  # whether the new certificate is in use
        self.before = 0  # registrations before the fault was armed
        self.fault = None
        self.connects = []  # (seconds since the epoch, client id) of each CONNECT that the broker has not seen
        self.errors = []  # what went wrong in here
        self.held = []  # connections that are left without an answer
        self.lock = threading.Lock()
        self.listener = None
        test.addCleanup(self.stop)
        self.listen()

    def set_asker(self, certificate, key):
        """Files of the identity that asks for certificates."""
        self.asker = (certificate, key)
        self.asker_der = ssl.PEM_cert_to_DER_cert(certificate.read_text())

    def arm(self, fault):
        self.before = len(self.registrations())
        self.fault = fault
        if fault["do"] == "refuse" and phase_of(fault) == "ask":
            self.refuse()

    def lift(self):
        """From now on all is well. Who still waits for an answer is told that there will be none."""
        with self.lock:
            self.fault = None
            held, self.held = self.held, []
            if self.listener is None:
                self.listen()
        for connection in held:
            reset(connection)

    def stop(self):
        self.lift()
        self.refuse()

    def listen(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen()
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def refuse(self):
        """Who connects from now on is refused: shutdown() ends the listening, and accept()."""
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def accept(self, listener):
        while True:
            try:
                device, _ = listener.accept()
            except OSError:
                return
            device.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(device,), daemon=True).start()

    def serve(self, device):
        try:
            self.choose(device, self.fault)
        except OSError:  # device or broker may leave at any moment
            device.close()
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(repr(error))
            device.close()

    def registrations(self):
        return self.cloud.events(event="register-thing", result="accepted")

    def phase(self):
        """Whether connections have the new certificate from now on, and whether it is in use."""
        if self.committed():
            return "retire"
        return "prove" if len(self.registrations()) > self.before else "ask"

    def choose(self, device, fault):
        if fault is None or phase_of(fault) != self.phase() or fault["do"] == "refuse":
            self.relay(device)
        elif fault["do"] in ("slow", "flip"):
            self.relay(device, fault)
        elif fault["do"] in ("server", "distrust") or fault["at"] not in BELOW_TLS:
            Session(self, device, fault).serve()
        else:
            self.break_off(device, fault)

    def upstream(self):
        broker = socket.create_connection(("127.0.0.1", self.cloud.port), DEADLINE)
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return broker

    def relay(self, device, fault=None):
        """Carries bytes until one side has ended."""
        connects = len(self.cloud.events(event="connect"))
        with device, self.upstream() as broker:
            while True:
                for source in select.select([device, broker], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    way = "up" if source is device else "down"
                    if way == "down":
                        self.refuse_proof()
                    if fault is not None and fault["do"] == "flip" and fault["way"] == way:
                        if len(self.cloud.events(event="connect")) > connects:
                            data = data[:-1] + bytes([data[-1] ^ 1])
                    carry(data, broker if way == "up" else device, fault)

    def refuse_proof(self):
        """Nobody listens any more before the device can know that it is registered."""
        fault = self.fault
        later = fault is not None and fault["do"] == "refuse" and phase_of(fault) != "ask"
        if later and phase_of(fault) == self.phase():
            self.refuse()

    def break_off(self, device, fault):
        """Below TLS."""
        if fault["at"] != "tcp":
            hello = device.recv(65536)
            if fault["at"] == "handshake":
                with self.upstream() as broker:
                    broker.sendall(hello)
                    device.sendall(first_part(broker.recv(65536), fault))
        self.end(device, fault)

    def end(self, device, fault):
        """Below TLS and inside of it."""
        match fault["do"]:
            case "reset":
                reset(device)
            case "close":
                finish(device)
            case "silence":
                self.hold(device)
            case "alert":  # a record of TLS 1.2, which 1.3 imitates: fatal (2), and the code (RFC 8446, section 5.1)
                finish(device, bytes([21, 3, 3, 0, 2, 2, fault["code"]]))
            case "garbage":
                device.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n" + b"<p>" * 100)
                drain(device)
            case other:
                raise ValueError(f"no such fault: {other} at {fault['at']}")

    def hold(self, device):
        with self.lock:
            if self.fault is not None:
                self.held.append(device)
                return
        reset(device)


def phase_of(fault):
    return fault["step"] if fault["step"] in ("prove", "retire") else "ask"


def first_part(flight, fault):
    """A piece of the server's first record; all of it where another one follows."""
    whole = 5 + int.from_bytes(flight[3:5], "big")
    return flight[: whole if fault["do"] == "alert" else 40]


def carry(data, sink, fault):
    if fault is None or fault["do"] != "slow":
        sink.sendall(data)
        return
    for start in range(0, len(data), fault["bytes"]):
        sink.sendall(data[start : start + fault["bytes"]])
        time.sleep(fault["milliseconds"] / 1000)
