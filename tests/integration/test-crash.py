#!/usr/bin/env python3
"""kill -9, power cuts and errors of the disk on the way to an identity. After each: `current` is absent or a whole
identity, and the next start ends provisioned. In full by tests/crash/run."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import unittest

import harness
from gateway import FILES, Gateway
from parts import Cloud, Tpm

STEPS = ("key", "request", "claim", "certificate", "register", "prove", "verify", "commit")


class Crash(harness.TestCase):
    def setUp(self):
        super().setUp()
        # Kills come faster than the cloud takes CONNECTs of one client id.
        self.cloud = Cloud(self, "--connect-rate=off")
        self.tpm = Tpm(self)
        self.gateway = Gateway(self, self.cloud, self.tpm)

    def assertWholeOrAbsent(self):
        current = self.gateway.state / "current"
        if not current.is_symlink():
            return False
        self.assertEqual(sorted(path.name for path in current.iterdir()), sorted(FILES))
        status, text = self.gateway.check(current)
        self.assertEqual(status, 0, f"current is not whole: {text}")
        return True

    def end_everything(self):
        self.gateway.kill()
        self.reap_orphans()
        self.tpm.flush()

    @contextlib.contextmanager
    def point(self, **name):
        """One point at which to kill, on a device that was never provisioned."""
        with self.subTest(**name):
            self.gateway.state.mkdir(mode=0o711)
            try:
                yield
            finally:
                self.end_everything()
                shutil.rmtree(self.gateway.state)

    def check_recovery(self):
        """What must hold after the daemon was killed."""
        self.end_everything()
        whole = self.assertWholeOrAbsent()
        before = self.gateway.identity() if whole else None
        self.gateway.start()
        self.gateway.wait_provisioned()
        if whole:
            self.assertEqual(self.gateway.identity(), before)
        self.assertTrue(self.assertWholeOrAbsent())
        self.assertEqual(list(self.gateway.state.glob("incoming/*")), [])
        self.assertEqual(self.gateway.property("LastError"), ["", "", "", 0])

    def test_daemon_killed_at_each_step(self):
        for step in STEPS:
            with self.point(step=step):
                self.gateway.start()
                self.gateway.wait_signalled("Step", step)
                self.gateway.send_signal(signal.SIGKILL)
                self.check_recovery()

    def kill_workers(self):
        for pid in self.gateway.workers():
            os.kill(pid, signal.SIGKILL)
        self.tpm.flush()

    def test_killed_worker_is_reported(self):
        self.cloud.freeze()
        self.gateway.start()
        self.gateway.wait_signalled("Step", "claim")
        self.kill_workers()
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["internal", "worker"], error)
        self.cloud.thaw()
        self.gateway.wait_provisioned()

    @unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
    def test_identity_that_is_not_durable_is_announced(self):
        """The last fsync fails when `current` already names the new identity: the next check must tell of it."""
        inject = f"inject=fsync:error=EIO:when={self.last_fsync()}"
        self.gateway.state.mkdir(mode=0o711)
        self.gateway.start(before=["strace", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", inject])
        error = self.gateway.wait_signalled("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["internal", "commit"], error)
        self.assertIn("durable", error[2])
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.wait_signal("IdentityChanged"), [1])
        self.assertEqual(self.gateway.property("Generation"), 1)

    def last_fsync(self):
        """How many one whole provisioning makes."""
        log = self.directory / "calls"
        with self.point(call="none"):
            self.gateway.start(before=["strace", "-qq", "-o", log, "-e", "trace=fsync"])
            self.gateway.wait_provisioned()
        return log.read_text().count("fsync(")


@unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
class Sample(unittest.TestCase):
    """Some of the states that tests/crash/run tries, spread over all of them."""

    def run_part(self, part, *options):
        """Returns its exit status and what it printed."""
        program = harness.SOURCE_DIR / "tests" / "crash" / part
        done = subprocess.run([sys.executable, "-B", program, *options], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def test_kill_at_system_calls(self):
        status, text = self.run_part("kill.py", "--every=29")
        self.assertEqual(status, 0, text)

    def test_kill_at_system_calls_of_an_import(self):
        """Of each way to do without a claim, and of the way back to it."""
        for way in ("jitp", "key", "jitr", "claim"):
            with self.subTest(way=way):
                status, text = self.run_part("kill_imported.py", f"--way={way}", "--every=61")
                self.assertEqual(status, 0, text)

    def test_renewal(self):
        """Kills, power cuts and errors of the disk from the beginning of a renewal to the retirement."""
        for part, every in (("kill.py", 83), ("replay.py", 23), ("disk_errors.py", 59)):
            with self.subTest(part=part):
                status, text = self.run_part(part, "--renewal", f"--every={every}")
                self.assertEqual(status, 0, text)

    def test_renewal_by_an_import(self):
        for way in ("jitp", "key"):
            with self.subTest(way=way):
                status, text = self.run_part("kill_imported.py", f"--way={way}", "--renewal", "--every=113")
                self.assertEqual(status, 0, text)

    def test_power_cuts_of_a_renewal_without_fsync(self):
        status, text = self.run_part("replay.py", "--renewal", "--every=83", "--without-fsync")
        self.assertEqual(status, 1, text)
        self.assertRegex(text, "lost [1-9]|second certificates [1-9]")

    def test_power_cuts(self):
        status, text = self.run_part("replay.py", "--every=11")
        self.assertEqual(status, 0, text)

    def test_power_cuts_without_fsync(self):
        """What was never made durable is lost, or the test above sees nothing."""
        status, text = self.run_part("replay.py", "--every=83", "--without-fsync")
        self.assertEqual(status, 1, text)
        self.assertRegex(text, "lost [1-9]|second certificates [1-9]")

    def test_errors_of_the_disk(self):
        status, text = self.run_part("disk_errors.py", "--every=23")
        self.assertEqual(status, 0, text)


if __name__ == "__main__":
    harness.main()
