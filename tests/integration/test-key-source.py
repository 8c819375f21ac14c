#!/usr/bin/env python3
"""KeySource=cloud: the cloud makes the key. It ends in the TPM, the process that has seen it in the clear ends at once,
and nobody can find it anywhere afterwards."""

import base64
import json
import os
import pathlib
import signal
import subprocess

import harness
from gateway import Gateway
from parts import Cloud, Tpm

CREATE_TOPICS = ("topic/$aws/certificates/create/*", "topicfilter/$aws/certificates/create/*")


class KeySource(harness.TestCase):
    def scene(self, backend="tpm2"):
        self.cloud = Cloud(self)
        self.tpm = Tpm(self) if backend == "tpm2" else None
        policy = self.cloud.registry()["policies"]["enrolld-claim"]
        for statement in policy["Statement"]:
            resources = statement["Resource"]
            for wanted in CREATE_TOPICS:
                if isinstance(resources, list) and any(f":{wanted.split('/')[0]}/" in line for line in resources):
                    resources.append(f"arn:aws:iot:eu-central-1:123456789012:{wanted}")
        self.cloud.set_policy("enrolld-claim", policy)
        self.gateway = Gateway(self, self.cloud, self.tpm, backend)
        self.gateway.configure("fleet-claim", KeySource="cloud")

    def key_that_the_cloud_made(self):
        (path,) = (self.cloud.state / "keys").glob("*.key")
        return path.read_text()

    def assertNowhere(self, secrets):
        """In no file of the gateway, and in no living process of it."""
        places = [path for path in self.gateway.directory.rglob("*") if path.is_file()]
        found = [str(path) for path in places for secret in secrets if secret in path.read_bytes()]
        self.assertEqual(found, [])
        for pid in [self.gateway.pid(), *self.gateway.workers()]:
            for data in memory(pid):
                self.assertFalse(any(secret in data for secret in secrets), f"in the memory of process {pid}")

    def test_key_ends_in_the_tpm(self):
        self.scene()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("KeyOrigin"), "cloud")
        self.assertEqual(self.gateway.property("KeyAlgorithm"), "RSA-2048")
        self.assertEqual(self.gateway.property("KeyBackend"), "tpm2")
        self.assertIn("TSS2 PRIVATE KEY", self.gateway.read("private.pem"))
        self.assertEqual(self.gateway.check(self.gateway.state / "current")[0], 0)
        self.assertEqual(list(self.cloud.device_certificates().values()), ["ACTIVE"])
        self.assertEqual(self.gateway.signalled("Attempt")[:1], [1])
        self.assertNotIn("backoff", self.gateway.signalled("State"))
        self.assertNowhere(pieces(self.key_that_the_cloud_made()))
        self.assertEqual(self.tpm.handles("transient"), [])

    def test_process_that_saw_the_key_ends(self):
        """Registering and proving happen in another process."""
        self.scene()
        self.cloud.fault("register-thing", "delay", milliseconds=1500)
        workers = self.directory / "workers"
        wrapper = self.directory / "worker"
        wrapper.write_text(f'#!/bin/sh\necho $$ >>{workers}\nexec {harness.built("enrolld-worker")} "$@"\n')
        wrapper.chmod(0o755)
        self.gateway.extra_environment["ENROLLD_WORKER"] = str(wrapper)
        self.gateway.start()
        self.gateway.wait_signalled("Step", "register")
        self.cloud.wait_event(event="register-thing")
        first, second = workers.read_text().split()
        self.assertFalse(os.path.exists(f"/proc/{first}"), "the process that saw the key still runs")
        os.kill(int(second), signal.SIGSTOP)  # while it is searched
        self.assertNowhere(pieces(self.key_that_the_cloud_made()))
        os.kill(int(second), signal.SIGCONT)
        self.gateway.wait_provisioned()

    def test_search_finds_a_key_in_the_clear(self):
        """The software key of Backend=file is where it must be: the search above can fail."""
        self.scene("file")
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("KeyOrigin"), "cloud")
        with self.assertRaises(AssertionError):
            self.assertNowhere(pieces(self.key_that_the_cloud_made()))

    def test_power_fails_after_the_import(self):
        self.scene()
        self.cloud.fault("register-thing", "drop")
        self.gateway.configure("Agent", ThingName="gateway-%s")
        self.gateway.start()
        self.cloud.wait_event(event="register-thing")
        self.gateway.kill()
        self.reap_orphans()
        self.tpm.flush()
        self.gateway.start()
        self.gateway.wait_provisioned(60)
        self.assertEqual(list(self.cloud.device_certificates().values()), ["ACTIVE"])
        self.assertEqual(self.gateway.property("KeyOrigin"), "cloud")

    def test_reply_without_a_key(self):
        self.scene()
        self.cloud.fault("create", "amend", payload='{"privateKey": null}')
        self.gateway.start()
        error = self.gateway.wait_signalled("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["cloud-busy", "certificate"])
        self.assertIn("no private key", error[2])
        self.gateway.wait_provisioned()

    def test_key_of_another_certificate(self):
        self.scene()
        other = subprocess.run(
            ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        self.cloud.fault("create", "amend", payload=json.dumps({"privateKey": other}))
        self.gateway.start()
        error = self.gateway.wait_signalled("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["invalid", "certificate"])
        self.assertIn("another key", error[2])
        self.assertNotIn("BEGIN", error[2])
        self.gateway.wait_provisioned()

    def test_unknown_source(self):
        self.scene()
        self.gateway.configure("fleet-claim", KeySource="moon")
        self.gateway.start()
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["invalid", "configuration"])
        self.assertIn("KeySource=moon is not one of: csr cloud", error[2])
        self.assertEqual(self.cloud.events(event="connect"), [])


def pieces(pem):
    """What a search would find of a key: lines of its text, and runs of its prime numbers and exponents as bytes."""
    lines = [line for line in pem.splitlines() if line and not line.startswith("-")]
    der = base64.b64decode("".join(lines))
    return [line.encode() for line in lines[8:-2]] + [der[at : at + 24] for at in range(600, len(der) - 24, 24)]


def memory(pid):
    """The readable mappings of a process."""
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        if "r" not in rights or line.endswith(("[vvar]", "[vsyscall]")):
            continue
        start, end = (int(number, 16) for number in span.split("-"))
        if end - start > 1 << 30:  # the shadow memory of a sanitizer
            continue
        try:
            with open(f"/proc/{pid}/mem", "rb") as file:
                file.seek(start)
                yield file.read(end - start)
        except OSError:
            continue


if __name__ == "__main__":
    harness.main()
