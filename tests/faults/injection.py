"""How each kind of fault of the table gets into the scene, and out of it again. A row's member "inject" is a dictionary
with one member: its name is that of a class below (in lower case), its value is what that class takes."""

import json
import pathlib
import signal
import subprocess

import policies
from harness import SOURCE_DIR, Process, built, wait_for


class Injection:
    """arm() is called before the gateway starts, or is to renew; lift() while it runs."""

    def __init__(self, scene, row, value):
        self.scene = scene
        self.cloud = scene.cloud
        self.row = row
        self.value = value

    def template(self):
        """The name of the one that registers."""
        return "enrolld-renew" if self.row.get("renews") else self.cloud.template

    def prepare(self):
        """Before the gateway starts."""

    def arm(self):
        raise NotImplementedError

    def lift(self):
        raise NotImplementedError


class Front(Injection):
    """A fault of the front (front.py)."""

    def arm(self):
        if self.value["do"] == "server":
            self.make_certificate(self.value["certificate"])
        self.scene.front.arm({"step": self.row["step"], **self.value})

    def lift(self):
        self.scene.front.lift()

    def make_certificate(self, name):
        """server-NAME.pem for the server's own key: all is right with it but what its name says."""
        directory = self.cloud.directory
        extensions = {
            "other-authority": "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost\n",
            "other-name": "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:elsewhere.example\n",
            "for-clients": "extendedKeyUsage=clientAuth\nsubjectAltName=DNS:localhost\n",
        }
        (directory / "extensions").write_text(extensions[name])
        make = "openssl x509 -req -in server.csr -sha256 -days 2 -set_serial 2 -extfile extensions"
        signer = "-CA root-ca.pem -CAkey root-ca.key"
        if name == "other-authority":
            signer = "-signkey server.key"
        words = [*make.split(), *signer.split(), "-out", f"server-{name}.pem"]
        subprocess.run(words, cwd=directory, check=True, capture_output=True)


class Cloud(Injection):
    """A fault of the stand-in (tests/iotcore/fault.h), until it is lifted."""

    def arm(self):
        fault = {"times": 0, **self.value}
        padding = fault.pop("padding", 0)
        if padding:
            fault["payload"] = json.dumps({"padding": "x" * padding})
        if "payload" in fault and not isinstance(fault["payload"], str):
            fault["payload"] = json.dumps(fault["payload"])
        self.cloud.edit(fault=fault)

    def lift(self):
        self.cloud.edit(faults="clear")


class Stranger(Injection):
    """CreateCertificateFromCsr gives a certificate for a key that is not the device's."""

    def arm(self):
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=Other"
        words = [*make.split(), "-keyout", "stranger.key", "-out", "stranger.pem"]
        subprocess.run(words, cwd=self.cloud.directory, check=True, capture_output=True)
        certificate = (self.cloud.directory / "stranger.pem").read_text()
        reply = {"certificateId": "0" * 64, "certificatePem": certificate, "certificateOwnershipToken": "token"}
        self.cloud.edit(
            fault={"operation": "create-from-csr", "action": "replace", "times": 0, "payload": json.dumps(reply)}
        )

    def lift(self):
        self.cloud.edit(faults="clear")


class Claim(Injection):
    """The claim certificate has another status."""

    def arm(self):
        self.cloud.set_certificate(self.cloud.claim_id, self.value)

    def lift(self):
        self.cloud.set_certificate(self.cloud.claim_id, "ACTIVE")


class Device(Injection):
    """The device's certificate gets another status as soon as it is registered. An operator who corrects that does so
    for the newest one and for those to come."""

    def arm(self):
        self.set_outcome(self.value)

    def lift(self):
        self.set_outcome("ACTIVE")
        newest = self.cloud.events(event="register-thing", result="accepted")[-1]["certificateId"]
        self.cloud.set_certificate(newest, "ACTIVE")

    def set_outcome(self, status):
        body = json.loads(self.cloud.registry()["templates"][self.template()]["templateBody"])
        body["Resources"]["certificate"]["Properties"]["Status"] = status
        self.cloud.edit(template=self.template(), body=body)


class Clock(Injection):
    """The cloud's clock, so many seconds ahead: what has a date has expired."""

    def arm(self):
        self.cloud.edit(clockOffset=self.value)

    def lift(self):
        self.cloud.edit(clockOffset=0)


