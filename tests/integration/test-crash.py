#!/usr/bin/env python3
"""kill -9 at many points of the way to an identity. After each: `current` is absent or a whole identity, and the next
start ends provisioned."""

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import unittest

import harness
from gateway import FILES, Gateway
from parts import Cloud, Tpm

STEPS = ("key", "request", "claim", "certificate", "register", "prove", "verify", "commit")
# The system calls that change the state directory or make a change durable.
CALLS = "mkdirat,fchmod,fsync,renameat,symlinkat,unlinkat"
# Milliseconds from the start of the daemon: chosen once, denser where a provisioning ends.
TIMES = (3, 17, 31, 46, 58, 67, 79, 92, 104, 131, 155, 190)


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

    def test_worker_killed_at_each_step(self):
        """The daemon survives and tries again."""
        for step in STEPS[:-1]:
            with self.point(step=step):
                self.gateway.start()
                self.gateway.wait_signalled("Step", step)
                self.kill_workers()
                self.gateway.wait_provisioned()
                self.assertTrue(self.assertWholeOrAbsent())

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
    def test_order_of_the_commit(self):
        """A power cut leaves what is durable: nothing may be visible before what it stands on is."""
        log = self.directory / "calls"
        self.gateway.start(before=["strace", "-y", "-qq", "-o", log, "-e", "trace=fsync,renameat"])
        self.gateway.wait_provisioned()
        state = str(self.gateway.state)
        lines = log.read_text().splitlines()
        # The record of attempts has its own calls before.
        lines = lines[next(number for number, line in enumerate(lines) if "/incoming/" in line) :]
        self.assertTrue(all(line.endswith(" = 0") for line in lines), lines)
        staged = [f"fsync({state}/incoming/{name})" for name in FILES]
        seen = [re.sub(r"\d+<([^>]*)>", r"\1", line.split(" = ")[0]) for line in lines]
        self.assertEqual(sorted(seen[: len(FILES)]), staged)
        expected = [
            f"fsync({state}/incoming)",  # its entries
            f"fsync({state}/incoming)",  # its mode
            f'renameat({state}, "incoming", {state}/generations, "1")',
            f"fsync({state}/generations)",
            f'renameat({state}, "current.new", {state}, "current")',
            f"fsync({state})",
        ]
        self.assertEqual(seen[len(FILES) :], expected)

    @unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
    def test_identity_that_is_not_durable_is_announced(self):
        """The last fsync fails when `current` already names the new identity: the next check must tell of it."""
        last = [number for call, number in self.calls() if call == "fsync"][-1]
        self.gateway.state.mkdir(mode=0o711)
        inject = f"inject=fsync:error=EIO:when={last}"
        self.gateway.start(before=["strace", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", inject])
        error = self.gateway.wait_signalled("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["internal", "commit"], error)
        self.assertIn("durable", error[2])
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.wait_signal("IdentityChanged"), [1])
        self.assertEqual(self.gateway.property("Generation"), 1)

    def calls(self):
        """The (system call, how many-th) of one whole provisioning, in their order."""
        log = self.directory / "calls"
        with self.point(call="none"):
            self.gateway.start(before=["strace", "-qq", "-o", log, "-e", f"trace={CALLS}"])
            self.gateway.wait_provisioned()
        seen = collections.Counter()
        for line in log.read_text().splitlines():
            call = line.split("(")[0]
            if call in CALLS.split(","):
                seen[call] += 1
                yield call, seen[call]

    @unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
    def test_daemon_killed_at_each_call(self):
        points = list(self.calls())
        self.assertGreater(len(points), 20)
        for call, number in points:
            with self.point(call=call, number=number):
                kill = f"inject={call}:signal=KILL:when={number}"
                self.gateway.start(
                    wait=False, before=["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", kill]
                )
                self.assertEqual(self.gateway.process.wait(), -signal.SIGKILL)
                self.check_recovery()

    def test_daemon_killed_at_odd_times(self):
        for milliseconds in TIMES:
            with self.point(milliseconds=milliseconds):
                self.gateway.start(wait=False)
                try:
                    self.gateway.process.popen.wait(milliseconds / 1000)
                except subprocess.TimeoutExpired:
                    pass
                self.check_recovery()


if __name__ == "__main__":
    harness.main()
