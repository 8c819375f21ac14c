#!/usr/bin/env python3
"""A device that does not know the date: what nobody has set is waited for, and told; an identity that is there needs none.
What the clock is worth is told by files here (ENROLLD_CLOCK_DIRECTORY), since a test may not set it."""

import datetime
import json
import os
import time

import harness
from authority import Authority
from gateway import BusError, Gateway
from maker import certificate_id
from parts import Cloud

FAR = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc).timestamp()


class Device(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.gateway.synchronise(False)

    def set_epoch(self, seconds):
        """The clock cannot be earlier than that."""
        epoch = self.gateway.clock / "clock-epoch"
        epoch.touch()
        os.utime(epoch, (seconds, seconds))

    def wait_told(self, *words):
        error = self.gateway.wait_property("LastError", lambda error: error[0] == "clock")
        self.assertEqual(error[1], "clock", error)
        for word in words:
            self.assertIn(word, error[2])
        self.gateway.wait_property("State", "waiting-clock")
        self.assertEqual(self.gateway.property("Attempt"), 0)
        self.assertEqual(self.cloud.events(event="connect"), [])


class Waiting(Device):
    def test_default(self):
        """A minute and a half, while the right time may be about to come."""
        self.gateway.start()
        begun = time.time()
        self.wait_told("nobody has confirmed that yet", "ClockWait=")
        left = self.gateway.property("NextAttempt") / 1e6 - begun
        self.assertTrue(80 < left <= 91, left)
        status = self.gateway.notifications.wait("STATUS=Waiting for the clock: ")
        self.assertIsNotNone(status)
        # Said to be right: nothing wakes the daemon, it looks.
        self.gateway.synchronise()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("LastError")[0], "")
        self.assertLess(time.time() - begun, 80)

    def test_plausible(self):
        self.gateway.configure("Agent", ClockWait="2s")
        self.gateway.start()
        self.wait_told("nobody has confirmed that yet")
        self.gateway.wait_provisioned()
        states = self.gateway.signalled("State")
        self.assertEqual(states, ["waiting-clock", "enrolling", "provisioned"])

    def test_implausible(self):
        self.gateway.configure("Agent", ClockWait="0s")
        self.set_epoch(FAR)
        self.gateway.start()
        self.wait_told("the clock is not set", "2100-01-01T00:00:00Z this system was made", "timedatectl")
        self.assertEqual(self.gateway.property("NextAttempt"), 0)
        self.set_epoch(1)
        self.gateway.wait_provisioned()

    def test_restart(self):
        """The wait counts from the start of the daemon, and comes behind that for an attempt that has failed before."""
        self.gateway.configure("Agent", ClockWait="0s")
        self.gateway.configure("Cloud", Port=1)
        self.gateway.start()
        self.gateway.wait_property("LastError", lambda error: error[0] == "network")
        self.gateway.stop()
        self.gateway.configure("Cloud", Port=self.cloud.port)
        self.gateway.configure("Agent", ClockWait="1h")
        self.gateway.start()
        self.gateway.wait_property("State", "waiting-clock")
        self.gateway.configure("Agent", ClockWait="0s")
        self.gateway.call("Reload")
        self.gateway.wait_provisioned()


class Asked(Device):
    def test_plausible(self):
        """Who asks for an enrolment does not wait."""
        self.gateway.start()
        self.wait_told()
        done = self.gateway.enrollctl("enroll")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("done: thing ", done.stdout)

    def test_implausible(self):
        self.set_epoch(FAR)
        self.gateway.start()
        self.wait_told()
        done = self.gateway.enrollctl("enroll")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("the clock is not set: it says ", done.stderr)
        with self.assertRaises(BusError) as refused:
            self.gateway.call("Enroll")
        self.assertEqual(refused.exception.name, "org.enrolld1.Error.ClockNotSet")
        self.gateway.wait_property("State", "waiting-clock")

    def test_status(self):
        self.set_epoch(FAR)
        self.gateway.start()
        self.wait_told()
        status = self.gateway.enrollctl("status")
        self.assertEqual(status.returncode, 3)
        words = " ".join(status.stdout.split())
        self.assertIn("State: waiting-clock", words)
        self.assertIn("clock at step clock", words)
        self.assertIn("begins by itself as soon as the clock is set", words)
        self.assertNotIn("Next attempt", words)
        waited = self.gateway.enrollctl("wait", "--timeout=0")
        self.assertEqual(waited.returncode, 4)
        self.assertIn("the state is waiting-clock after clock: clock: the clock is not set", waited.stderr)

    def test_request(self):
        """The factory's work needs no date."""
        self.set_epoch(FAR)
        self.gateway.configure("Agent", Methods="fleet-claim jitp")
        self.gateway.start()
        self.wait_told()
        done = self.gateway.enrollctl("request")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("BEGIN CERTIFICATE REQUEST", done.stdout)
        self.gateway.wait_property("State", "waiting-clock")


