#!/usr/bin/env python3
"""What is installed for systemd: units and their sandboxes, users, modes, the catalog, and the messages that it is about.
Booting with all that is tests/vm's."""

import configparser
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import unittest

import harness
from gateway import Gateway
from harness import DEADLINE, SOURCE_DIR
from installation import Installation, run
from parts import Cloud

# `systemd-analyze security`, times ten: at most.
EXPOSURE = {
    "enrolld.service": 6,
    "enrolld-check@.service": 2,
    "enrolld-worker@.service": 11,
    "enrolld-claim@.service": 11,
    "enrolld-wait.service": 2,
    "enrolld-lost.service": 2,
    "enrolld-discard-claim.service": 5,
}
WORKERS = ("enrolld-check@.service", "enrolld-worker@.service", "enrolld-claim@.service")
CATALOG = SOURCE_DIR / "systemd/enrolld.catalog"


def unit_directory():
    return Installation.find("systemd/system/enrolld.service").parent


def settings(name, section):
    """KEY: [values] of one section of an installed unit, and behind them those of its drop-in."""
    directory = unit_directory()
    dropin = "enrolld.service.d" if name == "enrolld.service" else "enrolld-.service.d"
    found = {}
    for path in (directory / name, directory / dropin / "10-sandbox.conf"):
        inside = None
        for line in path.read_text().splitlines():
            if line.startswith("["):
                inside = line.strip("[]")
            elif inside == section and re.match(r"\w+=", line):
                key, value = line.split("=", 1)
                found.setdefault(key, []).append(value)
    return found


def socket_groups():
    """The mask of the groups that the daemon asks for where it opens the socket itself (rtnetlink(7))."""
    bits = {"IPV4_IFADDR": 0x10, "IPV4_ROUTE": 0x40, "IPV6_IFADDR": 0x100, "IPV6_ROUTE": 0x400, "LINK": 1}
    names = re.findall(r"RTMGRP_(\w+)", (SOURCE_DIR / "agent/daemon/network.c").read_text())
    return sum(bits[name] for name in names)


