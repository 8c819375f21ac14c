"""The real parts around enrolld: a message bus, a TPM, a cloud. Each lives in the directory of its test, is ready when
its constructor returns, and is stopped with the test."""

import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import unittest

from harness import DEADLINE, SOURCE_DIR, Process, built, wait_for

BUS_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  {policy}
</busconfig>
"""

BUS_OPEN_POLICY = """<policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
  </policy>"""


class Bus:
    """A private message bus: everyone may do everything, unless a policy (XML) is given. wrapper: a command that
    becomes dbus-daemon by exec."""

    def __init__(self, test, policy=BUS_OPEN_POLICY, name="bus", wrapper=()):
        directory = test.directory / name
        directory.mkdir()
        configuration = directory / "bus.conf"
        configuration.write_text(BUS_CONFIGURATION.format(path=directory / "socket", policy=policy))
        reader, writer = os.pipe()
        log = directory / "log"
        self.process = Process(
            "dbus-daemon",
            [*wrapper, "dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile"]
            + [f"--print-address={writer}"],
            log,
            pass_fds=[writer],
        )
        os.close(writer)
        test.show_on_failure("dbus-daemon", log)
        test.addCleanup(self.process.stop)
        with os.fdopen(reader) as address:
            self.address = address.readline().strip()
        if not self.address:
            raise AssertionError("dbus-daemon has not started: " + log.read_text())


class Tpm:
    """A TPM (swtpm) on a unix socket, without a resource manager."""

    CMD_GET_CAPABILITY = 1

    def __init__(self, test, name="tpm"):
        self.test = test
        self.directory = test.directory / name
        (self.directory / "state").mkdir(parents=True)
        self.socket = self.directory / "socket"
        self.control = self.directory / "socket.ctrl"  # where the swtpm TCTI looks for it
        self.tcti = f"swtpm:path={self.socket}"
        self.process = None
        test.show_on_failure("swtpm", self.directory / "log")
        test.addCleanup(self.stop)
        self.start()

    def start(self):
        self.process = Process(
            "swtpm",
            ["swtpm", "socket", "--tpm2", "--server", f"type=unixio,path={self.socket}"]
            + ["--ctrl", f"type=unixio,path={self.control}", "--tpmstate", f"dir={self.directory / 'state'}"]
            + ["--flags", "not-need-init,startup-clear"],
            self.directory / "log",
        )
        wait_for("swtpm answers", self.answers)

    def answers(self):
        if not self.process.running():
            raise AssertionError("swtpm has ended: " + self.process.log.read_text())
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(1)
                control.connect(str(self.control))
                control.sendall(struct.pack(">I", self.CMD_GET_CAPABILITY))
                return control.recv(64)
        except OSError:
            return None

    def stop(self):
        """By SIGKILL: swtpm 0.10 can spin for ever after SIGTERM. What it was told is on its disk by then."""
        if self.process is not None:
            self.process.stop(signal.SIGKILL)
        self.process = None
        for path in (self.socket, self.control):
            path.unlink(missing_ok=True)

    def tool(self, *arguments):
        """Runs a tool of tpm2-tools; returns its output."""
        environment = {"PATH": os.environ["PATH"], "TPM2TOOLS_TCTI": self.tcti, "TSS2_LOG": "all+NONE"}
        done = subprocess.run(
            arguments, env=environment, capture_output=True, text=True, timeout=DEADLINE, cwd=self.directory
        )
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def handles(self, kind):
        """kind: transient, loaded-session, persistent."""
        return self.tool("tpm2_getcap", f"handles-{kind}").split()[1::2]

    def flush(self):
        """What the kernel's resource manager does when a process with /dev/tpmrm0 open is killed."""
        for option in ("--transient-object", "--loaded-session"):
            self.tool("tpm2_flushcontext", option)


_claims = []  # as long as this process lives


