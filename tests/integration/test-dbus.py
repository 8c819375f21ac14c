#!/usr/bin/env python3
"""What other programs see of the daemon: its interface on D-Bus, what it tells systemd, how it obeys signals."""

import json
import os
import pathlib
import pwd
import signal
import subprocess
import time
import unittest
import xml.etree.ElementTree

import harness
from gateway import FILES, INTERFACE, NAME, PATH, BusError, Gateway
from parts import BUS_OPEN_POLICY, Bus, Cloud, Tpm

PROPERTIES = {
    "Version": "s",
    "State": "s",
    "Method": "s",
    "Methods": "a(sss)",
    "Step": "s",
    "Attempt": "u",
    "NextAttempt": "t",
    "LastError": "(ssst)",
    "ThingName": "s",
    "SerialNumber": "s",
    "CertificateId": "s",
    "Generation": "u",
    "KeyBackend": "s",
    "KeyAlgorithm": "s",
    "KeyOrigin": "s",
    "NotBefore": "t",
    "NotAfter": "t",
    "RenewAfter": "t",
    "RenewRule": "s",
    "RenewMethod": "s",
    "RenewHindrance": "s",
    "RetirePending": "as",
    "RefusedSince": "t",
    "Endpoints": "as",
    "CredentialDirectory": "s",
    "VolatileState": "s",
}
# Names and types of the arguments that go in, and of those that come out.
METHODS = {
    "Enroll": ([], ["u"]),
    "Renew": ([], ["u"]),
    "Check": ([], ["u"]),
    "CreateRequest": (["s"], ["u"]),
    "GetRequest": ([], ["s"]),
    "GetCertificate": ([], ["s"]),
    "Import": (["h", "h"], ["u"]),
    "ImportCertificate": (["h"], ["u"]),
    "GetConfiguration": ([], ["a(ssssu)"]),
    "ListPlugins": ([], ["a(ss)"]),
    "Diagnose": ([], ["u"]),
    "GetDiagnosis": ([], ["a(ssss)"]),
    "Forget": ([], []),
    "Cancel": (["u"], []),
    "Reload": ([], []),
}
SIGNALS = {
    "JobRemoved": [("id", "u"), ("verb", "s"), ("result", "s"), ("detail", "s")],
    "IdentityChanged": [("generation", "u")],
}

BUS_POLICY = """<policy context="default">
    <allow user="*"/><deny own="*"/><deny send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  <policy user="root"><allow send_destination="org.freedesktop.DBus"/></policy>
  <include>{policy}</include>"""


def members(xml_text):
    """Properties, methods and signals of the agent's interface in introspection data."""
    root = xml.etree.ElementTree.fromstring(xml_text)
    interface = root.find(f"interface[@name='{INTERFACE}']")
    properties, methods, signals = {}, {}, {}
    for item in interface.findall("property"):
        properties[item.get("name")] = item.get("type")
        if item.get("access") != "read":
            raise AssertionError(f"{item.get('name')} can be written")
    for item in interface.findall("method"):
        types = {way: [] for way in ("in", "out")}
        for argument in item.findall("arg"):
            types[argument.get("direction", "in")].append(argument.get("type"))
        methods[item.get("name")] = (types["in"], types["out"])
    for item in interface.findall("signal"):
        signals[item.get("name")] = [(a.get("name"), a.get("type")) for a in item.findall("arg")]
    return properties, methods, signals


