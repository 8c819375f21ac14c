#!/usr/bin/env python3
"""tests/iotcore/walkthrough: what it says is what happens in the cloud."""

import subprocess

import harness
from maker import certificate_id
from parts import Cloud

# Some twenty calls of the aws client, each of which starts an interpreter, and the waits of three gateways.
SECONDS = 8 * harness.DEADLINE


class Walkthrough(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self, "--claim-key=ecdsa", "--control-port=0", front=True)
        self.place = self.directory / "walk"

    def walk(self, *words):
        environment = self.cloud.operator_environment() | {"BUILD": str(harness.BUILD_DIR)}
        done = subprocess.run(
            [harness.SOURCE_DIR / "tests/iotcore/walkthrough", *words, self.place, self.cloud.directory],
            env=environment,
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

    def refusals(self, name):
        """Why nothing was registered, at each refusal of that gateway in their order; None where something was."""
        refused = self.cloud.events(event="refused", certificateId=self.id_of(name))
        return [event.get("unregistered") for event in refused]

    def test_two_authorities(self):
        said = self.walk()
        for text in (
            "walkthrough-1 is let in",
            "walkthrough-2 is refused",
            "refused, as it should be: CertificateStateException",
            "walkthrough-2 is let in",
            "walkthrough-1 is still let in",
            "walkthrough-3 is refused",
        ):
            self.assertIn(text, said)
        registry = self.cloud.registry()
        first, second = self.id_of("CA1"), self.id_of("CA2")
        statuses = {key: authority["status"] for key, authority in registry["authorities"].items()}
        self.assertEqual(statuses, {first: "INACTIVE", second: "ACTIVE"})
        devices = {
            key: (value["status"], value["caCertificateId"], list(value["things"]))
            for key, value in registry["certificates"].items()
            if key != self.cloud.claim_id
        }
        expected = {
            self.id_of("walkthrough-1"): ("ACTIVE", first, ["walkthrough-1"]),
            self.id_of("walkthrough-2"): ("ACTIVE", second, ["walkthrough-2"]),
        }
        self.assertEqual(devices, expected)
        inactive = "the authority is not ACTIVE"
        self.assertEqual(self.refusals("walkthrough-2")[:2], 2 * [inactive])
        self.assertEqual(set(self.refusals("walkthrough-3")), {inactive})
        self.assertEqual(set(self.refusals("walkthrough-1")), {None})
        topics = [event["topic"] for event in self.cloud.events(event="message")]
        self.assertEqual(topics, [f"things/walkthrough-{number}/hello" for number in (1, 2, 1)])
        self.walk("clean")
        registry = self.cloud.registry()
        self.assertEqual(registry["authorities"], {})
        self.assertEqual(list(registry["certificates"]), [self.cloud.claim_id])
        self.assertEqual(registry["things"], {})


if __name__ == "__main__":
    harness.main()
