#!/usr/bin/env python3
"""Only what the cloud says inside an authenticated session is a refusal. Whatever somebody on the path does is the class
`network`: the certificate that is held is kept, and no other is asked for."""

import itertools
import os
import ssl
import subprocess

import harness
from attacker import ALERTS, CLOSE_NOTIFY, FATAL, WARNING, Attack, Attacker, End, alert_record
from gateway import Gateway
from parts import Cloud

OPENSSL_CONFIGURATION = """openssl_conf = all
[all]
ssl_conf = tls
[tls]
system_default = versions
[versions]
MinProtocol = {version}
MaxProtocol = {version}
"""
# The server's records until the session stands and its first own words in it: 7 in TLS 1.3 and 2 tickets, 8 in TLS 1.2.
RECORDS = 10
IN_SESSION = 8
# An orderly end, a note and a failure that would refuse the client's certificate.
SOME_ALERTS = ((WARNING, CLOSE_NOTIFY), (WARNING, 46), (FATAL, 46))
GARBAGE = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


class OnThePath(harness.TestCase):
    def begin(self, version="TLSv1.3"):
        # Attempts follow each other faster than the cloud would take them, which it would say in the session.
        self.cloud = Cloud(self, "--connect-rate=off")
        self.cloud.stop()
        configuration = self.directory / "openssl.cnf"
        configuration.write_text(OPENSSL_CONFIGURATION.format(version=version))
        os.environ["OPENSSL_CONF"] = str(configuration)
        self.addCleanup(os.environ.pop, "OPENSSL_CONF", None)
        self.cloud.start()
        del os.environ["OPENSSL_CONF"]
        self.attacker = Attacker(self, self.cloud.port)
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.gateway.configure("Cloud", Port=self.attacker.port)


class Claim(OnThePath):
    """One attempt by hand per attack, at its first connection."""

    def setUp(self):
        super().setUp()
        self.number = 0

    def enroll(self):
        self.number += 1
        directory = self.gateway.directory / f"identity-{self.number}"
        done = subprocess.run(
            [harness.built("enrolld-worker"), "enroll", f"--config={self.gateway.configuration}"]
            + [f"--directory={directory}"],
            env=self.gateway.environment(),
            capture_output=True,
            text=True,
            timeout=2 * harness.DEADLINE,
        )
        return done.stderr

    def assertNetwork(self, attack):
        self.attacker.attack = attack
        with self.subTest(attack=attack.name):
            self.assertRegex(self.enroll(), r"^failed \(network\) at step (claim|certificate): ")

    def each_attack(self):
        for description, after in itertools.product(ALERTS, (0, IN_SESSION)):
            yield Attack(f"alert {description} after {after} records", after, alert_record(FATAL, description))
        for after in range(RECORDS):
            for end in (End.FIN, End.RST):
                yield Attack(f"{end.value} after {after} records", after, b"", end)
            yield Attack(f"garbage after {after} records", after, GARBAGE)
            for level, description in SOME_ALERTS:
                name = f"alert {description}, level {level}, after {after} records, RST"
                yield Attack(name, after, alert_record(level, description), End.RST)
        for end in (End.FIN, End.RST):
            yield Attack(f"{end.value} without asking the cloud", 0, b"", end, cloud=False)

    def assertAttacksAreTheNetwork(self, version):
        self.begin(version)
        for attack in self.each_attack():
            self.assertNetwork(attack)
        # At most asked for before the connection ended, never registered.
        self.assertLessEqual(set(self.cloud.device_certificates().values()), {"PENDING_ACTIVATION"})
        self.attacker.attack = None
        self.assertEqual(self.enroll(), "")

    def test_tls_1_3(self):
        self.assertAttacksAreTheNetwork("TLSv1.3")

    def test_tls_1_2(self):
        self.assertAttacksAreTheNetwork("TLSv1.2")

    def test_server_of_the_attacker(self):
        """A whole TLS session, but with a certificate of the attacker's; it would even say `not authorized`."""
        self.begin()
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        words = [*make.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", "own.key", "-out", "own.pem"]
        subprocess.run(words, check=True, capture_output=True, cwd=self.directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "own.pem", self.directory / "own.key")
        self.attacker.impersonate(context, b"\x20\x03\x00\x87\x00")
        self.assertRegex(self.enroll(), r"^failed \(network\) at step claim: .*RootCA=")


class Device(OnThePath):
    """The daemon over many attempts."""

    ATTACKS = (
        Attack("RST at once", 0, b"", End.RST),
        Attack("FIN at once", 0, b"", End.FIN),
        Attack("access_denied at once", 0, alert_record(FATAL, 49)),
        Attack("certificate_unknown in the session", IN_SESSION, alert_record(FATAL, 46)),
        Attack("close_notify in the session", IN_SESSION, alert_record(WARNING, CLOSE_NOTIFY)),
        Attack("FIN in the session", IN_SESSION, b"", End.FIN),
        Attack("RST in the session", IN_SESSION, b"", End.RST),
    )

    def asked(self):
        return len(self.cloud.events(event="create-from-csr"))

    def test_proof(self):
        """It is left with a registered certificate that it cannot prove."""
        self.begin()
        self.gateway.configure("Retry", Propagation="1s")
        self.cloud.edit(fault={"operation": "register-thing", "action": "delay", "milliseconds": 1000})
        self.gateway.start()
        self.cloud.wait_event(event="register-thing", result="accepted")
        ((certificate, status),) = self.cloud.device_certificates().items()
        self.assertEqual(status, "ACTIVE")
        for attack in self.ATTACKS:
            with self.subTest(attack=attack.name):
                self.attacker.attack = attack
                # The first may still be one that came before this attack began.
                self.attacker.wait_connections(self.attacker.connections + 2)
                self.assertEqual(self.asked(), 1)
        self.gateway.wait_signalled("LastError", lambda error: error[:2] == ["network", "prove"])
        # While it is asked again within an attempt the class is `not-yet`.
        classes = {error[0] for error in self.gateway.signalled("LastError")}
        self.assertEqual(classes - {"", "not-yet"}, {"network"})
        self.attacker.attack = None
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("CertificateId"), certificate)
        self.assertEqual(self.cloud.device_certificates(), {certificate: "ACTIVE"})

    def test_provisioned(self):
        """Nobody on the path is asked whether the identity is good."""
        self.begin()
        self.gateway.start()
        self.gateway.wait_provisioned()
        before = self.gateway.identity()
        connections = self.attacker.connections
        for attack in self.ATTACKS:
            self.attacker.attack = attack
            self.assertEqual(self.gateway.stop(), 0)
            self.gateway.start()
            self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.identity(), before)
        self.assertEqual((self.attacker.connections, self.asked()), (connections, 1))


if __name__ == "__main__":
    harness.main()
