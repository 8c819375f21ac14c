#!/usr/bin/env python3
"""Each kind of key that [Key] Algorithm= names, from the making to the proof."""

import subprocess

import harness
from gateway import Gateway
from parts import Bus, Cloud, Tpm

# What stock OpenSSL says about the certificate's key.
WORDS = {
    "P-256": "NIST CURVE: P-256",
    "P-384": "NIST CURVE: P-384",
    "RSA-2048": "Public-Key: (2048 bit)",
    "RSA-3072": "Public-Key: (3072 bit)",
}


class Keys(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.bus = Bus(self)
        self.tpm = None

    def openssl(self, *words):
        done = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=harness.DEADLINE)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def provision(self, algorithm, backend):
        """A gateway of its own for each key, one after the other; returns it."""
        name = f"{backend}-{algorithm}"
        gateway = Gateway(self, self.cloud, self.tpm, backend, self.bus, name, serial=name)
        gateway.configure("Key", Algorithm=algorithm)
        gateway.start()
        gateway.wait_provisioned()
        identity = gateway.identity()
        self.assertEqual(identity["keyAlgorithm"], algorithm)
        self.assertEqual(identity["keyBackend"], backend)
        self.assertEqual(gateway.property("KeyAlgorithm"), algorithm)
        self.assertEqual(gateway.property("KeyOrigin"), {"tpm2": "tpm", "file": "file"}[backend])
        text = self.openssl("x509", "-in", gateway.state / "current/certificate.pem", "-noout", "-text")
        self.assertIn(WORDS[algorithm], text)
        certificates = self.cloud.things()[self.cloud.thing_name(name)]
        self.assertEqual(certificates, [identity["certificateId"]])
        return gateway

    def test_in_the_tpm(self):
        self.tpm = Tpm(self)
        for algorithm in WORDS:
            with self.subTest(algorithm):
                gateway = self.provision(algorithm, "tpm2")
                self.assertIn("BEGIN TSS2 PRIVATE KEY", gateway.read("private.pem"))
                self.assertEqual(gateway.stop(), 0)
                status, text = gateway.check(gateway.state / "current")
                self.assertEqual(status, 0, text)
                self.assertEqual(self.tpm.handles("transient"), [])
                self.assertEqual(self.tpm.handles("loaded-session"), [])

    def test_in_files(self):
        for algorithm in WORDS:
            with self.subTest(algorithm):
                gateway = self.provision(algorithm, "file")
                self.assertEqual(
                    self.openssl("pkey", "-in", gateway.state / "current/private.pem", "-pubout"),
                    self.openssl("x509", "-in", gateway.state / "current/certificate.pem", "-noout", "-pubkey"),
                )
                self.assertEqual(gateway.stop(), 0)
                status, text = gateway.check(gateway.state / "current")
                self.assertEqual(status, 0, text)

    def test_another_algorithm_leaves_the_identity(self):
        """The setting is for the next key that is made."""
        gateway = self.provision("P-384", "file")
        before = gateway.identity()
        self.assertEqual(gateway.stop(), 0)
        gateway.configure("Key", Algorithm="RSA-2048")
        gateway.start()
        gateway.wait_provisioned()
        self.assertNotIn("enrolling", gateway.signalled("State"))
        self.assertEqual(gateway.identity(), before)
        self.assertEqual(gateway.property("KeyAlgorithm"), "P-384")


if __name__ == "__main__":
    harness.main()