class DeviceTest(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.gateway = Gateway(self, self.cloud, backend="file")

    def start_hanging(self):
        """An enrolment that waits for an answer of the cloud."""
        self.cloud.freeze()
        self.gateway.start()
        self.gateway.wait_signalled("Step", "claim")

    def start_provisioned(self):
        self.gateway.start()
        self.gateway.wait_provisioned()


class Interface(DeviceTest):
    def assertBusError(self, name, method, *arguments):
        with self.assertRaises(BusError) as caught:
            self.gateway.call(method, *arguments)
        self.assertEqual(caught.exception.name, name, caught.exception)
        return caught.exception.text

    def test_introspection(self):
        self.gateway.start()
        seen = self.gateway.busctl("introspect", "--xml-interface", NAME, PATH)
        self.assertEqual(members(seen), (PROPERTIES, METHODS, SIGNALS))
        printed = subprocess.run(
            [harness.built("enrolld"), "--introspect"], capture_output=True, text=True, timeout=harness.DEADLINE
        )
        self.assertEqual(printed.returncode, 0, printed.stderr)
        self.assertEqual(members(printed.stdout), (PROPERTIES, METHODS, SIGNALS))

    def test_every_property_has_its_type(self):
        self.start_provisioned()
        for name, type_name in PROPERTIES.items():
            value = json.loads(self.gateway.busctl("get-property", NAME, PATH, INTERFACE, name))
            self.assertEqual(value["type"], type_name, name)

    def test_job_ends_with_a_signal(self):
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.gateway.start()
        first = self.gateway.wait_signal("JobRemoved")
        self.assertEqual(first[1:3], ["enroll", "failed"])
        self.assertTrue(first[3].startswith("denied: register: "), first)
        self.gateway.wait_property("State", "failed")
        self.cloud.hook()
        since = self.gateway.monitor.mark()
        job = int(self.gateway.call("Enroll"))
        self.assertGreater(job, first[0])
        removed = self.gateway.wait_signal("JobRemoved", since, wanted=lambda arguments: arguments[0] == job)
        self.assertEqual(removed, [job, "enroll", "done", ""])
        self.assertEqual(self.gateway.wait_signal("IdentityChanged"), [1])
        self.gateway.wait_provisioned()

    def test_enroll_joins_the_one_that_runs(self):
        self.start_hanging()
        job = int(self.gateway.call("Enroll"))
        self.assertEqual(int(self.gateway.call("Enroll")), job)
        self.assertEqual(len(self.gateway.workers()), 1)

    def test_enroll_while_provisioned(self):
        self.start_provisioned()
        self.assertBusError("org.enrolld1.Error.AlreadyProvisioned", "Enroll")
        self.assertEqual(self.gateway.property("State"), "provisioned")

    def test_enroll_while_checking(self):
        tpm = Tpm(self)
        self.gateway.configure("Key", Backend="tpm2", TCTI=tpm.tcti)
        self.start_provisioned()
        self.assertEqual(self.gateway.stop(), 0)
        tpm.process.send_signal(signal.SIGSTOP)
        self.gateway.start()
        self.gateway.wait_property("State", "checking")
        self.assertBusError("org.enrolld1.Error.Busy", "Enroll")
        tpm.process.send_signal(signal.SIGCONT)
        self.gateway.wait_provisioned()

    def test_cancel(self):
        """A canceled attempt has failed: the next one does not come at once."""
        self.gateway.configure("Retry", Internal="365d 365d")
        self.start_hanging()
        job = int(self.gateway.call("Enroll"))
        self.assertBusError("org.enrolld1.Error.NoSuchJob", "Cancel", f"uint32:{job + 1}")
        self.gateway.call("Cancel", f"uint32:{job}")
        removed = self.gateway.wait_signal("JobRemoved")
        self.assertEqual(removed[:3], [job, "enroll", "canceled"])
        self.assertBusError("org.enrolld1.Error.NoSuchJob", "Cancel", f"uint32:{job}")
        self.assertEqual(self.gateway.property("State"), "backoff")
        self.assertGreater(self.gateway.property("NextAttempt"), (time.time() + 60) * 1000000)
        self.assertEqual(self.gateway.property("LastError")[0], "internal")
        self.cloud.thaw()
        self.gateway.call("Enroll")
        self.gateway.wait_provisioned()

    def test_reload_of_a_bad_file_keeps_the_old_one(self):
        self.start_provisioned()
        self.gateway.configure("Cloud", Port="many")
        text = self.assertBusError("org.enrolld1.Error.InvalidConfiguration", "Reload")
        self.assertIn(f"{self.gateway.configuration}:", text)
        self.assertIn("Port=", text)
        self.assertEqual(self.gateway.property("State"), "provisioned")

    def test_reload_of_a_bad_file_while_waiting(self):
        """The old configuration is still the one that is tried."""
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        self.gateway.start()
        self.gateway.wait_property("State", "failed")
        self.gateway.configure("Cloud", Port="many")
        self.assertBusError("org.enrolld1.Error.InvalidConfiguration", "Reload")
        self.cloud.hook()
        self.gateway.wait_provisioned()

    def test_second_daemon(self):
        """Neither the state directory nor the name on the bus is shared."""
        self.start_provisioned()
        other = Gateway(self, self.cloud, backend="file", name="other", bus=self.gateway.bus)
        other.start(wait=False)
        self.assertNotEqual(other.process.wait(), 0)
        other = Gateway(self, self.cloud, backend="file", name="third", bus=Bus(self, name="bus-2"))
        other.state = self.gateway.state
        other.start(wait=False)
        self.assertNotEqual(other.process.wait(), 0)
        self.assertEqual(self.gateway.property("State"), "provisioned")

    def test_end_of_the_bus(self):
        """systemd restarts the daemon then."""
        self.start_provisioned()
        self.gateway.bus.process.stop(signal.SIGKILL)
        self.assertGreater(self.gateway.process.wait(), 0)


@unittest.skipUnless(os.geteuid() == 0, "needs root, to be somebody else")
class Groups(harness.TestCase):
    """Who may control and who may read: groups of a machine that has both, with `nobody` for everybody else."""

    ADMIN, IDENTITY = 64001, 64002
    REFUSED_BY_DAEMON = "Only root and members of the group"

    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        group = self.directory / "group"
        own = f"enrolld-admin:x:{self.ADMIN}:nobody\nenrolld-identity:x:{self.IDENTITY}:\n"
        group.write_text(pathlib.Path("/etc/group").read_text() + own)
        # A mount namespace of its own for each of the two programs that look for groups.
        self.wrapper = ["unshare", "--mount", "sh", "-c", f'mount --bind "{group}" /etc/group && exec "$@"', "sh"]
        self.directory.chmod(0o711)

    def start(self, policy, before=()):
        bus = Bus(self, policy, wrapper=self.wrapper)
        self.gateway = Gateway(self, self.cloud, backend="file", bus=bus)
        self.gateway.configure("Retry", Denied="365d 365d")
        self.gateway.wrapper = self.wrapper
        for path in (self.directory / "bus", self.gateway.directory):
            path.chmod(0o711)
        self.gateway.start(before=before)
        self.gateway.wait_property("State", "failed")

    def enroll(self):
        self.cloud.hook()
        self.gateway.call("Enroll")
        self.gateway.wait_provisioned()

    def owners(self):
        """The groups of what is in the first generation."""
        generation = self.gateway.state / "generations/1"
        return {path.name: path.stat().st_gid for path in (generation, *generation.iterdir())}

    @staticmethod
    def run_as_nobody(*words, groups):
        # Programs of the build are in a directory that others need not be able to enter.
        nobody = pwd.getpwnam("nobody")
        return subprocess.run(
            [str(word) for word in words],
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=groups,
        )

    def call(self, *words, groups):
        send = ["dbus-send", f"--bus={self.gateway.bus.address}", "--print-reply", f"--dest={NAME}", PATH]
        return self.run_as_nobody(*send, *words, groups=groups)

    def assertRefused(self, text, groups, but=()):
        values = {"u": "uint32:1", "s": "string:x", "h": "string:x"}  # dbus-send cannot hand over a file,
        for method, (types, _) in METHODS.items():
            if "h" in types and text == self.REFUSED_BY_DAEMON:  # which comes too late here: fuzz-bus does it
                continue
            if method in but:
                continue
            done = self.call(f"{INTERFACE}.{method}", *[values[type] for type in types], groups=groups)
            self.assertIn("org.freedesktop.DBus.Error.AccessDenied", done.stderr)
            self.assertIn(text, done.stderr)

    def assertUserChecks(self, text):
        """Who uses the identity may have it checked, and nothing else."""
        self.assertRefused(text, groups=[self.IDENTITY], but=["Check"])
        done = self.call(f"{INTERFACE}.Check", groups=[self.IDENTITY])
        self.assertIn("org.enrolld1.Error.NoIdentity", done.stderr)

    def assertMemberControls(self):
        done = self.call(f"{INTERFACE}.Cancel", "uint32:77", groups=[self.ADMIN])
        self.assertIn("org.enrolld1.Error.NoSuchJob", done.stderr)
        self.cloud.hook()
        done = self.call(f"{INTERFACE}.Enroll", groups=[self.ADMIN])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("uint32", done.stdout)
        self.gateway.wait_provisioned()
        done = self.call(f"{INTERFACE}.Reload", groups=[self.ADMIN])
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_installed_policy(self):
        """Root and the group control, everybody looks."""
        self.start(BUS_POLICY.format(policy=harness.SOURCE_DIR / "systemd/org.enrolld1.conf"))
        read = ("org.freedesktop.DBus.Properties.Get", f"string:{INTERFACE}", "string:State")
        self.assertIn("failed", self.call(*read, groups=[]).stdout)
        done = self.call("org.freedesktop.DBus.Introspectable.Introspect", groups=[])
        self.assertIn(INTERFACE, done.stdout, done.stderr)
        self.assertRefused("Rejected send message", groups=[])
        self.assertUserChecks("Rejected send message")
        self.assertMemberControls()
        self.assertEqual(self.gateway.call("Reload"), "")  # root

    def test_daemon_decides_by_itself(self):
        """Where the bus lets everybody through."""
        self.start(BUS_OPEN_POLICY)
        self.assertRefused(self.REFUSED_BY_DAEMON, groups=[])
        self.assertUserChecks(self.REFUSED_BY_DAEMON)
        self.assertMemberControls()

    def test_group_of_the_identity(self):
        self.start(BUS_OPEN_POLICY)
        self.enroll()
        self.assertEqual(self.owners(), dict.fromkeys(("1", *FILES), self.IDENTITY))
        path = self.gateway.state / "current/private.pem"
        self.assertIn("PRIVATE KEY", self.run_as_nobody("cat", path, groups=[self.IDENTITY]).stdout)
        self.assertIn("denied", self.run_as_nobody("cat", path, groups=[self.ADMIN]).stderr.lower())
        self.assertNotIn("cannot be given", self.gateway.log.read_text())

    @unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
    def test_group_of_the_daemon_itself(self):
        """As in its unit, which takes fchown(2) away: the files are in that group already."""
        trace = self.directory / "trace"
        tracer = ["setpriv", f"--regid={self.IDENTITY}", "--keep-groups", "strace", "-qq", "-o", trace]
        self.start(BUS_OPEN_POLICY, before=[*tracer, "-e", "trace=chown,fchown,lchown,fchownat,fchmod"])
        self.enroll()
        self.assertEqual(self.owners(), dict.fromkeys(("1", *FILES), self.IDENTITY))
        self.assertIn("fchmod(", trace.read_text())
        self.assertNotIn("chown", trace.read_text())

    @unittest.skipUnless(harness.can_trace(), "needs strace(1), and may not use it here")
    def test_group_that_may_not_be_given(self):
        """The identity is in use all the same, and the log says once why applications cannot read it."""
        inject = "inject=fchown:error=EPERM"
        self.start(BUS_OPEN_POLICY, before=["strace", "-qq", "-o", "/dev/null", "-e", "trace=fchown", "-e", inject])
        self.enroll()
        self.assertNotIn(self.IDENTITY, self.owners().values())
        self.assertEqual(self.gateway.log.read_text().count("cannot be given to the group enrolld-identity"), 1)


class Systemd(DeviceTest):
    """Type=notify, and the signals of a service."""

    def test_ready_and_status(self):
        self.start_provisioned()
        said = self.gateway.notifications
        self.assertIn("READY=1", said.messages)
        self.assertIsNotNone(said.wait("STATUS=Provisioned: thing gateway-GW-0001"), said.messages)

    def test_ready_before_the_first_job_ends(self):
        self.start_hanging()
        self.assertIsNotNone(self.gateway.notifications.wait("READY=1"))
        self.assertEqual(len(self.gateway.workers()), 1)

    def test_watchdog(self):
        self.gateway.extra_environment["WATCHDOG_USEC"] = "200000"
        self.start_provisioned()
        said = self.gateway.notifications
        for _ in range(3):
            self.assertIsNotNone(said.wait("WATCHDOG=1", said.mark()))

    def test_worker_has_nothing_of_the_daemon(self):
        self.gateway.extra_environment["WATCHDOG_USEC"] = "60000000"
        self.start_hanging()
        (worker,) = self.gateway.workers()
        environment = pathlib.Path(f"/proc/{worker}/environ").read_bytes().decode().split("\0")
        names = {line.split("=")[0] for line in environment}
        self.assertEqual(names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "DBUS_SYSTEM_BUS_ADDRESS"}, set())
        links = [os.readlink(entry) for entry in pathlib.Path(f"/proc/{worker}/fd").iterdir()]
        self.assertFalse([link for link in links if link.startswith(str(self.gateway.state))], links)

    def test_termination(self):
        self.start_hanging()
        (worker,) = self.gateway.workers()
        self.assertEqual(self.gateway.stop(), 0)
        self.assertFalse(pathlib.Path(f"/proc/{worker}/exe").exists())
        self.assertIsNotNone(self.gateway.notifications.wait("STOPPING=1"))

    def test_termination_while_provisioned(self):
        self.start_provisioned()
        self.assertEqual(self.gateway.stop(signal.SIGINT), 0)

    def test_hangup_reloads(self):
        self.start_provisioned()
        said = self.gateway.notifications
        since = said.mark()
        self.gateway.send_signal(signal.SIGHUP)
        self.assertIsNotNone(said.wait("RELOADING=1", since), said.messages)
        self.assertIsNotNone(said.wait("READY=1", since), said.messages)
        self.assertEqual(self.gateway.property("State"), "provisioned")