class Provisioned(Device):
    def provision(self):
        self.gateway.synchronise()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.gateway.stop()
        self.gateway.synchronise(False)

    def test_identity_needs_no_clock(self):
        self.provision()
        self.set_epoch(FAR)
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.signalled("State"), ["provisioned"])

    def make_expired(self):
        """The certificate in use becomes one of the same key that has expired yesterday."""
        current = self.gateway.state / "current"
        maker = Authority(self.directory, "maker")
        pem = maker.sign(maker.request(current / "private.pem", "/CN=GW-0001"), days=-1)
        (current / "certificate.pem").write_text(pem)
        identity = self.gateway.identity() | {"certificateId": certificate_id(pem)}
        (current / "identity.json").write_text(json.dumps(identity))

    def test_expired(self):
        """By a clock that nobody has set it is not; by one that was set it is lost, and another one is enrolled."""
        self.provision()
        self.make_expired()
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("Generation"), 1)
        self.gateway.stop()
        self.gateway.synchronise()
        self.gateway.start()
        self.gateway.wait_property("Generation", 2)
        self.assertRegex(self.gateway.log.read_text(), "identity 1 is lost: .* expired on ")

    def test_trust_anchor(self):
        """What has expired by a clock that nobody has set is the clock's fault, and else that of the file."""
        anchor = Authority(self.directory, "anchor", days=-1)
        self.gateway.configure("Cloud", RootCA=anchor.path)
        self.gateway.configure("Agent", ClockWait="0s")
        self.gateway.start()
        error = self.gateway.wait_property("LastError", lambda error: error[0] == "clock")
        self.assertIn("have expired: is the clock right?", error[2])
        self.gateway.wait_signalled("State", "backoff")
        self.gateway.synchronise()
        self.gateway.wait_property("LastError", lambda error: error[0] == "invalid")
        self.gateway.wait_property("State", "failed")


class Future(harness.TestCase):
    """The cloud's clock is ahead of this device's: a certificate begins a moment from now."""

    def start(self):
        self.cloud = Cloud(self, "--issuer=private:400:4")
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.gateway.configure("Retry", Propagation="60s")  # else another one would be asked for
        self.gateway.configure("fleet-claim", RenewTemplate="enrolld-renew", RenewParameter_ThingName="%t")
        self.gateway.start()
        self.gateway.wait_provisioned(60)

    def assertBegun(self, generation):
        """It was put into use when its time had come, and it is the only one that was asked for."""
        identity = self.gateway.identity()
        self.assertEqual(identity["generation"], generation)
        self.assertLessEqual(identity["notBefore"], time.time())
        self.assertEqual(sorted(self.cloud.device_certificates().values()), ["ACTIVE"] * generation)
        self.assertEqual(self.gateway.property("LastError")[0], "")

    def test_enrolled(self):
        self.start()
        self.assertBegun(1)

    def test_renewed(self):
        """Until then the old one is in use."""
        self.start()
        self.gateway.call("Renew")
        self.gateway.wait_property("Generation", 2, 60)
        self.assertBegun(2)
        self.assertEqual(self.gateway.signalled("State")[-3:], ["provisioned", "renewing", "provisioned"])


if __name__ == "__main__":
    harness.main()
