#!/usr/bin/env python3
"""Renewals and retirements without a network, and with one that comes back or flaps: the kernel's own, in a namespace
for the daemon and its workers alone."""

import ctypes
import os
import socket
import subprocess
import threading
import time
import unittest

import harness
from gateway import Gateway
from parts import Cloud

RETIRE_TOPIC = "$aws/rules/enrolld_retire/things/%t/retire"
NEVER = "365d 365d"
CLONE_NEWNET = 0x40000000
SOON = 8  # seconds that a changed network takes to have something tried, at most
QUIET = 30  # seconds between two times that it does


class Network:
    """A network namespace of a process, with no way out of it until open() is called."""

    def __init__(self, test, pid):
        self.test, self.path = test, f"/proc/{pid}/ns/net"

    def ip(self, *lines):
        """Commands of ip(8)."""
        command = ["nsenter", f"--net={self.path}", "ip", "-force", "-batch", "-"]
        subprocess.run(command, input="".join(f"{line}\n" for line in lines), text=True, check=True, timeout=harness.DEADLINE)

    def change(self):
        self.ip("address add 192.0.2.1/32 dev lo")

    def flap(self, times):
        self.ip(*times * ["address add 192.0.2.2/32 dev lo", "address delete 192.0.2.2/32 dev lo"])

    def open(self, port):
        """What is connected to that port of the namespace's localhost reaches that of the other side."""
        listener = self.listen(port)
        self.test.addCleanup(listener.close)
        self.test.addCleanup(listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self.accept, args=(listener, port), daemon=True).start()

    def listen(self, port):
        """A socket stays in the namespace of the thread that has made it."""
        made = []

        def make():
            with open(self.path, "rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) == 0:
                    made.append(socket.create_server(("127.0.0.1", port)))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    @staticmethod
    def accept(listener, port):
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("localhost", port))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=Network.copy, args=(one, other), daemon=True).start()

    @staticmethod
    def copy(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@unittest.skipUnless(os.geteuid() == 0, "needs root, to have a network of its own")
class Changes(harness.TestCase):
    def scene(self, *options, **renewal):
        """Provisioned; what fails for want of a network waits for ever."""
        self.cloud = Cloud(self, "--retire", "--control-port=0", *options)
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.gateway.sections["Renewal"] = dict(renewal)
        self.gateway.configure("Retry", Network=NEVER)
        self.gateway.configure("fleet-claim", RenewTemplate="enrolld-renew", RenewParameter_ThingName="%t")
        self.gateway.start()
        self.gateway.wait_provisioned()

    def go_offline(self):
        """The next start is one without a network."""
        self.gateway.kill()
        self.gateway.wrapper = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.network = Network(self, self.gateway.pid())

    def wait_failed(self, step):
        error = self.gateway.wait_property("LastError", lambda error: error[0] != "")
        self.assertEqual(error[:2], ["network", step])

    def begin_renewal(self):
        self.scene()
        self.go_offline()
        self.gateway.call("Renew")
        self.wait_failed("identity")
        self.assertEqual(self.gateway.property("Attempt"), 1)

    def test_renewal(self):
        """A new address brings it forward, and the way to the cloud is there again."""
        self.begin_renewal()
        self.assertGreater(self.gateway.property("NextAttempt") / 1e6, time.time() + 60)
        self.network.open(self.cloud.port)
        self.network.change()
        self.gateway.wait_property("Generation", 2)
        self.gateway.wait_property("State", "provisioned")
        self.assertEqual(self.gateway.property("LastError")[0], "")
        self.assertEqual(self.gateway.property("NextAttempt"), 0)

    def test_flapping(self):
        """Thousands of changes, and one attempt; the next one is not before half a minute has passed."""
        self.begin_renewal()
        end = time.monotonic() + SOON + harness.DEADLINE
        while self.gateway.property("Attempt") == 1:
            self.network.flap(100)
            self.assertLess(time.monotonic(), end, "no attempt")
        second = time.time()
        harness.wait_for("the attempt has ended", lambda: self.gateway.property("State") == "provisioned")
        self.network.flap(2000)
        next_attempt = self.gateway.wait_property("NextAttempt", lambda usec: 0 < usec / 1e6 < second + 2 * QUIET) / 1e6
        self.assertGreater(next_attempt, second + QUIET - 5)
        self.network.flap(2000)
        self.assertEqual(self.gateway.property("Attempt"), 2)
        self.assertEqual(self.gateway.property("NextAttempt") / 1e6, next_attempt)

    def test_over_a_restart(self):
        """Attempts go on counting, and a start does not bring one."""
        self.begin_renewal()
        next_attempt = self.gateway.property("NextAttempt")
        self.go_offline()
        self.assertEqual(self.gateway.property("NextAttempt"), next_attempt)
        self.assertEqual(self.gateway.property("Attempt"), 1)
        self.network.change()
        self.gateway.wait_property("Attempt", 2)
        self.gateway.wait_property("State", "provisioned")

    def test_retirement(self):
        self.scene(RetireTopic=RETIRE_TOPIC, RetireAcknowledged="yes")
        first = self.gateway.property("CertificateId")
        self.cloud.set_function("enrolld-retire", "/nonexistent")
        self.gateway.call("Renew")
        self.gateway.wait_property("RetirePending", [first])
        self.cloud.wait_event(event="function", name="enrolld-retire", result=None)
        self.go_offline()
        self.wait_failed("retire")
        self.cloud.set_function("enrolld-retire", harness.SOURCE_DIR / "etc/aws/retire-lambda.py")
        self.network.open(self.cloud.port)
        self.network.change()
        self.gateway.wait_property("RetirePending", [])
        self.assertEqual(self.cloud.device_certificates()[first], "INACTIVE")
        self.gateway.wait_property("LastError", lambda error: error[0] == "")  # when its worker has ended


if __name__ == "__main__":
    harness.main()
