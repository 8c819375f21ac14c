"""How long the agent takes to answer on D-Bus, asked all the time: what a client would feel while a job runs.

A client of its own, for a program that starts and ends with each question takes longer than the answer. The bus itself
is asked in between: on a busy machine that is the time in which nobody could have answered.
"""

import os
import socket
import struct
import threading
import time

from gateway import INTERFACE, NAME, PATH

LIMIT = 0.1  # seconds
OUTLIER = 0.5  # seconds: one answer may take that long where the machine is busy, as no wait for a TPM is that short
INTERVAL = 0.02

BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
PROPERTIES = "org.freedesktop.DBus.Properties"

# D-Bus specification, "Message Format" and "Header Fields".
METHOD_CALL, METHOD_RETURN, ERROR = 1, 2, 3
FIELD_PATH, FIELD_INTERFACE, FIELD_MEMBER, FIELD_DESTINATION, FIELD_SIGNATURE = 1, 2, 3, 6, 8


def padded(data, alignment):
    return data + bytes(-len(data) % alignment)


def string(text):
    return struct.pack("<I", len(text)) + text.encode() + b"\0"


def field(code, kind, text):
    value = bytes([len(text)]) + text.encode() + b"\0" if kind == "g" else string(text)
    return bytes([code, 1]) + kind.encode() + b"\0" + value


class Client:
    """Calls methods that take strings; says only whether they succeed."""

    def __init__(self, address):
        self.serial = 0
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(address.removeprefix("unix:path=").partition(",")[0])
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        answer = self.socket.recv(512)
        if not answer.startswith(b"OK "):
            raise AssertionError(f"the bus does not let us in: {answer}")
        self.socket.sendall(b"BEGIN\r\n")
        self.call(*BUS, "Hello")

    def close(self):
        self.socket.close()

    def send(self, destination, path, interface, member, arguments):
        self.serial += 1
        body = b""
        for text in arguments:
            body = padded(body, 4) + string(text)
        fields = b""
        for code, kind, text in (
            (FIELD_PATH, "o", path),
            (FIELD_INTERFACE, "s", interface),
            (FIELD_MEMBER, "s", member),
            (FIELD_DESTINATION, "s", destination),
            (FIELD_SIGNATURE, "g", "s" * len(arguments)),
        ):
            fields = padded(fields, 8) + field(code, kind, text)
        header = struct.pack("<cBBBIII", b"l", METHOD_CALL, 0, 1, len(body), self.serial, len(fields))
        self.socket.sendall(padded(header + fields, 8) + body)

    def read(self, size):
        data = self.socket.recv(size, socket.MSG_WAITALL) if size else b""
        if len(data) < size:
            raise AssertionError("the bus has closed the connection")
        return data

    def call(self, destination, path, interface, member, *arguments):
        """Only one call is under way at a time: the next reply is its."""
        self.send(destination, path, interface, member, arguments)
        while True:
            _, kind, _, _, body_size, _, fields_size = struct.unpack("<cBBBIII", self.read(16))
            rest = self.read(fields_size + -fields_size % 8 + body_size)
            if kind == ERROR:
                raise AssertionError(f"{member}: {rest}")
            if kind == METHOD_RETURN:
                return


class BusLatency:
    """`with BusLatency(gateway) as latency: ...; latency.check()`"""

    def __init__(self, gateway):
        self.client = Client(gateway.bus.address)
        self.longest = self.longest_of_bus = 0
        self.count = self.late = 0
        self.error = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()
        self.client.close()

    def run(self):
        try:
            while not self.ended.wait(INTERVAL):
                start = time.monotonic()
                self.client.call(*BUS, "GetId")
                middle = time.monotonic()
                self.client.call(NAME, PATH, PROPERTIES, "Get", INTERFACE, "State")
                seconds = time.monotonic() - middle
                self.longest_of_bus = max(self.longest_of_bus, middle - start)
                self.longest = max(self.longest, seconds)
                self.late += seconds > LIMIT + self.longest_of_bus
                self.count += 1
        except (AssertionError, OSError) as error:
            self.error = error

    def check(self):
        """After the end."""
        seen = f"{self.count} answers, the longest took {self.longest * 1000:.1f} ms"
        seen += f" (the bus itself: {self.longest_of_bus * 1000:.1f} ms)"
        if self.error is not None or not self.count or self.late > 1 or self.longest > OUTLIER:
            raise AssertionError(f"{seen}, {self.late} were late; {self.error}")
        return seen
