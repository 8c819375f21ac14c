#!/usr/bin/env python3
"""The worker itself: what it gives up, what a person can do with it by hand, and what it asks of the cloud."""

import os
import pathlib
import signal
import stat
import subprocess
import time
import unittest

import harness
from authority import Authority
from gateway import FILES, Gateway
from parts import Cloud, Tpm

NOBODY = 65534
DAY = 86400


class Worker(harness.TestCase):
    def gateway_with(self, *options, backend="file", tpm=None):
        """options: of iotcore-setup."""
        self.cloud = Cloud(self, *options)
        return Gateway(self, self.cloud, tpm, backend)

    def words(self, gateway, *arguments):
        return [harness.built("enrolld-worker"), *arguments, f"--config={gateway.configuration}"]

    def by_hand(self, gateway, *arguments):
        """Runs one job; returns its exit status, standard output and standard error."""
        done = subprocess.run(
            self.words(gateway, *arguments),
            env=gateway.environment(),
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )
        return done.returncode, done.stdout, done.stderr


def status_of(pid):
    """/proc/PID/status, empty if it has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def is_sanitized():
    """The leak detector looks into the process when it ends, so that such builds stay open to that."""
    return b"__asan_init" in harness.built("enrolld-worker").read_bytes()


class LockDown(Worker):
    """A worker that hangs is looked at from outside."""

    def assertLockedDown(self, pid):
        status = status_of(pid)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(status["Seccomp"], "2")
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines()
        core = next(line for line in limits if line.startswith("Max core file size"))
        self.assertEqual(core.split()[4:6], ["0", "0"])

    def test_enrolment(self):
        gateway = self.gateway_with()
        self.cloud.freeze()
        gateway.start()
        gateway.wait_property("Step", "claim")
        (worker,) = gateway.workers()
        self.assertLockedDown(worker)

    def test_check(self):
        tpm = Tpm(self)
        gateway = self.gateway_with(backend="tpm2", tpm=tpm)
        gateway.start()
        gateway.wait_provisioned()
        self.assertEqual(gateway.stop(), 0)
        tpm.process.send_signal(signal.SIGSTOP)
        self.addCleanup(tpm.process.send_signal, signal.SIGCONT)
        gateway.start(wait=False)
        workers = harness.wait_for("a worker checks the identity", gateway.workers)
        harness.wait_for(
            lambda: f"locked down: {status_of(workers[0])}", lambda: status_of(workers[0]).get("Seccomp") == "2"
        )
        self.assertLockedDown(workers[0])
        tpm.process.send_signal(signal.SIGCONT)
        gateway.wait_provisioned()
        self.assertNotIn("enrolling", gateway.signalled("State"))

    def assertLockedDownWhile(self, gateway, *arguments, **options):
        """A job by hand that needs the TPM, which does not answer it at first."""
        log = self.directory / f"{arguments[0]}.log"
        self.tpm.process.send_signal(signal.SIGSTOP)
        worker = harness.Process("enrolld-worker", self.words(gateway, *arguments), log, gateway.environment())
        self.addCleanup(worker.stop)
        try:
            harness.wait_for(
                lambda: f"{arguments[0]} locks down: {status_of(worker.pid)} {log.read_text()}",
                lambda: status_of(worker.pid).get("Seccomp") == "2",
            )
            self.assertLockedDown(worker.pid)
        finally:
            self.tpm.process.send_signal(signal.SIGCONT)
        self.assertEqual(worker.wait(), 0, log.read_text())
        return log.read_text()

    def test_request_and_import(self):
        self.tpm = Tpm(self)
        gateway = self.gateway_with(backend="tpm2", tpm=self.tpm)
        gateway.configure("Agent", Methods="jitp")
        staged = f"--staged={self.directory / 'staged'}"
        request = self.assertLockedDownWhile(gateway, "request", staged)
        request = request[request.index("-----BEGIN"):]
        maker = Authority(self.directory, "maker")
        chain = self.directory / "chain.pem"
        chain.write_text(maker.sign(request) + maker.pem)
        self.assertLockedDownWhile(gateway, "import", f"--certificate={chain}", staged)

    def hand_over(self, gateway, user):
        """What a worker that runs as this user reads and writes."""
        self.directory.chmod(0o755)
        self.cloud.directory.chmod(0o755)
        for path in (gateway.configuration, self.cloud.root_ca, self.cloud.claim_certificate):
            path.chmod(0o644)
        os.chown(self.cloud.claim_key, user, -1)
        os.chown(gateway.directory, user, -1)

    @unittest.skipIf(is_sanitized(), "a sanitizer may look into the process")
    def test_others_of_the_user_cannot_look_into_it(self):
        """The kernel gives /proc/PID of a process that nobody may look into to root (proc(5))."""
        gateway = self.gateway_with()
        user = os.geteuid() or NOBODY
        options = {} if os.geteuid() != 0 else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        if os.geteuid() == 0:
            self.hand_over(gateway, user)
        self.cloud.freeze()
        words = self.words(gateway, "enroll", f"--directory={gateway.directory / 'identity'}")
        try:
            worker = harness.Process("enrolld-worker", words, gateway.log, gateway.environment(), **options)
        except PermissionError as error:
            self.skipTest(f"another user cannot run the worker of this build: {error}")
        self.addCleanup(worker.stop)
        # Started first, and stopped last.
        plain = harness.Process("sleep", ["sleep", "infinity"], self.directory / "sleep", **options)
        self.addCleanup(plain.stop)
        harness.wait_for(
            lambda: "step claim: " + gateway.log.read_text(),
            lambda: "claim ..." in gateway.log.read_text() or not worker.running(),
        )
        self.assertTrue(worker.running(), gateway.log.read_text())
        harness.wait_for("sleep runs", lambda: status_of(plain.pid).get("Name") == "sleep")
        self.assertEqual(os.stat(f"/proc/{plain.pid}/mem").st_uid, user)
        self.assertEqual(os.stat(f"/proc/{worker.pid}/mem").st_uid, 0)


class ByHand(Worker):
    def test_enroll_and_check(self):
        gateway = self.gateway_with()
        directory = gateway.directory / "identity"
        status, output, errors = self.by_hand(gateway, "enroll", f"--directory={directory}")
        self.assertEqual((status, errors), (0, ""), output)
        steps = [line.removesuffix(" ...") for line in output.splitlines() if line.endswith(" ...")]
        self.assertEqual(steps, ["configuration", "key", "request", "claim", "certificate", "register", "prove"])
        self.assertEqual(sorted(path.name for path in directory.iterdir()), sorted(FILES))
        modes = {stat.S_IMODE(path.lstat().st_mode) for path in directory.iterdir()}
        self.assertEqual((modes, stat.S_IMODE(directory.stat().st_mode)), ({0o600}, 0o700))
        (thing,) = self.cloud.things()
        (certificate,) = self.cloud.device_certificates()
        status, output, errors = self.by_hand(gateway, "check", f"--directory={directory}")
        self.assertEqual((status, errors), (0, ""), output)
        facts = dict(line.split(maxsplit=1) for line in output.splitlines())
        self.assertEqual((facts["THING_NAME"], facts["CERTIFICATE_ID"]), (thing, certificate))
        self.assertEqual((facts["METHOD"], facts["KEY_BACKEND"]), ("fleet-claim", "file"))

    def test_check_of_what_is_wrong(self):
        gateway = self.gateway_with()
        directory = gateway.directory / "identity"
        status, output, errors = self.by_hand(gateway, "check", f"--directory={directory}")
        self.assertEqual(status, 1, output)
        self.assertIn(f"{directory}/certificate.pem: No such file or directory", errors)
        self.assertEqual(self.by_hand(gateway, "enroll", f"--directory={directory}")[0], 0)
        (directory / "private.pem").write_text(self.cloud.claim_key.read_text())
        status, output, errors = self.by_hand(gateway, "check", f"--directory={directory}")
        self.assertEqual(status, 1, output)
        self.assertIn("failed (invalid) at step verify: the certificate does not belong to the key", errors)

    def test_check_of_the_state_directory(self):
        gateway = self.gateway_with()
        gateway.start()
        gateway.wait_provisioned()
        status, output, errors = self.by_hand(gateway, "check")
        self.assertEqual((status, errors), (0, ""), output)
        self.assertIn(gateway.property("CertificateId"), output)

    def test_existing_directory_is_refused(self):
        """Before anything is asked of the cloud."""
        gateway = self.gateway_with()
        directory = gateway.directory / "identity"
        directory.mkdir()
        status, output, errors = self.by_hand(gateway, "enroll", f"--directory={directory}")
        self.assertEqual(status, 1, output)
        self.assertIn(f"{directory}: File exists", errors)
        self.assertEqual(self.cloud.events(event="connect"), [])
        self.assertEqual(list(directory.iterdir()), [])

    def test_refusal_of_the_cloud(self):
        gateway = self.gateway_with()
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        status, output, errors = self.by_hand(gateway, "enroll", f"--directory={gateway.directory / 'identity'}")
        self.assertEqual(status, 1, output)
        self.assertTrue(errors.startswith("failed (denied) at step register: "), errors)
        self.assertFalse(any((gateway.directory / "identity").glob("*")))

    def test_check_config(self):
        gateway = self.gateway_with()
        status, output, errors = self.by_hand(gateway, "check-config")
        self.assertEqual((status, errors), (0, ""))
        self.assertIn("[fleet-claim] KeySource=csr  (default)\n", output)
        self.assertIn("METHOD           fleet-claim\n", output)
        gateway.configure("fleet-claim", Templat="typo")
        status, output, errors = self.by_hand(gateway, "check-config")
        self.assertEqual((status, output), (1, ""))
        self.assertIn(f"{gateway.configuration}:", errors)
        self.assertIn("Templat=", errors)
        self.assertEqual(self.cloud.events(event="connect"), [])

    def test_usage(self):
        gateway = self.gateway_with()
        for arguments in (
            ("nonsense",),
            ("check", "check"),
            ("check", "--nonsense"),
            ("enroll",),
            ("--directory=identity",),
            (),
        ):
            with self.subTest(arguments=arguments):
                status, output, errors = self.by_hand(gateway, *arguments)
                self.assertEqual((status, output), (2, ""))
                self.assertTrue(errors.startswith("Usage: ") or "\nUsage: " in errors, errors)
        for option, word in (("--help", "Usage: "), ("--version", "enrolld-worker ")):
            status, output, errors = self.by_hand(gateway, option)
            self.assertEqual((status, errors), (0, ""))
            self.assertTrue(output.startswith(word), output)

    def test_without_a_channel(self):
        done = subprocess.run(
            [harness.built("enrolld-worker")], capture_output=True, text=True, timeout=harness.DEADLINE
        )
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("no channel at descriptor 3", done.stderr)


class Asked(Worker):
    """What the cloud is asked for, and what it is not."""

    def test_private_issuer(self):
        gateway = self.gateway_with("--issuer=private:1")
        before = time.time()
        gateway.start()
        gateway.wait_provisioned()
        end = gateway.property("NotAfter") // 1000000
        self.assertEqual(end, self.cloud.not_after(gateway.property("CertificateId")))
        self.assertGreaterEqual(end, int(before) + DAY - 1)
        self.assertLessEqual(end, time.time() + DAY)
        self.assertEqual(gateway.identity()["notAfter"], end)

    def assertClientIdRefused(self, client_id, word):
        gateway = self.gateway_with()
        gateway.configure("Agent", ClientId=client_id)
        gateway.start()
        gateway.wait_property("State", "failed")
        error = gateway.property("LastError")
        self.assertEqual(error[:2], ["invalid", "configuration"], error)
        self.assertIn("ClientId", error[2])
        self.assertIn(word, error[2])
        self.assertEqual(self.cloud.events(event="connect"), [])
        self.assertEqual((self.cloud.things(), self.cloud.device_certificates()), ({}, {}))
        gateway.configure("Agent", ClientId=None)
        gateway.send_signal(signal.SIGHUP)
        gateway.wait_provisioned()

    def test_client_id_with_a_wrong_specifier(self):
        self.assertClientIdRefused("gateway-%z", "specifier")

    def test_client_id_that_is_too_long(self):
        # 122 and the 7 of the serial number's: one more than AWS IoT takes.
        self.assertClientIdRefused("x" * 122 + "%s", "128")


if __name__ == "__main__":
    harness.main()
