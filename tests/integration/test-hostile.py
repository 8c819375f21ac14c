#!/usr/bin/env python3
"""A plugin that crashes, hangs, spams or lies (tests/plugins/hostile.c) costs one attempt: the daemon says what
happened, stays responsive, leaves nothing behind, and the same daemon is provisioned once the method is a good one.

The deadline of a whole attempt is minutes, too long for here: a hang is ended by Cancel(), and tests/unit/test-job has
workers that hang until a deadline of its own."""

import shutil
import time

import harness
from gateway import Gateway
from parts import Cloud

# Seconds. What one call takes while nothing else is wrong, with a process of busctl for each.
RESPONSIVE = 0.1


class Hostile(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.gateway = Gateway(self, self.cloud, backend="file")
        plugins = self.directory / "plugins"
        plugins.mkdir()
        for name in ("hostile.so", "fleet-claim.so"):
            shutil.copy(harness.built(name), plugins)
        self.gateway.extra_environment["ENROLLD_PLUGIN_DIR"] = str(plugins)
        # The next attempt is far away, so that what one has left behind can be looked at.
        classes = [key for key, value in self.gateway.sections["Retry"].items() if " " in value]
        self.gateway.configure("Retry", **dict.fromkeys(classes, "300d 300d"))
        self.gateway.sections["hostile"] = {"Certificate": self.cloud.claim_certificate}

    def begin(self, behaviour):
        """Starts an attempt with the plugin; returns a mark before it."""
        self.gateway.configure("Agent", Methods="hostile")
        self.gateway.configure("hostile", Behaviour=behaviour)
        since = self.gateway.monitor.mark()
        if self.gateway.process is None:
            self.gateway.start()
            self.pid = self.gateway.pid()
        else:
            self.gateway.call("Reload")
        return since

    def assertAttempt(self, since, result, error_class, step, words):
        """One attempt has ended so, and it has cost no more than that."""
        _, verb, ended, detail = self.gateway.wait_signal("JobRemoved", since)
        seen = self.gateway.property("LastError")
        self.assertEqual((verb, ended), ("enroll", result), detail)
        self.assertEqual(seen[:2], [error_class, step], seen)
        self.assertIn(words, seen[2])
        self.assertNotRegex(seen[2], r"[\x00-\x1f\x7f-\x9f]")
        self.assertLess(len(seen[2]), 768)
        self.assertEqual(self.gateway.property("Attempt"), 1)
        self.assertGreater(self.gateway.property("NextAttempt"), time.time() * 1000000)
        self.assertIn(self.gateway.property("State"), ("backoff", "failed"))
        self.assertNothingLeft()

    def assertNothingLeft(self):
        harness.wait_for(lambda: f"no worker is left: {self.gateway.workers()}", lambda: not self.gateway.workers())
        self.reap_orphans()
        self.assertFalse((self.gateway.state / "current").is_symlink())
        self.assertEqual(self.gateway.pid(), self.pid)

    def assertResponsive(self):
        """The quickest of some calls counts: the others tell how busy the machine is."""
        taken = []
        for _ in range(10):
            begun = time.monotonic()
            self.assertEqual(self.gateway.property("State"), "enrolling")
            taken.append(time.monotonic() - begun)
        self.assertLess(min(taken), RESPONSIVE, taken)

    def misbehave(self, behaviour, error_class, step, words, result="failed"):
        with self.subTest(behaviour=behaviour):
            self.assertAttempt(self.begin(behaviour), result, error_class, step, words)

    def assertHealed(self, generation=1):
        """The good method, and no restart."""
        self.gateway.configure("Agent", Methods="fleet-claim")
        self.gateway.call("Reload")
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.pid(), self.pid)
        self.assertEqual(self.gateway.property("LastError"), ["", "", "", 0])
        self.assertEqual(self.gateway.property("Generation"), generation)
        self.assertEqual(len(self.cloud.device_certificates()), 1)

    def test_ends(self):
        for behaviour, words in (
            ("end/crash", "(signal 11, Segmentation fault)"),
            ("end/abort", "(signal 6, Aborted)"),
            ("end/exit-0", "without a result"),
            ("end/exit-1", "without a result (exit status 1)"),
        ):
            self.misbehave(behaviour, "internal", "worker", words)
        self.assertHealed()

    def hang(self, behaviour):
        with self.subTest(behaviour=behaviour):
            since = self.begin(behaviour)
            self.gateway.wait_property("Step", "claim")
            self.assertResponsive()
            self.assertEqual(len(self.gateway.workers()), 1)
            self.gateway.call("Cancel", f"uint32:{self.gateway.call('Enroll')}")
            self.assertAttempt(since, "canceled", "internal", "worker", "canceled on request")

    def test_hangs(self):
        for behaviour in ("hang/sleep", "hang/busy", "hang/stubborn"):
            self.hang(behaviour)
        self.assertHealed()

    def test_forged_messages(self):
        for behaviour, words in (
            ("forge/garbage", "something that is not a message: it is not UTF-8"),
            ("forge/job", "it sent what only the daemon may"),
            ("forge/result-without-files", "a file of its result is missing"),
            ("forge/result-lost", "it has no usable LOST"),
            ("forge/resume", "asked to resume a second time"),
            ("forge/endless-checkpoints", "too many checkpoints"),
            ("forge/second-result", "a message after its result"),
            ("forge/large-files", "progress without a usable STEP"),
            ("forge/leave-child", "another process holds its channel"),
            ("forge/close-channel", "closed its channel without a result"),
        ):
            self.misbehave(behaviour, "internal", "worker", words)
        self.assertHealed()

    def test_forged_identity(self):
        """What was forged well enough for the daemon does not pass the check of another worker."""
        self.misbehave("forge/forged-identity", "invalid", "verify", "there is no certificate in it")
        self.assertEqual(list(self.gateway.state.glob("generations/*")), [])
        self.assertFalse((self.gateway.state / "incoming").exists())
        self.assertHealed()

    def test_lies(self):
        for behaviour, error_class, step, words in (
            ("lie/nothing", "internal", "claim", "hostile ended without a registered certificate"),
            ("lie/success-after-failure", "internal", "claim", "hostile ended without a registered certificate"),
            ("lie/failure-without-reason", "internal", "claim", "hostile failed without a word"),
            ("lie/certificate-of-another-key", "invalid", "claim", "for another key than this device's"),
            ("lie/certificate-ignored", "internal", "claim", "a thing but no certificate"),
            ("lie/certificate-is-none", "invalid", "claim", "certificate 1 is damaged"),
            ("lie/registration-of-nothing", "internal", "claim", "a certificate that it does not hold"),
            ("lie/thing-without-certificate", "internal", "claim", "a thing but no certificate"),
        ):
            self.misbehave(behaviour, error_class, step, words)
        self.assertHealed()

    def test_words(self):
        for behaviour, step, words in (
            ("say/unknown-step", "nonsense", "enough of it"),
            ("say/long-step", "worker", "progress without a usable STEP"),
            ("say/step-with-controls", "claim [31m CLASS=network", "enough of it"),
            ("say/endless-steps", "worker", "more than 1000 progress messages"),
            ("say/output", "claim", "enough of it"),
            ("say/long-message", "claim", "enough of it"),
        ):
            self.misbehave(behaviour, "internal", step, words)
        self.assertHealed()

    def test_beyond_the_process(self):
        self.misbehave("reach/exec", "internal", "claim", "exec: Operation not permitted")
        since = self.begin("reach/no-connection")
        _, _, _, detail = self.gateway.wait_signal("JobRemoved", since)
        self.assertTrue(detail.startswith("internal: "), detail)
        self.assertNothingLeft()
        self.misbehave("reach/state-directory", "internal", "claim", "the state directory was written")
        self.assertHealed(2)  # a number that it has taken is not used a second time

    def test_memory(self):
        if b"__asan_init" in harness.built("enrolld-worker").read_bytes():
            self.skipTest("the memory of a sanitized program cannot be limited")
        self.misbehave("reach/memory", "internal", "claim", "there is no more memory")
        self.assertHealed()


if __name__ == "__main__":
    harness.main()