class Follow(DeviceTest):
    """enrollctl beside a daemon that comes and goes."""

    def enrollctl(self, *words):
        log = self.directory / f"enrollctl-{words[0]}.log"
        self.show_on_failure(f"enrollctl {words[0]}", log)
        process = harness.Process("enrollctl", [harness.built("enrollctl"), *words], log, self.gateway.environment())
        self.addCleanup(process.stop)
        return process

    def wait_text(self, process, text):
        harness.wait_for(lambda: f"{text!r} in: {process.log.read_text()}", lambda: text in process.log.read_text())

    def test_wait_begins_before_the_daemon(self):
        waiting = self.enrollctl("wait", "--timeout=60")
        look = lambda message: "org.enrolld1" in str(message["payload"]["data"]) and message.get("member") == "AddMatch"
        self.assertTrue(self.gateway.monitor.first(look, 0, harness.DEADLINE))
        self.gateway.start()
        self.assertEqual(waiting.wait(), 0)
        self.assertEqual(self.gateway.property("State"), "provisioned")

    def test_wait_for_a_daemon_that_hangs(self):
        self.start_provisioned()
        self.gateway.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        done = self.gateway.enrollctl("wait", "--timeout=1")
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("enrolld does not answer", done.stderr)
        self.assertLess(time.monotonic() - begin, 15)  # the library by itself would wait for 25 s
        since = self.gateway.monitor.mark()
        waiting = self.enrollctl("wait")
        look = lambda message: message.get("member") == "GetAll"
        self.assertTrue(self.gateway.monitor.first(look, since, harness.DEADLINE))
        self.gateway.send_signal(signal.SIGCONT)
        self.assertEqual(waiting.wait(), 0)

    def test_wait_outlives_the_daemon(self):
        self.cloud.freeze()
        self.gateway.start()
        waiting = self.enrollctl("wait")
        look = lambda message: message.get("member") == "GetAll"
        self.assertTrue(self.gateway.monitor.first(look, 0, harness.DEADLINE))
        self.gateway.kill()
        self.cloud.thaw()
        self.gateway.start()
        self.assertEqual(waiting.wait(), 0)

    def test_monitor_outlives_the_daemon(self):
        monitor = self.enrollctl("monitor")
        self.wait_text(monitor, "enrolld is not running")
        self.gateway.start()
        for text in ("enrolld is running", "Step=claim", "JobRemoved", "IdentityChanged 1", "State=provisioned"):
            self.wait_text(monitor, text)
        self.gateway.stop()
        harness.wait_for(monitor.log.read_text, lambda: monitor.log.read_text().endswith("enrolld is not running\n"))
        self.gateway.start()
        harness.wait_for(monitor.log.read_text, lambda: monitor.log.read_text().count("enrolld is running\n") == 2)
        self.assertTrue(monitor.running())

    def test_enroll_says_that_the_daemon_is_gone(self):
        self.cloud.freeze()
        self.gateway.start()
        self.gateway.wait_signalled("Step", "claim")
        enrolling = self.enrollctl("enroll")

        def answered(message):
            from_agent = message["type"] == "method_return" and message.get("sender") != "org.freedesktop.DBus"
            return from_agent and message["payload"].get("type") == "u"

        self.assertTrue(self.gateway.monitor.first(answered, 0, harness.DEADLINE))
        self.gateway.kill()
        self.assertEqual(enrolling.wait(), 5)
        self.wait_text(enrolling, "enrollctl wait")

    def test_interrupted_enroll_leaves_the_job(self):
        self.cloud.freeze()
        self.gateway.start()
        enrolling = self.enrollctl("enroll")
        look = lambda message: message.get("member") == "Enroll"
        self.assertTrue(self.gateway.monitor.first(look, 0, harness.DEADLINE))
        self.assertEqual(enrolling.stop(signal.SIGINT), -signal.SIGINT)
        self.cloud.thaw()
        self.gateway.wait_provisioned()


if __name__ == "__main__":
    harness.main()