class Hook(Injection):
    """What the pre-provisioning hook says."""

    def arm(self):
        self.cloud.hook({"serialPrefix": "", "result": self.value})

    def lift(self):
        self.cloud.hook()


class Policy(Injection):
    """A policy of the claim or of devices, as policies.py changes it."""

    def arm(self):
        self.name, self.right = self.find()
        self.cloud.edit(policy=self.name, document=getattr(policies, self.value)(self.right))

    def lift(self):
        self.cloud.edit(policy=self.name, document=self.right)

    def find(self):
        device = self.row["step"] == "prove" or self.row.get("renews")
        name = "enrolld-device" if device else "enrolld-claim"
        return name, self.cloud.registry()["policies"][name]


class Template(Injection):
    """The provisioning template is disabled."""

    def arm(self):
        self.cloud.edit(template=self.template(), enabled=False)

    def lift(self):
        self.cloud.edit(template=self.template(), enabled=True)


class Options(Injection):
    """Options of the stand-in that can be changed while it runs."""

    def arm(self):
        self.cloud.edit(options=self.value)

    def lift(self):
        pass  # it passes by itself


class Settings(Injection):
    """Keys of the gateway's own configuration: SECTION.KEY. Corrected by an operator, with Reload."""

    def arm(self):
        self.right = {}
        for name, value in self.value.items():
            section, key = name.split(".", 1)
            self.right[name] = self.scene.gateway.sections[section].get(key)
            self.scene.gateway.configure(section, **{key: value})

    def lift(self):
        for name, value in self.right.items():
            section, key = name.split(".", 1)
            self.scene.gateway.configure(section, **{key: value})
        self.scene.gateway.call("Reload")


class Authority(Injection):
    """The authority whose certificate is imported has another status."""

    def arm(self):
        self.cloud.set_authority(self.scene.authority, status=self.value)

    def lift(self):
        self.cloud.set_authority(self.scene.authority, status="ACTIVE")


class Function(Injection):
    """A function of etc/aws that cannot be run: its name, its file."""

    def arm(self):
        name, _ = self.value
        self.cloud.set_function(name, self.scene.directory / "nonesuch.py")

    def lift(self):
        name, file = self.value
        self.cloud.set_function(name, SOURCE_DIR / "etc/aws" / file)


class Tpm(Injection):
    """The TPM is gone."""

    def arm(self):
        self.scene.tpm.stop()

    def lift(self):
        self.scene.tpm.start()


class Disk(Injection):
    """A call of the daemon on a file of the state directory fails: strace(1) sees to that."""

    def arm(self):
        gateway, value = self.scene.gateway, self.value
        words = ["strace", "-qq", "-o", "/dev/null", "-p", gateway.pid(), "-P", gateway.state / value["file"]]
        words += ["-e", f"trace={value['call']}", "-e", f"inject={value['call']}:error={value['error']}"]
        self.process = Process("strace", words, self.scene.directory / "strace.log")
        self.scene.addCleanup(self.process.stop)
        wait_for("strace has seized the daemon", self.is_traced)

    def is_traced(self):
        status = pathlib.Path(f"/proc/{self.scene.gateway.pid()}/status").read_text()
        return f"TracerPid:\t{self.process.pid}\n" in status

    def lift(self):
        self.process.send_signal(signal.SIGTERM)
        wait_for("strace has ended", lambda: not self.process.running())


class Worker(Injection):
    """Workers are killed at their start: "each", or each "second" one, which is the one that verifies."""

    def arm(self):
        (self.scene.directory / "armed").touch()

    def lift(self):
        (self.scene.directory / "armed").unlink()

    WRAPPER = """#!/bin/sh
if [ -e {directory}/armed ]; then
    echo >>{directory}/started
    [ {how} = each ] || [ $(($(wc -l <{directory}/started) % 2)) = 0 ] && kill -9 $$
fi
exec {worker} "$@"
"""

    def prepare(self):
        """Before the daemon starts."""
        wrapper = self.scene.directory / "worker"
        words = {"directory": self.scene.directory, "how": self.value, "worker": built("enrolld-worker")}
        wrapper.write_text(self.WRAPPER.format(**words))
        wrapper.chmod(0o755)
        self.scene.gateway.extra_environment["ENROLLD_WORKER"] = str(wrapper)


KINDS = {kind.__name__.lower(): kind for kind in Injection.__subclasses__()}


def make(scene, row):
    ((kind, value),) = row["inject"].items()
    return KINDS[kind](scene, row, value)
