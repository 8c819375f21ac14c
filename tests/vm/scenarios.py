"""What a gateway goes through. Each scenario is a function; its first line says what must hold, its name is that of the
function with hyphens."""

import json
import pathlib

import image
from machine import Machine

SOURCE_DIR = image.SOURCE_DIR
PORT = 8883
SERIAL = "GW-0001"
THING = f"gateway-{SERIAL}"

# The one file that an integrator drops beside what `make install` has put there.
CONFIGURATION = """[Agent]
Methods=fleet-claim
SerialNumber={serial}
ClockWait=0s

[Cloud]
Endpoint={endpoint}
Port={port}
RootCA=/etc/enrolld/root-ca.pem

[fleet-claim]
Template=enrolld
Certificate=credential:claim-certificate
PrivateKey=credential:claim-key
Parameter.SerialNumber=%s

{more}
"""

# An application as strangers write it: it knows the target, the directory, and how OpenSSL gets at a key in the TPM. The
# provider of Debian 12 checks the server's signatures in the TPM, too, and needs more than the three objects that the
# kernel's resource manager has for each client (TPM_RC_OBJECT_MEMORY): so it goes through the one in user space.
APPLICATION = f"""[Unit]
After=enrolld-provisioned.target tpm2-abrmd.service
Wants=tpm2-abrmd.service
PartOf=enrolld-provisioned.target

[Service]
Type=oneshot
RemainAfterExit=yes
User=application
SupplementaryGroups=enrolld-identity tss
WorkingDirectory=/var/lib/enrolld/current
Environment=OPENSSL_CONF=/etc/application/openssl.cnf TPM2OPENSSL_TCTI=tabrmd:bus_type=system
ExecStart=mosquitto_pub -h localhost -p {PORT} -V 5 -q 1 -i {THING} -t things/{THING}/hello -m hello \\
    --cafile root-ca.pem --cert certificate.pem --key private.pem
"""
OPENSSL = """openssl_conf = settings
[settings]
providers = providers
alg_section = algorithms
[providers]
default = activated
base = activated
tpm2 = activated
[activated]
activate = 1
[algorithms]
default_properties = ?tpm2.signature=yes
"""
APPLICATION_FILES = {
    "/etc/systemd/system/application.service": APPLICATION,
    "/etc/application/openssl.cnf": OPENSSL,
    "/usr/lib/sysusers.d/application.conf": "u application -\n",
    # What `systemctl enable` makes.
    "/etc/systemd/system/enrolld-provisioned.target.wants/application.service": pathlib.PurePath(
        "/etc/systemd/system/application.service"
    ),
}
PEOPLE = "u visitor -\nu operator -\nm operator enrolld-admin\n"

EVERY = {}


def scenario(function):
    EVERY[function.__name__.replace("_", "-")] = function
    return function


def expect(what, value, wanted):
    """Fails unless value is wanted, or wanted(value)."""
    if not (wanted(value) if callable(wanted) else value == wanted):
        raise AssertionError(f"{what}: {value!r}" + ("" if callable(wanted) else f" and not {wanted!r}"))
    return value


def enabled(unit):
    """What `systemctl enable` makes."""
    return {f"/etc/systemd/system/multi-user.target.wants/{unit}": pathlib.PurePath(f"/usr/lib/systemd/system/{unit}")}


