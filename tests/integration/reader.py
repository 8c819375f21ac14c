"""What applications do beside enrolld: one reads current/ all the time, one publishes."""

import hashlib
import json
import ssl
import subprocess
import threading

from harness import DEADLINE, Process
from gateway import FILES


class Reader:
    """Opens the identity again and again, as the documentation says: `current` is resolved once, then its files are
    opened below. Whatever it finds that is no whole identity is in `faults`."""

    def __init__(self, test, gateway):
        self.current = gateway.state / "current"
        self.faults, self.pairs, self.count = [], {}, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.read_on, daemon=True)
        self.thread.start()
        test.addCleanup(self.stop)

    def read_on(self):
        while not self.ended.is_set():
            try:
                self.look(*self.read())
            except OSError as error:
                self.faults.append(str(error))
            self.count += 1

    def read(self):
        for _ in range(3):  # resolved just before its generation was removed: the next one is there already
            directory = self.current.resolve(strict=True)
            try:
                return [(directory / name).read_text() for name in FILES]
            except FileNotFoundError as error:
                missing = error
        raise missing

    def look(self, certificate, identity, private_key, root_ca):
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate[: certificate.index("-----END") + 25])).hexdigest()
        if json.loads(identity)["certificateId"] != digest or "BEGIN CERTIFICATE" not in root_ca:
            self.faults.append(f"a certificate {digest} beside {identity}")
        self.pairs[digest] = (certificate, private_key)

    def stop(self):
        self.ended.set()
        self.thread.join(DEADLINE)

    def assert_whole(self, test):
        """Each certificate that was seen belongs to the key that was seen with it."""
        self.stop()
        test.assertEqual(self.faults, [])
        for certificate, private_key in self.pairs.values():
            words = (["x509", "-noout", "-pubkey"], certificate), (["pkey", "-pubout"], private_key)
            keys = [subprocess.run(["openssl", *w], input=text, capture_output=True, text=True, check=True).stdout for w, text in words]
            test.assertEqual(keys[0], keys[1])


class Publisher:
    """mosquitto_pub with one connection, by the identity that is in use when it starts: a line is a message of QoS 1."""

    def __init__(self, test, gateway, cloud, client_id, topic):
        self.log = gateway.directory / "mosquitto_pub.log"
        words = ["-h", "localhost", "-p", str(cloud.port), "-V", "5", "-q", "1", "-i", client_id, "-t", topic, "-l"]
        words += ["--cafile", "root-ca.pem", "--cert", "certificate.pem", "--key", "private.pem"]
        self.process = Process(
            "mosquitto_pub",
            ["mosquitto_pub", *words],
            self.log,
            cwd=(gateway.state / "current").resolve(),
            stdin=subprocess.PIPE,
        )
        test.addCleanup(self.end)

    def say(self, text):
        self.process.popen.stdin.write(f"{text}\n".encode())
        self.process.popen.stdin.flush()

    def end(self):
        """What was said is acknowledged when this returns; its exit status."""
        if not self.process.popen.stdin.closed:
            self.process.popen.stdin.close()
        return self.process.wait()


class Application:
    """Publishes all the time, by one connection after the other: with follows=True it connects anew when /run/enrolld says
    that there is another identity, as the documentation tells applications to."""

    def __init__(self, test, gateway, cloud, follows):
        self.test, self.gateway, self.cloud, self.follows = test, gateway, cloud, follows
        self.thing = gateway.property("ThingName")
        self.topic = f"things/{self.thing}/data"
        self.said, self.connections, self.generation = 0, 0, self.read()
        self.ended = threading.Event()
        self.publisher, self.status = None, None
        self.thread = threading.Thread(target=self.publish, daemon=True)
        self.thread.start()
        test.addCleanup(self.ended.set)

    def read(self):
        return (self.gateway.runtime / "generation").read_text()

    def connect(self):
        self.connections += 1
        return Publisher(self.test, self.gateway, self.cloud, self.thing, self.topic)

    def publish(self):
        self.publisher = self.connect()
        while not self.ended.wait(0.02):
            if self.follows and self.read() != self.generation:
                self.generation = self.read()
                self.publisher.end()
                self.publisher = self.connect()
            self.publisher.say(str(self.said))
            self.said += 1
        self.status = self.publisher.end()  # here, as it ends with the thread that has started it

    def assert_nothing_lost(self):
        """All of it has arrived, in its order; nobody has thrown the application out."""
        self.ended.set()
        self.thread.join(DEADLINE)
        self.test.assertEqual(self.status, 0, self.publisher.log.read_text())
        heard = [event["payload"] for event in self.cloud.events(event="message", topic=self.topic)]
        self.test.assertEqual(heard, [str(number) for number in range(self.said)])
        self.test.assertEqual(len(self.cloud.events(event="connect", clientId=self.thing)), self.connections)