class Units(harness.TestCase):
    def units(self):
        return sorted(path for path in unit_directory().iterdir() if path.is_file())

    def copy(self):
        """The units with the programs where they are, below the directory of the installation."""
        target = self.directory / "units"
        shutil.copytree(unit_directory(), target)
        for path in target.glob("*.service"):
            text = path.read_text()
            path.write_text(re.sub(r"^(ExecStart=)(/)", rf"\1{Installation.get()}\2", text, flags=re.M))
        return target

    def test_all_are_installed(self):
        """Each file of the sources, with its paths filled in."""
        names = {path.name for path in self.units()}
        for path in (SOURCE_DIR / "systemd").iterdir():
            if path.name.removesuffix(".in").endswith((".service", ".socket", ".path", ".target")):
                if path.name != "org.enrolld1.service":
                    self.assertIn(path.name.removesuffix(".in"), names)
        for path in self.units():
            self.assertNotRegex(path.read_text(), r"@\w+@", path)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o644, path)
        for name in ("sysusers.d/enrolld.conf", "tmpfiles.d/enrolld.conf", "systemd/catalog/enrolld.catalog"):
            Installation.find(name)

    def test_verify(self):
        directory = self.copy()
        units = [str(path) for path in sorted(directory.iterdir()) if path.is_file()]
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=yes", *units],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            env=os.environ | {"SYSTEMD_UNIT_PATH": f"{directory}:", "MANPATH": f"{Installation.find('share/man')}:"},
        )
        # Of units that the machine has of others it may complain.
        ours = [line for line in done.stderr.splitlines() if "enrolld" in line or str(directory) in line]
        self.assertEqual((done.returncode, ours), (0, []), done.stderr)

    def test_exposure(self):
        directory = self.copy()
        for name in (path.name for path in self.units() if path.suffix == ".service"):
            words = ["systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE[name]}"]
            done = subprocess.run([*words, directory / name], capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_secrets_are_for_the_claim_alone(self):
        for name in EXPOSURE:
            credentials = [key for key in settings(name, "Service") if "Credential" in key]
            self.assertEqual(credentials, ["LoadCredential"] if name == "enrolld-claim@.service" else [], name)

    def test_what_is_kept_apart(self):
        """The network, the TPM, the state: each has one kind of process that may."""
        for name in EXPOSURE:
            service = settings(name, "Service")
            network = name in ("enrolld-worker@.service", "enrolld-claim@.service")
            self.assertEqual("PrivateNetwork" not in service, network, name)
            self.assertEqual("AF_INET AF_INET6" in service["RestrictAddressFamilies"], network, name)
            self.assertEqual(any("tpm" in value for value in service.get("DeviceAllow", [])), name in WORKERS, name)
            self.assertEqual("StateDirectory" in service, name == "enrolld.service", name)
            self.assertEqual(service["ProtectSystem"], ["strict"], name)
            self.assertNotIn("chown", " ".join(service["SystemCallFilter"]), name)  # files have the unit's own group
            users = {"enrolld.service": "enrolld", "enrolld-lost.service": "enrolld", "enrolld-discard-claim.service": "root"}
            self.assertEqual(service["User"], [users.get(name, "enrolld-worker")])

    def test_nothing_gives_up(self):
        """A unit that was started too often would need a person."""
        for name in ("enrolld.service", "enrolld-wait.service", "enrolld-lost.service", "enrolld-discard-claim.service"):
            self.assertEqual(settings(name, "Unit")["StartLimitIntervalSec"], ["0"], name)
        for path in unit_directory().glob("*.path"):
            self.assertIn("StartLimitIntervalSec=0", path.read_text(), path)
        self.assertEqual(settings("enrolld.service", "Service")["Restart"], ["always"])

    def test_the_boot_waits_for_nothing(self):
        """Only enrolld.service is wanted by the boot, and nothing of ours comes before anything."""
        for path in self.units():
            self.assertNotIn("\nBefore=", path.read_text(), path)
            wanted = re.findall(r"^(?:WantedBy|RequiredBy)=(.*)", path.read_text(), re.M)
            self.assertEqual(wanted, ["multi-user.target"] if path.name == "enrolld.service" else [], path)

    def test_flags(self):
        """What the path units wait for is what the daemon makes; and it brings all of them."""
        source = (SOURCE_DIR / "agent/daemon/runtime.c").read_text()
        for path in unit_directory().glob("*.path"):
            (flag,) = re.findall(r"^PathExists=/run/enrolld/([\w-]+)$", path.read_text(), re.M)
            self.assertIn(f'"{flag}"', source, path)
            self.assertIn(path.name, " ".join(settings("enrolld.service", "Unit")["Wants"]))

    def test_claim_is_destroyed_once(self):
        """However that ends the flag goes, or the unit would be started without end; and it can write to no more than it must."""
        service = settings("enrolld-discard-claim.service", "Service")
        self.assertEqual(service["ExecStopPost"], ["+rm -f /run/enrolld/discard-claim"])
        self.assertEqual(service["ReadWritePaths"], ["-/etc/enrolld -/etc/credstore -/etc/credstore.encrypted"])
        self.assertEqual(service["CapabilityBoundingSet"], [""])

    def test_sockets(self):
        """Where the daemon looks for them; for the daemon alone."""
        source = (SOURCE_DIR / "agent/daemon/launch.h").read_text()
        (directory,) = re.findall(r'#define LAUNCH_SOCKETS "(.*)"', source)
        names = set(re.findall(r'#define LAUNCH_\w+ "(\w+)"', source))
        self.assertEqual({path.name for path in unit_directory().glob("*.socket")},
                         {f"enrolld-{name}.socket" for name in {*names, "network"}})
        for name in names:
            text = (unit_directory() / f"enrolld-{name}.socket").read_text()
            for line in (f"ListenSequentialPacket={directory}/{name}", "Accept=yes", "SocketUser=enrolld",
                         "SocketMode=0600"):
                self.assertIn(f"\n{line}\n", text, name)
            self.assertIn(f"enrolld-{name}.socket", " ".join(settings("enrolld.service", "Unit")["Requires"]))

    def test_network(self):
        """By the name under which the daemon looks for it; and it starts no daemon that was stopped."""
        text = (unit_directory() / "enrolld-network.socket").read_text()
        (name,) = re.findall(r'#define SOCKET_NAME "(.*)" ', (SOURCE_DIR / "agent/daemon/network.c").read_text())
        groups = socket_groups()
        for line in (f"FileDescriptorName={name}", f"ListenNetlink=route {groups}", "PartOf=enrolld.service"):
            self.assertIn(f"\n{line}\n", text)
        self.assertEqual(settings("enrolld.service", "Service")["Sockets"], ["enrolld-network.socket"])

    def test_activation(self):
        """The bus name belongs to the unit that the bus starts for it."""
        parser = configparser.ConfigParser()
        parser.read(Installation.find("system-services/org.enrolld1.service"))
        activation = parser["D-BUS Service"]
        service = settings(activation["SystemdService"], "Service")
        self.assertEqual(service["BusName"], [activation["Name"]])
        policy = Installation.find("system.d/org.enrolld1.conf").read_text()
        self.assertIn(f'<policy user="{service["User"][0]}">', policy)

    def test_the_worker_outlives_no_deadline_of_the_daemon(self):
        """RuntimeMaxSec= is for what the daemon cannot end: it must not come first."""
        source = (SOURCE_DIR / "agent/daemon/job.h").read_text()
        deadlines = {name: int(value) for name, value in re.findall(r"#define JOB_(\w+)_DEADLINE_USEC \((\d+) \*", source)}
        self.assertEqual(set(deadlines), {"CHECK", "TASK", "LIST", "DIAGNOSE", "ENROLL", "PROVE", "RETIRE"})
        enroll = deadlines.pop("ENROLL") + 2 * 3600  # Propagation= is an hour at most
        connected = max(enroll, deadlines.pop("PROVE"), deadlines.pop("RETIRE"))  # never in enrolld-check@
        for name, longest in zip(WORKERS, (max(deadlines.values()), connected, enroll)):
            (span,) = settings(name, "Service")["RuntimeMaxSec"]
            said = run("systemd-analyze", "timespan", span)
            microseconds = int(re.search(r"μs: (\d+)", said)[1])
            self.assertGreater(microseconds, longest * 1000000, f"{name}: {said}")


class Machine(harness.TestCase):
    """The directory of the test is the machine."""

    def setUp(self):
        super().setUp()
        self.root = self.directory / "root"
        (self.root / "etc").mkdir(parents=True)

    def make_users(self):
        words = ["systemd-sysusers", f"--root={self.root}", Installation.find("sysusers.d/enrolld.conf")]
        return run(*words)

    def numbers(self, name):
        lines = (self.root / "etc" / name).read_text().splitlines()
        return {line.split(":")[0]: int(line.split(":")[2]) for line in lines}

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to make users")
    def test_users(self):
        """Every user and group that a unit, the policy of the bus or the daemon names."""
        self.make_users()
        users, groups = self.numbers("passwd"), self.numbers("group")
        for name in EXPOSURE:
            service = settings(name, "Service")
            self.assertLessEqual(set(service["User"]) - {"root"}, set(users), name)
            wanted = {*service["Group"], *service.get("SupplementaryGroups", [])}
            self.assertLessEqual(wanted - {"root"}, set(groups), name)
        policy = Installation.find("system.d/org.enrolld1.conf").read_text()
        self.assertLessEqual(set(re.findall(r'policy group="(.*?)"', policy)), set(groups))
        source = (SOURCE_DIR / "agent/daemon/group.h").read_text()
        self.assertLessEqual(set(re.findall(r'#define GROUP_\w+ "(.*)"', source)), set(groups))
        shells = (self.root / "etc/passwd").read_text()
        self.assertEqual(len(re.findall(r"^enrolld.*/nologin$", shells, re.M)), 2, shells)
        before = users, groups
        self.make_users()
        self.assertEqual((self.numbers("passwd"), self.numbers("group")), before)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to make users")
    def test_serial_number(self):
        """The worker may read it; where there is none, nothing is said."""
        self.make_users()
        words = ["systemd-tmpfiles", f"--root={self.root}", "--create", Installation.find("tmpfiles.d/enrolld.conf")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        serial = self.root / "sys/class/dmi/id/product_serial"
        serial.parent.mkdir(parents=True)
        serial.write_text("GW-0001\n")
        serial.chmod(0o400)
        run(*words)
        status = serial.stat()
        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_uid), (0o440, 0))
        self.assertEqual(status.st_gid, self.numbers("group")["enrolld-worker"])

    def test_catalog(self):
        """It compiles, and has a text for each number in the program, and no other."""
        target = self.root / "usr/lib/systemd/catalog/enrolld.catalog"
        target.parent.mkdir(parents=True)
        shutil.copy(Installation.find("systemd/catalog/enrolld.catalog"), target)
        (self.root / "var/lib/systemd/catalog").mkdir(parents=True)
        run("journalctl", "--update-catalog", f"--root={self.root}")
        listed = run("journalctl", "--list-catalog", f"--root={self.root}").splitlines()
        seen = {line.split()[0] for line in listed}
        source = (SOURCE_DIR / "agent/daemon/log.c").read_text()
        self.assertEqual(seen, set(re.findall(r'return "([0-9a-f]{32})"', source)))
        self.assertEqual(len(seen), 12, listed)
        for line in CATALOG.read_text().splitlines():
            self.assertNotRegex(line, r"\s$", line)
        fields = set(re.findall(r"@(\w+)@", CATALOG.read_text()))
        self.assertEqual(fields, set(re.findall(r'"(ENROLLD_\w+)=', source)))