def free_port():
    """A port of 127.0.0.1 that nobody listens on, outside the range of which the kernel takes ports for clients. No other
    test is given it, also while a server that has it is stopped to be started again: an abstract socket says so."""
    while True:
        port = random.randrange(20000, 32000)
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind(f"\0enrolld-test-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        _claims.append(claim)
        return port


class AwsError(Exception):
    """The aws client was refused; code: "ResourceNotFoundException" and the like, None if it did not get that far."""

    def __init__(self, text):
        super().__init__(text)
        found = re.search(r"An error occurred \((\w+)\)", text)
        self.code = found[1] if found else None


def aws_program():
    """The aws client of the distribution, or whichever is there; the test is skipped without one."""
    found = shutil.which("aws", path="/usr/bin") or shutil.which("aws")
    if found is None:
        raise unittest.SkipTest("no aws client")
    return found


class Cloud:
    """AWS IoT Core's stand-in: mosquitto with the plugin of tests/iotcore."""

    template = "enrolld"

    def __init__(self, test, *options, name="cloud", front=False):
        """options: of iotcore-setup. front: devices meet the TLS front."""
        self.directory = test.directory / name
        self.state = self.directory / "state"
        self.port = free_port()
        self.edits = 0
        self.process = self.front = None
        self.front_options = ["--front"] if front else []
        self.setup(*self.front_options, *options)
        self.root_ca = self.directory / "root-ca.pem"
        self.claim_certificate = self.directory / "claim.pem"
        self.claim_key = self.directory / "claim.key"
        claim = ssl.PEM_cert_to_DER_cert(self.claim_certificate.read_text())
        self.claim_id = hashlib.sha256(claim).hexdigest()
        test.show_on_failure("mosquitto", self.directory / "mosquitto.log")
        test.show_on_failure("mosquitto's output", self.directory / "output")
        test.show_on_failure("the front's output", self.directory / "front.log")
        test.show_on_failure("what functions have said", self.state / "functions.log")
        test.show_on_failure("events in the cloud", self.state / "events")
        test.addCleanup(self.stop)
        self.start()

    def setup(self, *options):
        parts = [f"--plugin={built('iotcore.so')}", f"--authority={built('tests/iotcore/iotcore-authority')}"]
        done = subprocess.run(
            [SOURCE_DIR / "tests/iotcore/iotcore-setup", self.directory, f"--port={self.port}", *parts, *options],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        if done.returncode != 0:
            raise AssertionError(f"iotcore-setup: {done.stdout}{done.stderr}")

    @staticmethod
    def thing_name(serial):
        """As the template makes it."""
        return f"gateway-{serial}"

    def start_broker(self):
        (self.state / "control-port").unlink(missing_ok=True)
        self.process = Process(
            "mosquitto", ["mosquitto", "-c", self.directory / "mosquitto.conf"], self.directory / "output"
        )
        if self.front_options:
            wait_for(lambda: f"mosquitto listens: {self.process.log.read_text()}", self.broker_listens)

    def start(self):
        self.start_broker()
        if self.front_options:
            self.front = Process(
                "iotcore-front", [built("tests/iotcore/iotcore-front"), self.directory], self.directory / "front.log"
            )
        wait_for(lambda: f"the cloud listens: {(self.front or self.process).log.read_text()}", self.listens)

    def processes(self):
        return [process for process in (self.front, self.process) if process is not None]

    def check_processes(self):
        for process in self.processes():
            if not process.running():
                raise AssertionError(f"{process.name} has ended: {process.log.read_text()}")

    def broker_listens(self):
        self.check_processes()
        return f"{self.state / 'front/broker'}\n" in pathlib.Path("/proc/net/unix").read_text()

    def listens(self):
        self.check_processes()
        # A look at the kernel's table, and not a connection that the broker would log.
        wanted = f"0100007F:{self.port:04X} 00000000:0000 0A"
        return any(wanted in line for line in pathlib.Path("/proc/net/tcp").read_text().splitlines())

    def stop(self):
        for process in self.processes():
            process.send_signal(signal.SIGCONT)
            process.stop()
        self.process = self.front = None

    def freeze(self):
        """From now on the kernel accepts connections and nobody answers."""
        for process in self.processes():
            process.send_signal(signal.SIGSTOP)

    def thaw(self):
        for process in self.processes():
            process.send_signal(signal.SIGCONT)

    def events(self, **wanted):
        """All events so far whose members have these values."""
        try:
            lines = (self.state / "events").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [json.loads(line) for line in lines]
        return [event for event in found if all(event.get(key) == value for key, value in wanted.items())]

    def wait_event(self, **wanted):
        return wait_for(lambda: f"event {wanted} in the cloud", lambda: self.events(**wanted))[0]

    def registry(self):
        return json.loads((self.state / "registry.json").read_text())

    def things(self):
        """The certificates of each thing."""
        registry = self.registry()
        found = {name: [] for name in registry["things"]}
        for certificate_id, certificate in registry["certificates"].items():
            for name in certificate["things"]:
                found[name].append(certificate_id)
        return found

    def device_certificates(self):
        """The status of each certificate but the claim."""
        certificates = self.registry()["certificates"]
        return {key: value["status"] for key, value in certificates.items() if key != self.claim_id}

    def not_after(self, certificate_id):
        """The end of a certificate, seconds since the epoch."""
        pem = self.registry()["certificates"][certificate_id]["pem"]
        words = ["openssl", "x509", "-noout", "-enddate"]
        end = subprocess.run(words, input=pem, capture_output=True, text=True, check=True).stdout
        return ssl.cert_time_to_seconds(end.strip().removeprefix("notAfter="))

    def write(self, name, value):
        """Replaces a control file by rename, as the stand-in expects it."""
        new = self.state / "new"
        new.write_text(json.dumps(value))
        new.rename(self.state / name)

    def hook(self, *rules):
        """The pre-provisioning hook from now on: rules like {"serialPrefix": "GW", "result": "deny"}."""
        self.write("hook.json", list(rules))

    def set_function(self, name, file, **members):
        """A Lambda function: its `policy` (a path) and `environment`, see tests/iotcore/function.h."""
        self.edit(function=name, file=str(file), **members)

    def edit(self, **edit):
        """What an operator does: see tests/iotcore/edit.h. Returns when it is done."""
        self.edits += 1
        name = f"{self.edits:04}.json"
        self.write(f"edits/{name}", edit)
        event = self.wait_event(event="edit", file=name)
        if event["result"] != "applied":
            raise AssertionError(f"the cloud refused {edit}: {event}")

    def set_certificate(self, certificate_id, status):
        self.edit(certificate=certificate_id, status=status)

    def register_authority(self, certificate, **settings):
        """A CA, from the file of its certificate, as tests/iotcore/edit.h says; returns its id. With `template` (a body)
        devices are provisioned just in time, else only registered."""
        pem = pathlib.Path(certificate).read_text()
        if "template" in settings:
            settings["registrationConfig"] = {"templateBody": json.dumps(settings.pop("template"))}
        self.edit(registerAuthority=pem, **settings)
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    def set_authority(self, authority_id, **settings):
        """Its status, autoRegistrationStatus or registrationConfig."""
        self.edit(authority=authority_id, **settings)

    @staticmethod
    def jitp_template():
        """The body of etc/aws/jitp-template.json."""
        return json.loads((SOURCE_DIR / "etc/aws/jitp-template.json").read_text())

    def options(self, **options):
        """Options of iotcore-setup from now on until the broker ends: options(propagation=40, token_reuse=True)."""
        self.edit(options=options)

    def fault(self, operation, action, **members):
        """A fault to inject: see tests/iotcore/fault.h."""
        self.edit(fault={"operation": operation, "action": action, **members})

    def clear_faults(self):
        self.edit(faults="clear")

    def set_template(self, **members):
        """Replaces the template's `body` (an object or a text), or says whether it is `enabled`."""
        self.edit(template=self.template, **members)

    def template_body(self):
        return json.loads(self.registry()["templates"][self.template]["templateBody"])

    def set_policy(self, name, document):
        """Replaces a policy: enrolld-claim and enrolld-device are those of etc/aws."""
        self.edit(policy=name, document=document)

    def certificates_of(self, thing):
        """The status of each certificate that is attached to the thing."""
        certificates = self.registry()["certificates"]
        return {key: value["status"] for key, value in certificates.items() if thing in value["things"]}

    def control_url(self):
        """With --control-port: where the control plane is."""
        path = self.state / "control-port"
        wait_for("the control plane listens", path.exists)
        return f"http://127.0.0.1:{path.read_text().strip()}"

    def aws_environment(self):
        """For the aws client: credentials that nobody verifies, and nothing of this machine's."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not verified",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def operator_environment(self):
        """The same for a script: `aws` is found first, and sanitizers say what they are told to."""
        environment = self.aws_environment()
        environment |= {key: value for key, value in os.environ.items() if key.endswith("SAN_OPTIONS")}
        return environment | {"PATH": f"{os.path.dirname(aws_program())}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}

    def aws_data(self, *arguments):
        """The same for `aws iot-data`."""
        return self.aws(*arguments, service="iot-data")

    def aws(self, *arguments, service="iot"):
        """Runs `aws iot` on the control plane (--control-port); returns what it said, an empty object for nothing."""
        done = subprocess.run(
            [aws_program(), service, "--endpoint-url", self.control_url(), "--output=json", *map(str, arguments)],
            env=self.aws_environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        if done.returncode != 0:
            raise AwsError(f"aws {service} {arguments[0]}: {done.stderr.strip()}")
        return json.loads(done.stdout or "{}")

    def history(self):
        """With --history=on: microseconds since the epoch and path of each version of the registry, in their order."""
        return sorted((int(path.stem), path) for path in (self.state / "history").glob("*.json"))

    def restore(self, microseconds):
        """Gives the cloud, which must be stopped, the memory it had at that time."""
        _, path = [version for version in self.history() if version[0] <= microseconds][-1]
        shutil.copyfile(path, self.state / "registry.json")
