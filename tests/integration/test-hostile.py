#!/usr/bin/env python3
"""A plugin that crashes, hangs, spams or lies (tests/plugins/hostile.c) costs one attempt: the daemon says what
happened, stays responsive, leaves nothing behind, and the same daemon is provisioned once the method is a good one. In
a renewal the identity in use is not touched by any of it.

The deadline of a whole attempt is minutes, too long for here: a hang is ended by Cancel(), and tests/unit/test-job and
test-renew have workers that hang until a deadline of their own."""

import shutil
import time

import harness
from authority import Authority
from gateway import BusError, Gateway
from parts import Cloud

# Seconds. What one call takes while nothing else is wrong, with a process of busctl for each.
RESPONSIVE = 0.1


class Scene(harness.TestCase):
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

    def assertResponsive(self, state):
        """The quickest of some calls counts: the others tell how busy the machine is."""
        taken = []
        for _ in range(10):
            begun = time.monotonic()
            self.assertEqual(self.gateway.property("State"), state)
            taken.append(time.monotonic() - begun)
        self.assertLess(min(taken), RESPONSIVE, taken)

    def assertError(self, error_class, step, words):
        seen = self.gateway.property("LastError")
        self.assertEqual(seen[:2], [error_class, step], seen)
        self.assertIn(words, seen[2])
        self.assertNotRegex(seen[2], r"[\x00-\x1f\x7f-\x9f]")
        self.assertLess(len(seen[2]), 768)

    def assertNoWorker(self):
        harness.wait_for(lambda: f"no worker is left: {self.gateway.workers()}", lambda: not self.gateway.workers())
        self.reap_orphans()
        self.assertEqual(self.gateway.pid(), self.pid)


class Enrolment(Scene):
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
        self.assertEqual((verb, ended), ("enroll", result), detail)
        self.assertError(error_class, step, words)
        self.assertEqual(self.gateway.property("Attempt"), 1)
        self.assertGreater(self.gateway.property("NextAttempt"), time.time() * 1000000)
        self.assertIn(self.gateway.property("State"), ("backoff", "failed"))
        self.assertNothingLeft()

    def assertNothingLeft(self):
        self.assertNoWorker()
        self.assertFalse((self.gateway.state / "current").is_symlink())

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
            self.assertResponsive("enrolling")
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
        self.misbehave("order/connect", "internal", "claim", "with an identity that is not there yet")
        self.misbehave("reach/state-directory", "internal", "claim", "the state directory was written")
        self.assertHealed(2)  # a number that it has taken is not used a second time

    def test_memory(self):
        if b"__asan_init" in harness.built("enrolld-worker").read_bytes():
            self.skipTest("the memory of a sanitized program cannot be limited")
        self.misbehave("reach/memory", "internal", "claim", "there is no more memory")
        self.assertHealed()


