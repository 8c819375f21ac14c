#!/usr/bin/env python3
"""From nothing to an identity, and what is there afterwards."""

import json
import socket
import stat
import subprocess
import time

import harness
from gateway import FILES, Gateway
from parts import Cloud, Tpm


def mode(path):
    return oct(stat.S_IMODE(path.lstat().st_mode))


class Provision(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)

    def provision(self, backend="tpm2"):
        self.tpm = Tpm(self) if backend == "tpm2" else None
        self.gateway = Gateway(self, self.cloud, self.tpm, backend)
        self.gateway.start()
        self.gateway.wait_provisioned()
        return self.gateway

    def check_properties(self, backend, origin):
        gateway = self.gateway
        identity = gateway.identity()
        expected = {
            "State": "provisioned",
            "Method": "fleet-claim",
            "Step": "",
            "NextAttempt": 0,
            "LastError": ["", "", "", 0],
            "ThingName": self.cloud.thing_name("GW-0001"),
            "CertificateId": identity["certificateId"],
            "Generation": 1,
            "KeyBackend": backend,
            "KeyOrigin": origin,
            "RenewAfter": 0,
            "Endpoints": ["localhost"],
            "CredentialDirectory": str(gateway.state / "current"),
        }
        self.assertEqual({name: gateway.property(name) for name in expected}, expected)
        self.assertLessEqual(gateway.property("NotBefore"), time.time() * 1000000)
        self.assertEqual(gateway.property("NotAfter") // 1000000, self.cloud.not_after(identity["certificateId"]))

    def test_tpm_key(self):
        gateway = self.provision()
        self.check_properties("tpm2", "tpm")
        self.assertIn("BEGIN TSS2 PRIVATE KEY", gateway.read("private.pem"))
        self.assertNoPlainKey()
        self.assertEqual(self.tpm.handles("transient"), [])
        self.assertEqual(self.tpm.handles("loaded-session"), [])

    def test_file_key(self):
        gateway = self.provision("file")
        self.check_properties("file", "file")
        self.assertIn("BEGIN PRIVATE KEY", gateway.read("private.pem"))
        self.assertIn("nothing protects it", gateway.enrollctl("status").stdout)
        # Stock tools can use it.
        keys = [
            subprocess.run(["openssl", *words], capture_output=True, text=True, check=True).stdout
            for words in (
                ("pkey", "-in", gateway.state / "current/private.pem", "-pubout"),
                ("x509", "-in", gateway.state / "current/certificate.pem", "-noout", "-pubkey"),
            )
        ]
        self.assertEqual(*keys)

    def assertNoPlainKey(self):
        for path in self.gateway.files():
            lines = path.read_text(errors="replace").splitlines()
            keys = [line for line in lines if line.startswith("-----BEGIN") and "PRIVATE KEY" in line]
            self.assertIn(keys, ([], ["-----BEGIN TSS2 PRIVATE KEY-----"]), path)

    def test_files(self):
        gateway = self.provision()
        state = gateway.state
        generation = state / "generations/1"
        self.assertEqual(str((state / "current").readlink()), "generations/1")
        self.assertEqual(sorted(path.name for path in generation.iterdir()), sorted(FILES))
        self.assertEqual({path.name: mode(path) for path in generation.iterdir()}, dict.fromkeys(FILES, "0o640"))
        self.assertEqual(mode(generation), "0o750")
        self.assertEqual(mode(state), "0o711")
        self.assertEqual(list(state.glob("incoming/*")), [])
        self.assertFalse((state / "retry").exists())
        self.assertFalse((state / "current.new").is_symlink())
        status, text = gateway.check(state / "current")
        self.assertEqual(status, 0, text)

    def test_registry(self):
        gateway = self.provision()
        identity = gateway.identity()
        self.assertEqual(self.cloud.things(), {identity["thingName"]: [identity["certificateId"]]})
        self.assertEqual(self.cloud.device_certificates(), {identity["certificateId"]: "ACTIVE"})
        self.assertEqual(len(self.cloud.events(event="register-thing")), 1)

    def test_second_start_opens_no_connection(self):
        gateway = self.provision()
        self.assertEqual(gateway.stop(), 0)
        before = gateway.identity()
        self.cloud.stop()
        listener = self.listen_in_place_of_the_cloud()
        gateway.start()
        gateway.wait_provisioned()
        self.assertEqual(gateway.signalled("State")[-1], "provisioned")
        self.assertNotIn("enrolling", gateway.signalled("State"))
        self.assertEqual(gateway.property("Attempt"), 0)
        self.assertEqual(gateway.property("CertificateId"), before["certificateId"])
        self.assertEqual(gateway.stop(), 0)
        with self.assertRaises(BlockingIOError, msg="somebody has connected"):
            listener.accept()

    def listen_in_place_of_the_cloud(self):
        """The kernel keeps each connection until accept(), also one that is closed again."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.cloud.port))
        listener.listen()
        listener.setblocking(False)
        return listener

    def test_configuration_that_is_too_large(self):
        """What no worker could be given is refused beforehand."""
        gateway = Gateway(self, self.cloud, backend="file")
        gateway.configure("fleet-claim", **{f"Parameter_P{number}": 150 * "x" for number in range(350)})
        done = subprocess.run(
            [harness.built("enrolld"), "--check-config", f"--config={gateway.configuration}"],
            env=gateway.environment(),
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("at most 64 KiB", done.stderr)
        gateway.start()
        error = gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["invalid", "configuration"], error)

    def test_enrollctl_status(self):
        gateway = self.provision()
        done = gateway.enrollctl("status")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertNotIn("\033", done.stdout)
        for word in ("provisioned", self.cloud.thing_name("GW-0001"), "localhost", "made in the TPM", "generation 1"):
            self.assertIn(word, done.stdout)
        done = gateway.enrollctl("status", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        status = json.loads(done.stdout)
        self.assertIsNone(status.pop("LastError"))
        self.assertEqual(status.pop("Methods"), [{"Name": "fleet-claim", "Outcome": "done", "Message": ""}])
        self.assertEqual({name: gateway.property(name) for name in status}, status)
        self.assertEqual(len(status), 18)

    def test_enrollctl_exit_codes(self):
        gateway = self.provision()
        self.assertEqual(gateway.enrollctl("wait", "--timeout=5").returncode, 0)
        done = gateway.enrollctl("enroll")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("enrollctl status", done.stderr)
        for words in ((), ("nonsense",), ("status", "--timeout=1"), ("wait", "--timeout=soon"), ("status", "more")):
            self.assertEqual(gateway.enrollctl(*words).returncode, 2, words)
        self.assertEqual(gateway.enrollctl("--help").returncode, 0)
        gateway.stop()
        self.assertEqual(gateway.enrollctl("status").returncode, 5)
        self.assertEqual(gateway.enrollctl("enroll").returncode, 5)
        self.assertEqual(gateway.enrollctl("wait", "--timeout=0").returncode, 4)

    def test_enrollctl_not_provisioned(self):
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        gateway = Gateway(self, self.cloud, backend="file")
        gateway.start()
        gateway.wait_property("State", "failed")
        done = gateway.enrollctl("status")
        self.assertEqual(done.returncode, 3, done.stderr)
        for word in ("failed", "denied", "register", "Attempt:", "Next attempt: in "):
            self.assertIn(word, done.stdout)
        done = gateway.enrollctl("status", "--json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["LastError"]["Class"]), (3, "denied"))
        done = gateway.enrollctl("wait", "--timeout=0")
        self.assertEqual(done.returncode, 4)
        self.assertIn("denied: register", done.stderr)
        done = gateway.enrollctl("enroll")
        self.assertEqual(done.returncode, 1)
        self.assertIn("denied: register", done.stderr)
        self.cloud.hook()
        done = gateway.enrollctl("enroll")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("step prove", done.stdout)
        self.assertIn(self.cloud.thing_name("GW-0001"), done.stdout)


if __name__ == "__main__":
    harness.main()