class Journal:
    """A socket in the place of the journal's: its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

    def __init__(self, test, directory):
        self.entries = []
        self.arrived = threading.Condition()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(directory / "socket"))
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        test.addCleanup(self.close)

    def read(self):
        while datagram := self.socket.recv(65536):
            fields = dict(line.split("=", 1) for line in datagram.decode().splitlines() if "=" in line)
            with self.arrived:
                self.entries.append(fields)
                self.arrived.notify_all()

    def close(self):
        self.socket.shutdown(socket.SHUT_RD)
        self.thread.join(DEADLINE)
        self.socket.close()

    def wait(self, subject, since=0):
        """The first entry from number `since` on whose text in the catalog has that subject."""
        (number,) = re.findall(rf"-- ([0-9a-f]{{32}})\nSubject: {re.escape(subject)}\n", CATALOG.read_text())

        def found():
            return next((entry for entry in self.entries[since:] if entry.get("MESSAGE_ID") == number), None)

        with self.arrived:
            self.arrived.wait_for(found, DEADLINE)
            if found() is None:
                raise AssertionError(f"no entry for {subject!r} in {self.entries[since:]}")
            return found()


@unittest.skipUnless(os.geteuid() == 0, "needs root, to have a journal of its own")
class Events(harness.TestCase):
    """What an operator may have to act on, as the journal gets it."""

    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.gateway.configure("Retry", Denied="365d 365d", Invalid="365d 365d")
        directory = self.directory / "journal"
        directory.mkdir()
        self.journal = Journal(self, directory)
        script = (
            f'mkdir -p /run/systemd/journal && mount --bind "{directory}" /run/systemd/journal && '
            'export JOURNAL_STREAM="$(stat -L -c %d:%i /proc/self/fd/2)" && exec "$@"'
        )
        self.gateway.wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"]

    def test_each_event(self):
        self.gateway.configure("Cloud", Endpoint="nowhere.invalid")
        self.gateway.start()
        entry = self.journal.wait("An attempt has failed and is repeated")
        self.assertEqual((entry["PRIORITY"], entry["ENROLLD_CLASS"]), ("3", "network"), entry)
        self.assertEqual((entry["ENROLLD_STEP"], entry["SYSLOG_IDENTIFIER"]), ("claim", "enrolld"), entry)

        self.gateway.configure("Cloud", Endpoint="localhost")
        self.gateway.send_signal(signal.SIGHUP)
        entry = self.journal.wait("This device has an identity")
        self.assertEqual(entry["PRIORITY"], "5", entry)
        self.assertIn("provisioned: thing", entry["MESSAGE"])

        self.gateway.configure("Cloud", Endpoint=None)
        self.gateway.send_signal(signal.SIGHUP)
        entry = self.journal.wait("A changed configuration was refused")
        self.assertIn("Endpoint= is missing", entry["MESSAGE"])

        self.gateway.configure("Cloud", Endpoint="localhost")
        self.gateway.stop()
        self.cloud.hook({"serialPrefix": "GW", "result": "deny"})
        key = pathlib.Path(self.gateway.state / "current/private.pem")
        key.write_text("damaged\n")
        self.gateway.start()
        self.journal.wait("The identity of this device is lost")
        entry = self.journal.wait("An attempt has failed and somebody has to look at it")
        self.assertEqual(entry["ENROLLD_CLASS"], "denied", entry)
        # One stream only: nothing is said twice.
        self.assertNotIn("provisioned: thing", self.gateway.log.read_text())

    def test_renewal_that_fails(self):
        self.gateway.configure("fleet-claim", RenewTemplate="nowhere")
        self.gateway.start()
        self.journal.wait("This device has an identity")
        self.gateway.wait_provisioned()
        self.gateway.call("Renew")
        entry = self.journal.wait("An attempt to renew the certificate has failed and is repeated")
        self.assertEqual(entry["PRIORITY"], "3", entry)
        self.assertIn("stays in use", entry["MESSAGE"])

    def test_refused(self):
        self.gateway.start()
        self.gateway.wait_provisioned()
        certificate = self.gateway.property("CertificateId")
        self.cloud.set_certificate(certificate, "INACTIVE")
        self.check()
        entry = self.journal.wait("AWS IoT Core refuses the identity of this device")
        self.assertEqual((entry["PRIORITY"], entry["ENROLLD_CLASS"]), ("3", "denied"), entry)
        self.assertEqual((entry["ENROLLD_STEP"], entry["SYSLOG_IDENTIFIER"]), ("prove", "enrolld"), entry)
        self.assertIn(f"the cloud refuses certificate {certificate}: denied: prove: ", entry["MESSAGE"])
        self.assertOnce(entry)

    def check(self):
        """Waits until it has ended."""
        since = self.gateway.monitor.mark()
        self.gateway.call("Check")
        self.gateway.wait_signal("JobRemoved", since, lambda arguments: arguments[1] == "check")

    def assertOnce(self, entry):
        told = [one for one in self.journal.entries if one.get("MESSAGE_ID") == entry["MESSAGE_ID"]]
        self.assertEqual(told, [entry])

    def test_not_retired(self):
        self.gateway.sections["Renewal"] = {"RetireTopic": "of/others"}
        self.gateway.configure("fleet-claim", RenewTemplate="enrolld-renew", RenewParameter_ThingName="%t")
        self.gateway.start()
        self.gateway.wait_provisioned()
        first = self.gateway.property("CertificateId")
        self.gateway.call("Renew")
        entry = self.journal.wait("A certificate that was replaced may still be active in AWS IoT Core")
        self.assertEqual((entry["PRIORITY"], entry["ENROLLD_CLASS"]), ("4", "denied"), entry)
        self.assertEqual((entry["ENROLLD_STEP"], entry["SYSLOG_IDENTIFIER"]), ("retire", "enrolld"), entry)
        self.assertIn(f"certificate {first} the first: denied: retire: ", entry["MESSAGE"])
        self.check()  # something else in between
        self.assertOnce(entry)
        self.assertEqual(self.gateway.property("RetirePending"), [first])

    def test_what_is_waited_for(self):
        self.gateway.synchronise(False)
        epoch = self.gateway.clock / "clock-epoch"
        epoch.touch()
        os.utime(epoch, (4102444800, 4102444800))
        state = self.gateway.state
        state.mkdir()
        self.gateway.wrapper[4] = f'mount -t tmpfs state "{state}" && {self.gateway.wrapper[4]}'
        self.gateway.start()
        entry = self.journal.wait("The state of enrolld is kept in memory")
        self.assertEqual(entry["PRIORITY"], "4", entry)
        entry = self.journal.wait("An enrolment waits for the clock")
        self.assertEqual((entry["PRIORITY"], entry["ENROLLD_CLASS"]), ("4", "clock"), entry)


if __name__ == "__main__":
    try:
        harness.main()
    finally:
        Installation.remove()
