#!/usr/bin/env python3
"""`enrollctl forget`: a device as it came from the factory, whatever it does at that moment, and wherever power fails."""

import os
import pty
import re
import subprocess
import sys
import unittest

import harness
from gateway import FILES, Gateway
from parts import Cloud, Tpm

sys.path.insert(0, str(harness.SOURCE_DIR / "tests/crash"))
import disk_model  # noqa: E402
import recording  # noqa: E402


class Device(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.tpm = Tpm(self)
        self.gateway = Gateway(self, self.cloud, self.tpm)

    def start_provisioned(self, **options):
        self.gateway.start(**options)
        self.gateway.wait_provisioned()

    def names(self):
        return sorted(str(path.relative_to(self.gateway.state)) for path in self.gateway.state.rglob("*"))

    def assertForgotten(self, done, *words):
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("forgotten\n", done.stdout)
        for word in words:
            self.assertIn(word, done.stdout)


class Forget(Device):
    def test_a_fresh_device(self):
        """The target is told, programs are told, the command for the cloud is right, and the device comes back as new."""
        self.start_provisioned()
        before = self.gateway.identity()
        id = before["certificateId"]
        handles = self.tpm.handles("persistent")
        since = self.gateway.monitor.mark()
        self.cloud.freeze()
        done = self.gateway.enrollctl("forget", "--yes")
        self.assertForgotten(done, f"\naws iot update-certificate --new-status INACTIVE --certificate-id {id}\n",
                             "With the hook of etc/aws the device comes back only when that is done", "KeepClaim=no")
        self.assertEqual(self.gateway.wait_signal("IdentityChanged", since), [0])
        self.assertFalse((self.gateway.state / "current").is_symlink())
        self.assertEqual([path for path in self.gateway.files() if path.name in FILES], [])
        self.assertFalse((self.gateway.runtime / "provisioned").exists())
        self.assertTrue((self.gateway.runtime / "lost").exists())
        for name in ("ThingName", "CertificateId", "KeyOrigin", "CredentialDirectory"):
            self.assertEqual(self.gateway.property(name), "", name)
        self.assertEqual(self.gateway.enrollctl("status").returncode, 3)
        self.cloud.thaw()
        self.gateway.wait_provisioned()
        after = self.gateway.identity()
        self.assertEqual(after["thingName"], before["thingName"])
        self.assertNotEqual(after["certificateId"], id)
        self.assertEqual(self.gateway.wait_signal("IdentityChanged", since, wanted=lambda value: value != [0]), [2])
        # The date of the newest certificate stays: by it an unset clock is known, whoever the device is.
        self.assertEqual(self.names(), ["clock", "current", "generations", "generations/2",
                                        *[f"generations/2/{name}" for name in sorted(FILES)]])  # fmt: skip
        self.assertEqual(self.tpm.handles("persistent"), handles)
        self.assertEqual(self.tpm.handles("transient"), [])
        certificates = self.cloud.registry()["certificates"]
        self.assertEqual(certificates[id]["status"], "ACTIVE", "the device cannot take it away")
        self.assertRegex(self.gateway.log.read_text(), rf"identity 1 is forgotten on request: thing .*{id}")

    def test_in_an_attempt(self):
        """With a key that was made for it, and a worker that is connected."""
        known = set(self.cloud.registry()["certificates"])  # the claim
        self.cloud.freeze()
        self.gateway.start()
        self.gateway.wait_signalled("Step", "claim")
        job = int(self.gateway.call("Enroll"))
        self.assertIn("checkpoint-fleet-claim", self.names())
        checkpoint = (self.gateway.state / "checkpoint-fleet-claim").read_bytes()
        workers = self.gateway.workers()
        done = self.gateway.enrollctl("forget", "--yes")
        self.assertForgotten(done)
        self.assertNotIn("aws iot", done.stdout, "there is no certificate to take away")
        self.assertEqual(self.gateway.wait_signal("JobRemoved", wanted=lambda told: told[0] == job)[1:3],
                         ["enroll", "canceled"])  # fmt: skip
        self.assertFalse(set(workers) & set(self.gateway.workers()))
        self.tpm.flush()  # without the resource manager nobody does that for a worker that was killed
        self.gateway.wait_property("Step", "claim")
        self.assertNotEqual((self.gateway.state / "checkpoint-fleet-claim").read_bytes(), checkpoint)
        self.cloud.thaw()
        self.gateway.wait_provisioned()
        certificates = self.cloud.registry()["certificates"]
        self.assertEqual(set(certificates) - known, {self.gateway.identity()["certificateId"]})

    def test_request_is_forgotten(self):
        """The key of a request that waits is no key of the new device."""
        self.gateway.configure("Agent", Methods="jitp")
        self.gateway.start()
        self.gateway.wait_property("State", lambda state: state in ("failed", "backoff"))
        request = self.gateway.enrollctl("request").stdout
        self.assertEqual(self.gateway.enrollctl("request").stdout.count("BEGIN"), 1)
        self.assertForgotten(self.gateway.enrollctl("forget", "--yes"))
        self.assertNotIn("staged", self.names())
        self.gateway.wait_property("State", lambda state: state in ("failed", "backoff"))
        again = self.gateway.enrollctl("request").stdout
        self.assertIn("BEGIN CERTIFICATE REQUEST", again)
        self.assertNotEqual(again, request)

    def test_twice_and_after_a_restart(self):
        self.start_provisioned()
        self.cloud.freeze()
        for _ in range(2):
            self.assertForgotten(self.gateway.enrollctl("forget", "--yes"))
        self.gateway.stop()
        self.cloud.thaw()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("Generation"), 2)

    @unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
    @unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
    def test_slow_disk(self):
        """It is waited for longer than for an answer that takes no fsync(2)."""
        tracer = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=fsync"]  # the daemon alone
        self.start_provisioned(before=[*tracer, "-e", "inject=fsync:delay_enter=1500000"])
        self.cloud.freeze()
        self.gateway.extra_environment["SYSTEMD_BUS_TIMEOUT"] = "4s"  # in place of 25 s
        self.assertForgotten(self.gateway.enrollctl("forget", "--yes"))

    def test_it_asks(self):
        self.start_provisioned()
        before = self.names()
        done = self.gateway.enrollctl("forget", stdin=subprocess.DEVNULL)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("--yes", done.stderr)
        for answer in ("no\n", "\n", "yes please\n", "\x04"):
            with self.subTest(answer=answer):
                status, text = self.answer(answer)
                self.assertEqual(status, 1, text)
                self.assertIn(f"certificate {self.gateway.identity()['certificateId']}, generation 1", text)
                self.assertIn("With KeepClaim=no it cannot come back without a person", text)
                self.assertIn("nothing was forgotten", text)
        self.assertEqual(self.names(), before)
        self.assertEqual(self.gateway.property("State"), "provisioned")
        status, text = self.answer("yes\n")
        self.assertEqual(status, 0, text)
        self.assertIn("forgotten", text)
        self.gateway.wait_property("Generation", 2)

    def answer(self, answer):
        """What a person at a terminal types, and sees."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen([harness.built("enrollctl"), "forget"], stdin=theirs, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, env=self.gateway.environment())  # fmt: skip
        os.close(theirs)
        os.write(ours, answer.encode())
        text = process.communicate(timeout=harness.DEADLINE)[0]
        os.close(ours)
        return process.returncode, text

    def test_no_daemon(self):
        done = self.gateway.enrollctl("forget", "--yes")
        self.assertEqual((done.returncode, done.stdout), (5, ""))


@unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
class PowerCut(Device):
    """Every state of the disk that a power cut could leave while an identity is forgotten, by tests/crash/disk_model.py:
    the identity is whole, or there is none and the next start removes what there still is of it."""

    MODE = 0o711

    def record(self):
        """The disk before, and the calls of Forget() alone."""
        log = self.directory / "calls"
        self.gateway.extra_environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        self.start_provisioned(before=["strace", "-o", log, *recording.OPTIONS])
        # As a power cut might have left them: they belong to the identity in use, and must not come back without it.
        for name in ("checkpoint-fleet-claim", "staged"):
            (self.gateway.state / name).write_text("of before")
        begin = disk_model.read(self.gateway.state)
        self.cloud.freeze()
        mark = len(log.read_text().splitlines())
        self.gateway.call("Forget")
        self.gateway.wait_property("Step", "claim")
        self.gateway.stop()
        lines = "\n".join(log.read_text().splitlines()[mark:])
        calls = recording.Reader(self.gateway.state).read(lines)
        end = next(at for at, call in enumerate(calls) if call.name == "create")  # the record of the next attempt
        return begin, calls[:end]

    def states(self, begin, calls, without_fsync=False):
        disk = disk_model.Disk(self.MODE, begin)
        for number in range(len(calls) + 1):
            if number > 0 and not (without_fsync and calls[number - 1].name == "fsync"):
                calls[number - 1].apply(disk)
            name = f"after call {number} ({calls[number - 1] if number else None})"
            for kind, tree in disk.states(number):
                yield f"{name}, {kind}", tree, number == len(calls)

    def judge(self, begin, tree, is_over):
        """What is wrong with a state, or None."""
        whole = {path: value for path, value in begin.items() if path[:2] == ("generations", "1")}
        if ("current",) in tree:
            if is_over:
                return "it is there after the end"
            kept = {path: value for path, value in tree.items() if path[:2] == ("generations", "1")}
            return None if kept == whole else f"not whole: {sorted(kept)}"
        left = [path for path in tree if path[0] in ("checkpoint-fleet-claim", "staged")]
        if is_over:
            left += [path for path in tree if path[-1] in FILES]
        return f"outlives the identity: {left}" if left else None

    def test_each_state(self):
        begin, calls = self.record()
        wrong, trees = [], {}
        for name, tree, is_over in self.states(begin, calls):
            problem = self.judge(begin, tree, is_over)
            trees.setdefault(tuple(sorted(tree.items())), tree)
            if problem:
                wrong.append(f"{name}: {problem}")
        self.assertEqual(wrong, [])
        harness.comment(f"{len(calls)} calls, {len(trees)} different states")
        self.assertGreater(len(trees), 10)
        self.start_on(begin, list(trees.values()))
        wrong = [name for name, *state in self.states(begin, calls, True) if self.judge(begin, *state)]
        self.assertTrue(wrong, "without fsync nothing is wrong: the power cuts are not seen")

    def start_on(self, begin, trees):
        """The next start uses the identity, or has none of its files."""
        self.tpm.flush()
        self.gateway.extra_environment.clear()
        for tree in trees:
            with self.subTest(tree=sorted("/".join(path) for path in tree)):
                disk_model.materialise(tree, self.gateway.state, self.MODE)
                self.gateway.start()
                if ("current",) in tree:
                    self.gateway.wait_provisioned()
                    self.assertEqual(self.gateway.property("Generation"), 1)
                else:
                    self.gateway.wait_signalled("Step", "claim")
                    self.assertEqual([path for path in self.gateway.files() if path.name in FILES], [])
                self.gateway.stop()
                self.tpm.flush()


if __name__ == "__main__":
    harness.main()