class Gateway(Machine):
    """A machine with enrolld and a cloud on its loopback interface, that has never been on. cloud: whether the cloud is
    there at boot. more: lines of the configuration. standin: options of iotcore-setup. files: put into the image, too;
    an empty text for what shall not be there."""

    def __init__(self, directory, golden, cloud=True, serial=f"literal:{SERIAL}", endpoint="localhost", more="",
                 standin=(), files=None, **options):  # fmt: skip
        directory.mkdir()
        self.make_cloud(directory, golden.build, standin)
        material = directory / "scene/cloud"
        everything = {
            "/etc/enrolld/enrolld.conf.d/device.conf": CONFIGURATION.format(
                serial=serial, port=PORT, endpoint=endpoint, more=more
            ),
            "/etc/enrolld/root-ca.pem": (material / "root-ca.pem").read_text(),
            "/etc/credstore/claim-certificate": (material / "claim.pem").read_text(),
            "/etc/credstore/claim-key": (material / "claim.key").read_text(),
            **enabled("enrolld.service"),
            **(enabled("cloud.service") if cloud else {}),
            **(files or {}),
        }
        super().__init__(directory / "machine", golden, everything, **options)
        image.make_file_system(self.scene, "64M", "scene", directory / "scene")

    @staticmethod
    def make_cloud(directory, build, options):
        """On the host, where making its keys takes no time, and then moved into the machine."""
        cloud = directory / "scene/cloud"
        cloud.parent.mkdir()
        authority = build / "tests/iotcore/iotcore-authority"
        plugin = build / "tests/iotcore/.libs/iotcore.so"
        image.command(SOURCE_DIR / "tests/iotcore/iotcore-setup", cloud, f"--port={PORT}", "--connect-rate=off",
                      f"--plugin={plugin}", f"--authority={authority}", *options)  # fmt: skip
        configuration = cloud / "mosquitto.conf"
        text = configuration.read_text().replace(str(cloud), "/srv/cloud")
        configuration.write_text(text.replace(str(plugin), "/usr/local/lib/iotcore/iotcore.so"))

    # What there is to see.

    def status(self):
        return json.loads(self.run("enrollctl status --json || test $? = 3"))

    def registry(self):
        return json.loads(self.run("cat /srv/cloud/state/registry.json"))

    def certificates(self):
        """The status of each certificate that is attached to the thing."""
        certificates = self.registry()["certificates"]
        return {key: value["status"] for key, value in certificates.items() if THING in value["things"]}

    def workers(self):
        """How many were started since the boot, by their role."""
        roles = ("check", "claim", "worker")
        return {role: int(self.run(f"systemctl show --property=NAccepted --value enrolld-{role}.socket")) for role in roles}

    def published(self):
        """What the cloud has got on the application's topic."""
        log = self.run("cat /srv/cloud/mosquitto.log")
        return [line for line in log.splitlines() if "Received PUBLISH" in line and f"things/{THING}/hello" in line]

    def complaints(self):
        """Of enrolld since the boot: warnings and worse."""
        return self.run("journalctl --boot --quiet --output=cat --priority=warning --unit=enrolld.service --unit='enrolld-*'")

    def wait_provisioned(self, seconds=120):
        self.wait("enrollctl wait --timeout=60", seconds)  # fails as long as there is no bus
        return self.status()


def provision(scene, **options):
    """A gateway after its first boot, and its status."""
    gateway = scene.gateway(**options)
    expect("after the boot the system is", gateway.boot(), "running")
    status = gateway.wait_provisioned()
    return gateway, status


@scenario
def first_boot(scene):
    """With the image, one file of configuration and a claim a new gateway is provisioned by booting."""
    gateway, status = provision(scene)
    wanted = {"State": "provisioned", "ThingName": THING, "KeyBackend": "tpm2", "KeyOrigin": "tpm", "Generation": 1}
    expect("the status", {key: status[key] for key in wanted}, wanted)
    expect("in the cloud", gateway.certificates(), {status["CertificateId"]: "ACTIVE"})
    gateway.wait("systemctl is-active enrolld-provisioned.target")
    expect("failed units", gateway.run("systemctl --failed --no-legend"), "")
    expect("jobs that wait", gateway.run("systemctl list-jobs --no-legend"), "")
    modes = gateway.run("cd /var/lib/enrolld && stat --format='%n %a %U:%G' . generations/1 current/private.pem")
    wanted = [". 711 enrolld:", "generations/1 750 enrolld:enrolld-identity", "current/private.pem 640 enrolld:enrolld-identity"]
    for line, beginning in zip(modes.splitlines(), wanted, strict=True):
        expect("the mode", line.startswith(beginning) or line, True)
    expect("workers", gateway.workers(), {"check": 1, "claim": 1, "worker": 0})
    expect("workers left", gateway.run("ls -d /sys/fs/cgroup/system.slice/system-enrolld*/*@* 2>/dev/null || true"), "")
    expect("complaints", gateway.complaints(), "")
    scene.say(gateway.run("systemd-analyze time | head -n 1"))
    scene.say(gateway.run("systemd-analyze blame | grep enrolld"))
    scene.say(gateway.run("systemd-analyze critical-chain enrolld.service"))


