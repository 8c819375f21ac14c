#!/usr/bin/env python3
"""A cloud that says nothing costs one attempt, for as long as the deadlines of the exchange; and a device that has nothing to
do says nothing either, not even to its kernel."""

import re
import unittest

import harness
from gateway import Gateway
from parts import Cloud

# The longest wait of the exchange is half a minute.
ATTEMPT = 60


class Silence(harness.TestCase):
    def gateway(self):
        self.cloud = Cloud(self)
        return Gateway(self, self.cloud, backend="file")

    def wait_error(self, gateway, step):
        gateway.start()
        error = gateway.wait_signalled("LastError", lambda error: error[0] != "", ATTEMPT)
        self.assertEqual(error[:2], ["network", step], error)
        self.assertIn("localhost", error[2])

    def test_reply_is_lost(self):
        gateway = self.gateway()
        self.cloud.edit(fault={"operation": "create-from-csr", "action": "drop"})
        self.wait_error(gateway, "certificate")
        gateway.wait_provisioned()
        self.assertEqual(sorted(self.cloud.device_certificates().values()), ["ACTIVE", "PENDING_ACTIVATION"])

    def test_connection_without_answer(self):
        gateway = self.gateway()
        self.cloud.freeze()
        self.wait_error(gateway, "claim")
        self.cloud.thaw()
        # An attempt that is under way may have met the silence too.
        gateway.wait_provisioned(ATTEMPT + harness.DEADLINE)


WATCHDOG_S = 20  # systemd is told twice as often
REST_S = 60
MESSAGE = re.compile(r'^send\w+\(.*"WATCHDOG=1".*\n', re.MULTILINE)
# sd_notify(3) has a socket for each message; the timer of sd_event_set_watchdog(3) is armed anew.
OF_WATCHDOG = set("epoll_wait read timerfd_settime socket getsockopt setsockopt sendmsg close".split())
OF_WATCHDOG |= {"getegid", "geteuid", "getgid", "gettid", "getuid", "getpid"}


class Rest(harness.TestCase):
    """Provisioned, renewed, the old certificate retired: the next date is months away."""

    def gateway_at_rest(self, trace):
        self.cloud = Cloud(self, "--hooks", "--retire", "--control-port=0", "--issuer=private:400")
        gateway = Gateway(self, self.cloud, backend="file")
        topic = "$aws/rules/enrolld_retire/things/%t/retire"
        gateway.sections["Renewal"] = {"RetireTopic": topic, "RetireAcknowledged": "yes"}
        gateway.configure("fleet-claim", RenewTemplate="enrolld-renew", RenewParameter_ThingName="%t")
        gateway.extra_environment["WATCHDOG_USEC"] = str(WATCHDOG_S * 1000000)
        gateway.start(before=["strace", "-qq", "-o", trace])
        gateway.wait_provisioned()
        gateway.call("Renew")
        gateway.wait_property("Generation", 2)
        gateway.wait_property("RetirePending", [])
        gateway.wait_property("Step", "")
        self.assertEqual(sorted(self.cloud.device_certificates().values()), ["ACTIVE", "INACTIVE"])
        return gateway

    @unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
    def test_no_call_but_the_watchdog(self):
        trace = self.directory / "trace"
        gateway = self.gateway_at_rest(trace)
        said = gateway.notifications
        self.assertIsNotNone(said.wait("WATCHDOG=1", said.mark()))  # what the renewal has left to do is done
        begin = len(trace.read_text())
        for _ in range(REST_S * 2 // WATCHDOG_S):
            self.assertIsNotNone(said.wait("WATCHDOG=1", said.mark()))
        text = trace.read_text()[begin:]
        # What one of them costs: each ends with the next of its messages, and between them is nothing else.
        rounds = [tuple(re.findall(r"^(\w+)\(", part, re.MULTILINE)) for part in re.split(MESSAGE, text)[1:-1]]
        self.assertGreaterEqual(len(rounds), REST_S * 2 // WATCHDOG_S - 2, text)
        self.assertEqual(set(rounds), {rounds[0]}, text)
        self.assertLessEqual(set(rounds[0]), OF_WATCHDOG, text)
        print(f"# {len(rounds)} times in {REST_S} s, and nothing else: {' '.join(rounds[0])}")


if __name__ == "__main__":
    harness.main()
