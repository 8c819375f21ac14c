#!/usr/bin/env python3
"""tests/iotcore/factory: two manufacturers, one of which is severed."""

import collections
import subprocess

import harness
from authority import Authority
from maker import certificate_id
from mqtt_client import Client
from parts import Cloud

# Some thirty calls of the aws client, each of which starts an interpreter, and the waits of six gateways.
SECONDS = 10 * harness.DEADLINE
# Those of B that run enrolld, which keeps its distance; the others are shell scripts.
ENROLLD = ("B-01", "B-02", "B-11")


class Factory(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self, "--claim-key=ecdsa", "--control-port=0", front=True)
        self.place = self.directory / "factory"

    def run_factory(self, *words):
        done = subprocess.run(
            [harness.SOURCE_DIR / "tests/iotcore/factory", *words, self.place, self.cloud.directory],
            env=self.cloud.operator_environment() | {"BUILD": str(harness.BUILD_DIR)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def id_of(self, name):
        return certificate_id((self.place / f"{name}.pem").read_text())

    def test_one_is_severed(self):
        said = self.run_factory()
        for text in ("A: 10 certificates are REVOKED", "none of the ten of A is let in", "A-11 is refused",
                     "the connection of A-03 is ended", "the connection of B-03 has lasted",
                     "B: 11 certificates are ACTIVE", "A-01 is let in"):  # fmt: skip
            self.assertIn(text, said)
        self.assertNotRegex(said, r"(?m): $")
        registry = self.cloud.registry()
        statuses = {key: authority["status"] for key, authority in registry["authorities"].items()}
        self.assertEqual(statuses, {self.id_of("A"): "INACTIVE", self.id_of("B"): "ACTIVE"})
        found = collections.Counter(
            (certificate["caCertificateId"], certificate["status"], *certificate["policies"])
            for key, certificate in registry["certificates"].items()
            if key != self.cloud.claim_id
        )
        policy = "enrolld-device"
        self.assertEqual(found, {(self.id_of("A"), "REVOKED", policy): 10, (self.id_of("B"), "ACTIVE", policy): 12})
        names = [f"{maker}-{number:02}" for maker in "AB" for number in range(1, 11)]
        self.assertEqual(sorted(registry["things"]), sorted([*names, "B-11"]))
        for name in names[1:]:
            self.assertEqual(list(self.cloud.certificates_of(name)), [self.id_of(name)])
        # A-01 has been brought back, and has a certificate of each.
        self.assertEqual(sorted(self.cloud.certificates_of("A-01").values()), ["ACTIVE", "REVOKED"])
        self.assertEqual(self.cloud.certificates_of("A-01")[self.id_of("A-01")], "ACTIVE")
        # Why a new gateway of A was refused, and that none of B ever was but at its first connection.
        late = self.cloud.events(event="refused", certificateId=self.id_of("A-11"))
        self.assertEqual({event["unregistered"] for event in late}, {"the authority is not ACTIVE"})
        for name in [name for name in registry["things"] if name.startswith("B")]:
            refused = self.cloud.events(event="refused", certificateId=self.id_of(name))
            reasons = {event["reason"] for event in refused}
            if name not in ENROLLD:
                reasons -= {"more than one CONNECT per second"}
            self.assertEqual(reasons, {"PENDING_ACTIVATION"}, name)

    def test_clean(self):
        """With fewer gateways than the factory makes: each costs the aws client four calls. B was never registered, and
        one of A's certificates has been revoked."""
        self.place.mkdir()
        authority = Authority(self.place, "A")
        Authority(self.place, "B")
        self.cloud.register_authority(authority.path, template=Cloud.jitp_template())
        found = []
        for name in ("A-01", "A-02"):
            found.append(certificate_id(authority.device(name)))
            path = self.place / name
            client = Client(self, self.cloud, name, f"{path}.pem", f"{path}.key")
            self.assertNotEqual(client.connected(), 0)
            self.cloud.wait_event(event="jitp", certificateId=found[-1], result="provisioned")
        self.cloud.set_certificate(found[0], "REVOKED")
        self.assertEqual(sorted(self.cloud.registry()["things"]), ["A-01", "A-02"])
        self.assertIn("thing A-02 is deleted", self.run_factory("clean"))
        registry = self.cloud.registry()
        self.assertEqual(registry["authorities"], {})
        self.assertEqual(list(registry["certificates"]), [self.cloud.claim_id])
        self.assertEqual(registry["things"], {})
        self.run_factory("clean")


if __name__ == "__main__":
    harness.main()