@scenario
def offline_reboot(scene):
    """A provisioned gateway that boots without a network is provisioned: one worker looks, none needs the cloud."""
    gateway, before = provision(scene)
    gateway.power_off()
    expect("after the boot the system is", gateway.boot("systemd.mask=cloud.service"), "running")
    after = gateway.wait_provisioned()
    expect("the certificate", after["CertificateId"], before["CertificateId"])
    expect("the generation", after["Generation"], 1)
    gateway.wait("systemctl is-active enrolld-provisioned.target")
    expect("workers", gateway.workers(), {"check": 1, "claim": 0, "worker": 0})
    expect("complaints", gateway.complaints(), "")


@scenario
def application(scene):
    """An application that only knows the target and stock tools publishes with the key in the TPM, at each boot."""
    gateway, _ = provision(scene, files=APPLICATION_FILES)
    gateway.wait("systemctl is-active application.service")
    expect("messages in the cloud", len(gateway.published()), 1)
    gateway.power_off()
    expect("after the boot the system is", gateway.boot(), "running")
    gateway.wait("systemctl is-active application.service")
    expect("messages in the cloud", len(gateway.published()), 2)


@scenario
def tpm_cleared(scene):
    """Between two boots the TPM is cleared: the gateway gets a new identity, and the application goes on with it."""
    gateway, before = provision(scene, files=APPLICATION_FILES)
    gateway.wait("systemctl is-active application.service")
    gateway.power_off()
    gateway.tpm.clear()
    expect("after the boot the system is", gateway.boot(), "running")
    after = gateway.wait_provisioned()
    expect("the generation", after["Generation"], 2)
    expect("the certificate is another one", after["CertificateId"] != before["CertificateId"], True)
    expect("in the cloud", gateway.certificates().get(after["CertificateId"]), "ACTIVE")
    gateway.wait("systemctl is-active application.service")
    expect("messages in the cloud", len(gateway.published()), 2)


@scenario
def serial_from_dmi(scene):
    """The serial number that the board's maker has written is read under the sandbox of the units."""
    gateway, status = provision(scene, serial="dmi", options=["-smbios", "type=1,serial=GW-4711"])
    expect("the thing", status["ThingName"], "gateway-GW-4711")
    expect("complaints", gateway.complaints(), "")


@scenario
def serial_auto(scene):
    """SerialNumber=auto finds the board's number, where there is no device tree."""
    _, status = provision(scene, serial="auto", options=["-smbios", "type=1,serial=GW-4712"])
    expect("the thing", status["ThingName"], "gateway-GW-4712")


@scenario
def network_late(scene):
    """Without a network the boot comes to its end with no job waiting; an address that comes later is enough."""
    files = {"/etc/hosts": "127.0.0.1 localhost\n192.0.2.1 cloud.example\n", **APPLICATION_FILES}
    standin = ["--bind=0.0.0.0", "--host=cloud.example"]
    gateway = scene.gateway(endpoint="cloud.example", standin=standin, files=files, more="[Retry]\nNetwork=1s 5s")
    expect("after the boot the system is", gateway.boot(), "running")
    expect("jobs that wait", gateway.run("systemctl list-jobs --no-legend"), "")
    gateway.wait("test $(busctl get-property org.enrolld1 /org/enrolld1 org.enrolld1.Agent Attempt | cut -d' ' -f2) -ge 2")
    expect("the class of the failure", gateway.status()["LastError"]["Class"], "network")
    expect("the target is", gateway.succeeds("systemctl is-active enrolld-provisioned.target"), False)
    gateway.run("ip link add dummy0 type dummy && ip address add 192.0.2.1/24 dev dummy0 && ip link set dummy0 up")
    expect("the state", gateway.wait_provisioned()["State"], "provisioned")
    gateway.wait("systemctl is-active enrolld-provisioned.target")


