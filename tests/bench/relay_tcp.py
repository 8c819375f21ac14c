"""A TCP relay on loopback that holds back every byte for a chosen time, as a long way to the cloud does, and keeps
the moments at which something passed. The bytes stay encrypted: nothing here knows what they say."""

import asyncio
import dataclasses
import socket
import threading
import time

from harness import wait_for

# The extension supported_versions of a ServerHello that chose TLS 1.3 (RFC 8446, 4.2.1).
TLS13_CHOSEN = bytes.fromhex("002b00020304")


@dataclasses.dataclass
class Chunk:
    """Bytes that came in one piece. Times are of time.monotonic()."""

    arrived: float
    delivered: float


@dataclasses.dataclass
class Connection:
    accepted: float
    tls13: bool = False
    closed: bool = False
    up: list = dataclasses.field(default_factory=list)  # from the device
    down: list = dataclasses.field(default_factory=list)  # from the cloud

    def last_answer(self):
        """When the device got the last answer after which it said something itself. On a connection that is there
        for the proof only, this is the CONNACK: what follows is DISCONNECT."""
        return max(chunk.delivered for chunk in self.down if chunk.delivered <= self.up[-1].arrived)

    def cloud_time(self):
        """Seconds from each question's delivery to the cloud until its answer, all together."""
        asked = [(chunk.delivered, True) for chunk in self.up]
        moments = sorted(asked + [(chunk.arrived, False) for chunk in self.down])
        pairs = zip(moments, moments[1:])
        return sum(later - earlier for (earlier, ask), (later, ask_again) in pairs if ask and not ask_again)


class TcpRelay:
    """Listens on 127.0.0.1:`port` when the constructor returns, and connects to the port `target` there."""

    def __init__(self, scene, target):
        self.target = target
        self.delay = 0  # seconds, for each direction
        self.connections = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self.stopped = asyncio.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[self.serve()], daemon=True)
        self.thread.start()
        scene.addCleanup(self.close)

    def close(self):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()
        self.loop.close()

    def take(self):
        """The connections since the last call, once all are closed."""
        wait_for("the device has closed its connections", lambda: all(c.closed for c in self.connections))
        taken, self.connections = self.connections, []
        return taken

    async def serve(self):
        server = await asyncio.start_server(self.relay, sock=self.socket)
        await self.stopped.wait()
        server.close()

    async def relay(self, device_reader, device_writer):
        connection = Connection(time.monotonic())
        self.connections.append(connection)
        cloud_reader, cloud_writer = await asyncio.open_connection("127.0.0.1", self.target)
        for writer in (device_writer, cloud_writer):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(
            self.pump(device_reader, cloud_writer, connection, connection.up),
            self.pump(cloud_reader, device_writer, connection, connection.down),
        )
        connection.closed = True

    async def pump(self, reader, writer, connection, chunks):
        """One direction. Reading goes on while earlier bytes are held back: a delay, not a bottleneck."""
        held = asyncio.Queue()
        delivery = asyncio.create_task(self.deliver(held, writer, chunks))
        data = None
        while data != b"":
            try:
                data = await reader.read(65536)
            except ConnectionError:
                data = b""
            connection.tls13 = connection.tls13 or TLS13_CHOSEN in data
            held.put_nowait((time.monotonic(), data))
        await delivery

    async def deliver(self, held, writer, chunks):
        while True:
            arrived, data = await held.get()
            wait = arrived + self.delay - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            if not data:
                break
            writer.write(data)
            chunks.append(Chunk(arrived, time.monotonic()))
        writer.close()
