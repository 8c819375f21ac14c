"""Somebody on the path between the device and the cloud: passes TLS records on, and does to a connection what anybody can
do who has no key of either side."""

import enum
import socket
import struct
import threading

from harness import DEADLINE
from parts import free_port

RECORD_HEADER = 5  # type, version, length (RFC 8446 section 5.1)
HANDSHAKE, APPLICATION_DATA, ALERT = 22, 23, 21
WARNING, FATAL = 1, 2
CLOSE_NOTIFY = 0
# All descriptions that there have been (IANA, "TLS Alerts").
ALERTS = (0, 10, 20, 21, 22, 30, *range(40, 52), 60, 70, 71, 80, 86, 90, 100, 109, *range(110, 117), 120, 121)


def alert_record(level, description):
    return struct.pack(">BHHBB", ALERT, 0x0303, 2, level, description)


class End(enum.Enum):
    """How the attacker leaves."""

    PASS = "goes on"
    FIN = "FIN"
    RST = "RST"
    SILENCE = "silence"


class Attack:
    """What happens when so many records of the server (0: when the client has spoken) have been passed on: bytes that
    are added, and the end. cloud: whether the cloud is asked at all."""

    def __init__(self, name, after=0, extra=b"", end=End.FIN, cloud=True):
        self.name = name
        self.after = after
        self.extra = extra
        self.end = end
        self.cloud = cloud


class Attacker:
    """Listens in place of the cloud; without an attack it only passes bytes on."""

    def __init__(self, test, cloud_port):
        self.cloud_port = cloud_port
        self.attack = None
        self.next_attacks = []  # one for each of the next connections, before `attack`
        self.own_server = None
        self.connections = 0
        self.arrived = threading.Condition()
        self.sockets = set()
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        test.addCleanup(self.close)

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.arrived:
                self.connections += 1
                self.arrived.notify_all()
            attack = self.next_attacks.pop(0) if self.next_attacks else self.attack
            threading.Thread(target=self.meet, args=(client, attack), daemon=True).start()

    def impersonate(self, context, words):
        """From now on it is a TLS server by itself, which answers the client's first words with these."""
        self.own_server = context, words

    def wait_connections(self, count):
        """Until so many connections have come."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: self.connections >= count, 2 * DEADLINE):
                raise AssertionError(f"{self.connections} connections, not {count}")

    def meet(self, client, attack):
        self.sockets.add(client)
        server = None
        try:
            client.recv(1, socket.MSG_PEEK)  # its first word has come
            if self.own_server is not None:
                context, words = self.own_server
                with context.wrap_socket(client, server_side=True) as session:
                    session.recv(1)
                    session.sendall(words)
                return
            if attack is None or attack.cloud:
                server = socket.create_connection(("127.0.0.1", self.cloud_port))
                self.sockets.add(server)
                threading.Thread(target=self.pass_on, args=(client, server), daemon=True).start()
            if attack is None:
                self.pass_on(server, client)
            else:
                self.strike(client, server, attack)
        except OSError:
            pass  # either side has left

    @staticmethod
    def pass_on(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    @staticmethod
    def receive(server, size):
        data = b""
        while len(data) < size:
            piece = server.recv(size - len(data))
            if not piece:
                raise OSError("the server has left")
            data += piece
        return data

    def strike(self, client, server, attack):
        for _ in range(attack.after):
            header = self.receive(server, RECORD_HEADER)
            client.sendall(header + self.receive(server, int.from_bytes(header[3:], "big")))
        if attack.extra:
            client.sendall(attack.extra)
        self.leave(client, server, attack.end)

    def leave(self, client, server, end):
        match end:
            case End.PASS:
                self.pass_on(server, client)
            case End.FIN:
                client.shutdown(socket.SHUT_WR)
            case End.RST:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.shutdown(socket.SHUT_RD)  # ends the other thread's recv(), or nothing would be closed
                client.close()
            case End.SILENCE:
                pass

    def close(self):
        # shutdown() wakes the thread in accept(), which close() would not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(DEADLINE)
        self.listener.close()
        for one in self.sockets:
            one.close()