@scenario
def users(scene):
    """Everybody may look, and nobody but root and the group enrolld-admin may enrol."""
    gateway, _ = provision(scene, files={"/usr/lib/sysusers.d/people.conf": PEOPLE})
    for user in ("visitor", "operator"):
        text = gateway.run(f"setpriv --reuid={user} --regid={user} --init-groups enrollctl status --json")
        expect(f"what the {user} sees", json.loads(text)["State"], "provisioned")
    call = "busctl call org.enrolld1 /org/enrolld1 org.enrolld1.Agent Enroll"
    refused = gateway.run(f"! setpriv --reuid=visitor --regid=visitor --init-groups {call}")
    expect("the answer to a visitor", "Access denied" in refused or refused, True)
    refused = gateway.run(f"! setpriv --reuid=operator --regid=operator --init-groups {call}")
    expect("the answer to an operator", "provisioned already" in refused or refused, True)
    text = gateway.run("! setpriv --reuid=visitor --regid=visitor --init-groups cat /var/lib/enrolld/current/private.pem")
    expect("a visitor reads the key", "Permission denied" in text or text, True)


@scenario
def user_renumbered(scene):
    """An update of the image gives the agent's users other numbers: the identity is still there and readable."""
    gateway, before = provision(scene)
    gateway.power_off()
    for name in ("/etc/passwd", "/etc/group"):
        text = image.read_file(gateway.root, name)
        image.put_files(gateway.root, {name: renumbered(text)})
    expect("after the boot the system is", gateway.boot("systemd.mask=cloud.service"), "running")
    expect("the certificate", gateway.wait_provisioned()["CertificateId"], before["CertificateId"])
    owners = gateway.run("find /var/lib/enrolld -not -user enrolld -not -name lost+found")
    expect("what belongs to others", owners, "")
    expect("the number", int(gateway.run("id --user enrolld")), lambda number: number > 1000)
    expect("complaints", gateway.complaints(), "")


def renumbered(text):
    lines = [line.split(":") for line in text.splitlines()]
    for fields in lines:
        if fields[0].startswith("enrolld"):
            numbers = (2, 3) if len(fields) == 7 else (2,)
            for field in numbers:
                fields[field] = str(int(fields[field]) + 1000)
    return "".join(":".join(fields) + "\n" for fields in lines)


# What a person could see of the moments at which the power may go: a file that appears.
MOMENTS = {
    "checkpoint": "/var/lib/enrolld/checkpoint-fleet-claim",
    "generation": "/var/lib/enrolld/generations/1",
    "commit": "/var/lib/enrolld/current",
}


@scenario
def power_cut(scene):
    """Right after the identity is announced the power goes: it is there after the next boot, without the cloud."""
    gateway = scene.gateway()
    gateway.boot(wait=False)
    before = gateway.wait_provisioned()
    gateway.cut()
    expect("after the boot the system is", gateway.boot("systemd.mask=cloud.service"), "running")
    after = gateway.wait_provisioned()
    expect("the certificate", after["CertificateId"], before["CertificateId"])
    expect("the generation", after["Generation"], 1)


def power_cut_at(scene, moment):
    gateway = scene.gateway()
    gateway.boot(wait=False)
    gateway.run(f"until [ -e {MOMENTS[moment]} ]; do :; done", 120)
    gateway.cut()
    expect("after the boot the system is", gateway.boot(), "running")
    status = gateway.wait_provisioned()
    certificates = gateway.certificates()
    expect("in the cloud", certificates, {status["CertificateId"]: "ACTIVE"})
    gateway.power_off()
    scene.say(f"cut when {MOMENTS[moment]} was there: provisioned, 1 certificate")


@scenario
def power_cuts(scene):
    """The power goes in the middle of a provisioning, at three moments: the next boot ends it, with one certificate."""
    for moment in MOMENTS:
        power_cut_at(scene, moment)
