"""enrolld as on a gateway: its configuration, directories and environment, the daemon itself, and what it says on
D-Bus, to systemd and to the log."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

from harness import DEADLINE, Process, built, children, wait_for
from parts import Bus

NAME = "org.enrolld1"
PATH = "/org/enrolld1"
INTERFACE = "org.enrolld1.Agent"

# Waits between attempts for tests. "denied" and "invalid" are for an operator: longer, so that a test which
# expects `failed` can see it.
RETRY = {
    "Network": "100ms 500ms",
    "CloudBusy": "100ms 500ms",
    "NotYet": "100ms 500ms",
    "Denied": "2s 2s",
    "Invalid": "2s 2s",
    "Clock": "100ms 500ms",
    "TPM": "100ms 500ms",
    "Internal": "100ms 500ms",
    "Propagation": "3s",
}

FILES = ("certificate.pem", "identity.json", "private.pem", "root-ca.pem")


class BusError(Exception):
    """A method call that returned an error."""

    def __init__(self, name, text):
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class BusMonitor:
    """All messages on the bus, in their order, as busctl prints them."""

    def __init__(self, test, address, log):
        self.messages = []
        self.arrived = threading.Condition()
        self.process = Process(
            "busctl", ["busctl", f"--address={address}", "--json=short", "monitor"], log, stdout=subprocess.PIPE
        )
        test.addCleanup(self.close)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        wait_for("busctl monitors the bus", lambda: self.sees_a_call(address))

    def sees_a_call(self, address):
        """Not all versions of busctl say when they have begun."""
        words = ["--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetId"]
        subprocess.run(["dbus-send", f"--bus={address}", "--print-reply", *words], capture_output=True, timeout=DEADLINE)
        return self.messages

    def read(self):
        for line in self.process.popen.stdout:
            if line.startswith(b"{"):
                with self.arrived:
                    self.messages.append(json.loads(line))
                    self.arrived.notify_all()

    def close(self):
        self.process.stop()
        self.thread.join(DEADLINE)
        self.process.popen.stdout.close()

    def mark(self):
        with self.arrived:
            return len(self.messages)

    def first(self, look, since, seconds):
        """The first true look(message) from number `since` on, None if there is none in time."""
        end = time.monotonic() + seconds
        while True:
            with self.arrived:
                if since == len(self.messages):
                    left = end - time.monotonic()
                    if left <= 0 or not self.arrived.wait(left):
                        return None
                message = self.messages[since]
                since += 1
            value = look(message)
            if value:
                return value


def changed_properties(message):
    """The properties that a PropertiesChanged signal of the agent carries."""
    if message.get("member") != "PropertiesChanged" or message.get("path") != PATH:
        return {}
    interface, changed, _ = message["payload"]["data"]
    return {name: value["data"] for name, value in changed.items()} if interface == INTERFACE else {}


class Notifications:
    """The socket on which systemd hears READY=1 and STATUS=."""

    def __init__(self, test, path):
        self.path = path
        self.messages = []
        self.arrived = threading.Condition()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        test.addCleanup(self.close)

    def read(self):
        # shutdown() of a datagram socket ends recv() with nothing, which no notification is.
        while datagram := self.socket.recv(4096):
            with self.arrived:
                self.messages += datagram.decode().splitlines()
                self.arrived.notify_all()

    def close(self):
        self.socket.shutdown(socket.SHUT_RD)
        self.thread.join(DEADLINE)
        self.socket.close()

    def mark(self):
        with self.arrived:
            return len(self.messages)

    def wait(self, prefix, since=0, seconds=DEADLINE):
        """The first line from number `since` on that starts so; None if there is none in time."""

        def found():
            return next((line for line in self.messages[since:] if line.startswith(prefix)), None)

        with self.arrived:
            self.arrived.wait_for(found, seconds)
            return found()


class Gateway:
    """One device. start() returns when the daemon has said READY=1."""

    def __init__(self, test, cloud, tpm=None, backend="tpm2", bus=None, name="gateway", serial="GW-0001"):
        self.extra_environment = {}
        self.test = test
        self.directory = test.directory / name
        self.directory.mkdir()
        self.state = self.directory / "state"
        self.runtime = self.directory / "run"
        self.runtime.mkdir()
        self.clock = self.directory / "clock"
        self.clock.mkdir()
        self.synchronise()
        self.configuration = self.directory / "enrolld.conf"
        self.log = self.directory / "log"
        self.process = None
        self.traced = False
        self.wrapper = []  # a command that becomes the daemon by exec
        self.since = 0
        self.sections = self.default_sections(cloud, tpm, backend, serial)
        self.configure()
        self.bus = bus or Bus(test)
        self.monitor = BusMonitor(test, self.bus.address, self.directory / "monitor.log")
        self.notifications = Notifications(test, self.directory / "notify")
        test.show_on_failure("enrolld.conf", self.configuration)
        test.show_on_failure("enrolld", self.log)
        test.addCleanup(self.kill)

    @staticmethod
    def default_sections(cloud, tpm, backend, serial):
        key = {"Backend": backend}
        if tpm is not None:
            key["TCTI"] = tpm.tcti
        return {
            # Tests may be on a file system in memory.
            "Agent": {"Methods": "fleet-claim", "SerialNumber": f"literal:{serial}", "VolatileState": "yes"},
            "Cloud": {"Endpoint": "localhost", "Port": cloud.port, "RootCA": cloud.root_ca},
            "Key": key,
            "Retry": dict(RETRY),
            "fleet-claim": {
                "Template": cloud.template,
                "Certificate": cloud.claim_certificate,
                "PrivateKey": cloud.claim_key,
                "Parameter.SerialNumber": "%s",
            },
        }

    def configure(self, section=None, **changes):
        """Changes keys of one section (None removes one, `_` stands for a dot) and writes the file."""
        for key, value in changes.items():
            self.sections[section][key.replace("_", ".")] = value
        lines = []
        for name, keys in self.sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key}={value}" for key, value in keys.items() if value is not None]
        self.configuration.write_text("\n".join(lines) + "\n")

    def synchronise(self, yes=True):
        """As a time service says it."""
        if yes:
            (self.clock / "synchronized").touch()
        else:
            (self.clock / "synchronized").unlink(missing_ok=True)

    def environment(self):
        kept = {key: value for key, value in os.environ.items() if key == "PATH" or key.endswith("SAN_OPTIONS")}
        return kept | {
            "LC_ALL": "C.UTF-8",
            "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address,
            "ENROLLD_CLOCK_DIRECTORY": str(self.clock),
            "ENROLLD_WORKER": str(built("enrolld-worker")),
            "ENROLLD_PLUGIN_DIR": str(built("fleet-claim.so").parent),
            "NOTIFY_SOCKET": str(self.notifications.path),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "STATE_DIRECTORY": str(self.state),
            "TSS2_LOG": "all+NONE",
            **self.extra_environment,
        }

    # The daemon.

    def start(self, wait=True, before=()):
        """before: strace and its options, to run the daemon under it."""
        self.traced = bool(before)
        self.since = self.monitor.mark()
        said = self.notifications.mark()
        self.process = Process(
            "enrolld",
            [*self.wrapper, *before, built("enrolld"), f"--config={self.configuration}"],
            self.log,
            self.environment(),
        )
        if wait and self.notifications.wait("READY=1", said) is None:
            raise AssertionError(f"enrolld has not said READY=1, its status is {self.process.popen.poll()}")

    def pid(self):
        """The daemon's: that of the traced program under strace, None if it has ended."""
        if self.traced:
            return next(iter(children(self.process.pid)), None)
        return self.process.pid if self.process.running() else None

    def send_signal(self, number):
        """Sends the daemon a signal, if it still runs."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, number)

    def stop(self, number=signal.SIGTERM):
        """Ends the daemon; returns its exit status."""
        self.send_signal(number)
        return self.process.wait()

    def kill(self):
        if self.process is not None:
            self.stop(signal.SIGKILL)

    def workers(self):
        return children(self.pid())

    # D-Bus.

    def busctl(self, *arguments):
        done = subprocess.run(
            ["busctl", f"--address={self.bus.address}", "--json=short", *arguments],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        if done.returncode != 0:
            raise BusError("", done.stderr.strip())
        return done.stdout

    def property(self, name):
        return json.loads(self.busctl("get-property", NAME, PATH, INTERFACE, name))["data"]

    def wait_property(self, name, wanted, seconds=DEADLINE):
        """Returns the value of a property once it is `wanted` (a value or a predicate): now, or in a signal."""
        accepts = wanted if callable(wanted) else lambda value: value == wanted
        since = self.monitor.mark()
        value = self.property(name)
        if accepts(value):
            return value

        def look(message):
            properties = changed_properties(message)
            return name in properties and accepts(properties[name]) and [properties[name]]

        found = self.monitor.first(look, since, seconds)
        if found is None:
            raise AssertionError(f"not within {seconds} s: {name} is {self.property(name)!r}\n{self.describe()}")
        return found[0]

    def wait_signalled(self, name, wanted, seconds=DEADLINE):
        """The first value that signals since the daemon's start have announced and that is `wanted` (a value or a
        predicate), however short it was there."""
        accepts = wanted if callable(wanted) else lambda value: value == wanted

        def look(message):
            properties = changed_properties(message)
            return name in properties and accepts(properties[name]) and [properties[name]]

        found = self.monitor.first(look, self.since, seconds)
        if found is None:
            raise AssertionError(f"{name} was never that within {seconds} s\n{self.describe()}")
        return found[0]

    def signalled(self, name, since=None):
        """The values that signals have announced since the daemon's start, or a mark, in their order."""
        with self.monitor.arrived:
            messages = self.monitor.messages[self.since if since is None else since :]
        return [changed_properties(message)[name] for message in messages if name in changed_properties(message)]

    def wait_signal(self, member, since=None, wanted=lambda arguments: True, seconds=DEADLINE):
        """The arguments of the next signal of that name which are wanted."""

        def look(message):
            if message["type"] != "signal" or message.get("member") != member:
                return None
            arguments = message["payload"]["data"]
            return arguments if wanted(arguments) else None

        found = self.monitor.first(look, self.since if since is None else since, seconds)
        if found is None:
            raise AssertionError(f"no signal {member} within {seconds} s\n{self.describe()}")
        return found

    def wait_provisioned(self, seconds=DEADLINE):
        self.wait_property("State", "provisioned", seconds)

    def call(self, method, *arguments):
        """Calls a method of the agent (arguments as dbus-send takes them); returns its result as text."""
        done = subprocess.run(
            ["dbus-send", f"--bus={self.bus.address}", "--print-reply=literal", f"--dest={NAME}", PATH]
            + [f"{INTERFACE}.{method}", *arguments],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        if done.returncode != 0:
            error = re.match(r"Error ([\w.]+): (.*)", done.stderr, re.DOTALL)
            raise BusError(*error.groups()) if error else BusError("", done.stderr)
        return done.stdout.split()[-1] if done.stdout.split() else ""

    def enrollctl(self, *arguments, **options):
        return subprocess.run(
            [built("enrollctl"), *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE,
            **options,
        )

    def describe(self):
        """What a person would look at first."""
        return "\n".join(f"{name}: {self.signalled(name)}" for name in ("State", "Step", "LastError"))

    # The state directory.

    def read(self, name):
        return (self.state / "current" / name).read_text()

    def identity(self):
        return json.loads(self.read("identity.json"))

    def check(self, directory):
        """Runs the worker's check by hand; returns its exit status and what it said."""
        done = subprocess.run(
            [built("enrolld-worker"), "check", f"--config={self.configuration}", f"--directory={directory}"],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        return done.returncode, done.stdout + done.stderr

    def files(self):
        """All regular files of the state directory."""
        return [path for path in pathlib.Path(self.state).rglob("*") if path.is_file() and not path.is_symlink()]