class Renewal(Scene):
    """By the plugin, of an identity that a good one has made."""

    def setUp(self):
        super().setUp()
        self.gateway.sections["Renewal"] = {"RenewMethod": "hostile"}
        self.gateway.configure("hostile", Behaviour="end/crash")
        self.gateway.configure("fleet-claim", RenewTemplate="enrolld-renew", RenewParameter_ThingName="%t")
        self.gateway.start()
        self.pid = self.gateway.pid()
        self.gateway.wait_provisioned()
        self.thing = self.gateway.identity()["thingName"]
        self.known = list(self.cloud.device_certificates())
        self.before = self.look()
        self.begun = self.gateway.monitor.mark()

    def look(self):
        """All that applications see: each file with its content, its rights and its inode."""
        current = self.gateway.state / "current"
        runtime = self.gateway.runtime
        paths = [current, *current.iterdir(), runtime / "generation", runtime / "provisioned"]
        return {path: (path.lstat().st_ino, path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in paths}

    def ask(self):
        """The number of the job, as soon as a renewal may be asked for: the identity is looked at before."""

        def number():
            try:
                return int(self.gateway.call("Renew"))
            except BusError as error:
                self.assertTrue(error.name.endswith(".Busy"), error)
                return None

        return harness.wait_for("Renew() is taken", number)

    def begin(self, behaviour, **renewal):
        self.gateway.configure("Renewal", **renewal)
        self.gateway.configure("hostile", Behaviour=behaviour)
        self.gateway.call("Reload")
        return self.ask()

    def end(self, number, result):
        found = self.gateway.wait_signal("JobRemoved", self.begun, lambda arguments: arguments[0] == number)
        self.assertEqual(found[1:3], ["renew", result], found)

    def assertUntouched(self):
        """What was in use is in use, nobody was told of anything else, and nothing but the record of the attempt and
        the method's checkpoint is left."""
        self.assertNoWorker()
        self.assertEqual(self.gateway.property("State"), "provisioned")
        self.assertEqual(self.look(), self.before)
        self.assertEqual(self.gateway.signalled("Generation", self.begun), [])
        self.assertEqual(self.gateway.signalled("CertificateId", self.begun), [])
        self.assertEqual(self.gateway.property("RefusedSince"), 0)
        self.assertEqual(self.gateway.property("RetirePending"), [])
        state = self.gateway.state
        self.assertEqual([path.name for path in (state / "generations").iterdir()], ["1"])
        kept = {path.name for path in state.iterdir()} - {"current", "generations", "clock", "current.new"}
        self.assertLessEqual(kept, {"retry-renewal.1", "renewal-hostile.1"})
        self.assertEqual(list(self.cloud.device_certificates()), self.known)

    def misbehave(self, behaviour, error_class, step, words, **renewal):
        with self.subTest(behaviour=behaviour):
            self.end(self.begin(behaviour, **renewal), "failed")
            self.assertError(error_class, step, words)
            self.assertGreater(self.gateway.property("NextAttempt"), time.time() * 1000000)
            self.assertUntouched()

    def assertHealed(self):
        """The good method, and no restart."""
        self.end(self.begin("", RenewMethod="fleet-claim"), "done")
        self.assertEqual(self.gateway.pid(), self.pid)
        self.assertEqual(self.gateway.property("LastError"), ["", "", "", 0])
        self.assertEqual(self.gateway.identity()["generation"], 2)
        self.assertEqual(self.gateway.identity()["thingName"], self.thing)
        self.assertEqual(len(self.cloud.device_certificates()), 2)
        self.assertFalse(list(self.gateway.state.glob("r*")), "the record and the checkpoint are gone")

    def test_ends(self):
        for behaviour, words in (
            ("end/crash", "(signal 11, Segmentation fault)"),
            ("end/abort", "(signal 6, Aborted)"),
            ("end/exit-0", "without a result"),
            ("end/exit-1", "without a result (exit status 1)"),
        ):
            self.misbehave(behaviour, "internal", "worker", words)
        self.assertHealed()

    def test_hangs(self):
        for behaviour in ("hang/sleep", "hang/busy", "hang/stubborn"):
            with self.subTest(behaviour=behaviour):
                number = self.begin(behaviour)
                self.gateway.wait_property("Step", "claim")
                self.assertResponsive("renewing")
                self.assertEqual(self.look(), self.before)
                self.gateway.call("Cancel", f"uint32:{number}")
                self.end(number, "canceled")
                self.assertError("internal", "worker", "canceled on request")
                self.assertUntouched()
        self.assertHealed()

    def test_forged_messages(self):
        for behaviour, words in (
            ("forge/garbage", "something that is not a message: it is not UTF-8"),
            ("forge/job", "it sent what only the daemon may"),
            ("forge/result-without-files", "a file of its result is missing"),
            ("forge/result-lost", "it has no usable LOST"),
            ("forge/result-refused", "it has no usable REFUSED"),
            ("forge/resume", "asked to resume a second time"),
            ("forge/endless-checkpoints", "too many checkpoints"),
            ("forge/second-result", "a message after its result"),
            ("forge/large-files", "progress without a usable STEP"),
            ("forge/leave-child", "another process holds its channel"),
            ("forge/close-channel", "closed its channel without a result"),
        ):
            self.misbehave(behaviour, "internal", "worker", words)
        self.misbehave("forge/forged-identity", "invalid", "verify", "there is no certificate in it")
        self.assertHealed()

    def test_lies(self):
        """The key is a new one."""
        for behaviour, error_class, words in (
            ("lie/nothing", "internal", "hostile ended without a registered certificate"),
            ("lie/success-after-failure", "internal", "hostile ended without a registered certificate"),
            ("lie/failure-without-reason", "internal", "hostile failed without a word"),
            ("lie/certificate-of-another-key", "invalid", "for another key than this device's"),
            ("lie/certificate-ignored", "internal", "a thing but no certificate"),
            ("lie/certificate-is-none", "invalid", "certificate 1 is damaged"),
            ("lie/registration-of-nothing", "internal", "a certificate that it does not hold"),
            ("lie/thing-without-certificate", "internal", "a thing but no certificate"),
        ):
            self.misbehave(behaviour, error_class, "claim", words)
        current = self.gateway.state / "current" / "certificate.pem"
        self.gateway.configure("hostile", Certificate=current)
        self.misbehave("lie/registered", "invalid", "claim", "for another key than this device's")
        self.assertHealed()

    def test_lies_with_the_key_in_use(self):
        """So a test can have certificates made for it: one that the cloud does not know, and the old one again."""
        stranger = Authority(self.directory, "stranger")
        request = stranger.request(self.gateway.state / "current" / "private.pem", f"/CN={self.thing}")
        certificate = self.directory / "strange.pem"
        certificate.write_text(stranger.sign(request))
        self.gateway.configure("hostile", Certificate=certificate)
        words = f"for the thing another-thing, and this device is {self.thing}"
        self.misbehave("lie/registered-for-another-thing", "invalid", "register", words, ReuseKey="yes")
        self.misbehave("lie/registered", "denied", "prove", "")
        self.gateway.configure("hostile", Certificate=self.gateway.state / "current" / "certificate.pem")
        self.misbehave("lie/registered", "invalid", "claim", "is the one in use")
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

    def test_out_of_order(self):
        client = self.thing + "-enrolld"
        for behaviour, words, connects in (
            ("order/prove-nothing", "tries an identity that it does not have", 0),
            ("reach/no-connection", "subscribes without a connection", 0),
            ("order/request-behind-the-end", "makes a request without a connection", 1),
            ("order/connect-twice", "it connects, and that is all", 2),
        ):
            before = len(self.cloud.events(event="connect", clientId=client))
            self.misbehave(behaviour, "internal", "claim", words)
            self.assertEqual(len(self.cloud.events(event="connect", clientId=client)), before + connects)
        words = "does the device's policy allow iot:Subscribe to this topicfilter?"
        self.misbehave("order/subscribe-to-others", "denied", "claim", words)
        self.assertNotIn("Template", self.gateway.property("LastError")[2], "that is for fleet provisioning")
        self.assertHealed()

    def test_beyond_the_process(self):
        self.misbehave("reach/exec", "internal", "claim", "exec: Operation not permitted")
        self.misbehave("reach/state-directory", "internal", "claim", "the state directory was written")
        self.assertHealed()
        self.assertEqual(sorted(path.name for path in self.gateway.state.iterdir()), ["clock", "current", "generations"])


if __name__ == "__main__":
    harness.main()
