"""A gateway: a virtual machine with enrolld and a cloud of its own, and what there is to see in it."""

import json
import pathlib
import shutil

import image
from machine import Machine

SOURCE_DIR = image.SOURCE_DIR
PORT = 8883
SERIAL = "GW-0001"
# What the broker runs for topic rules and hooks: with the files of etc/aws, which lie as in the source tree.
FUNCTIONS = "tests/iotcore/iotcore-function", "tests/iotcore/iotcore-setup", "tests/iotcore/standin_boto3.py", "etc/aws"
THING = f"gateway-{SERIAL}"

# The one file that an integrator drops beside what `make install` has put there.
CONFIGURATION = """[Agent]
Methods=fleet-claim
SerialNumber={serial}
{agent}

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


def enabled(unit):
    """What `systemctl enable` makes."""
    return {f"/etc/systemd/system/multi-user.target.wants/{unit}": pathlib.PurePath(f"/usr/lib/systemd/system/{unit}")}


class Gateway(Machine):
    """A machine with enrolld and a cloud on its loopback interface, that has never been on. cloud: whether the cloud is
    there at boot. configured: whether its maker has put a configuration and a claim beside the programs. agent, more: lines
    of the configuration, in [Agent] and at the end. standin: options of iotcore-setup. claim: the name of the one that the
    gateway has. files: put into the image, too, see image.put_files()."""

    def __init__(self, directory, golden, cloud=True, configured=True, serial=f"literal:{SERIAL}", endpoint="localhost",
                 agent="", more="", standin=(), claim="claim", files=None, **options):  # fmt: skip
        directory.mkdir()
        self.make_cloud(directory, golden.build, standin)
        text = CONFIGURATION.format(serial=serial, port=PORT, endpoint=endpoint, agent=agent, more=more)
        everything = {
            # As timesyncd says that it has set the clock, which the host has done.
            "/usr/lib/tmpfiles.d/clock.conf": "f /run/systemd/timesync/synchronized\n",
            **(self.configuration(directory / "scene/cloud", text, claim) if configured else {}),
            **(enabled("cloud.service") if cloud else {}),
            **(files or {}),
        }
        super().__init__(directory / "machine", golden, everything, **options)
        image.make_file_system(self.scene, "64M", "scene", directory / "scene")

    @staticmethod
    def configuration(cloud, text, claim):
        return {
            "/etc/enrolld/enrolld.conf.d/device.conf": text,
            "/etc/enrolld/root-ca.pem": (cloud / "root-ca.pem").read_text(),
            "/etc/credstore/claim-certificate": (cloud / f"{claim}.pem").read_text(),
            "/etc/credstore/claim-key": (cloud / f"{claim}.key").read_text(),
            **enabled("enrolld.service"),
        }

    @staticmethod
    def make_cloud(directory, build, options):
        """On the host, where making its keys takes no time, and then moved into the machine."""
        scene = directory / "scene"
        cloud = scene / "cloud"
        for name in FUNCTIONS:
            copy = shutil.copytree if (SOURCE_DIR / name).is_dir() else shutil.copy
            (scene / name).parent.mkdir(parents=True, exist_ok=True)
            copy(SOURCE_DIR / name, scene / name)
        authority = build / "tests/iotcore/iotcore-authority"
        plugin = build / "tests/iotcore/.libs/iotcore.so"
        image.command(scene / "tests/iotcore/iotcore-setup", cloud, f"--port={PORT}", "--connect-rate=off",
                      f"--plugin={plugin}", f"--authority={authority}", *options)  # fmt: skip
        for path in (cloud / "mosquitto.conf", cloud / "state/registry.json"):
            text = path.read_text().replace(str(scene), "/srv")
            path.write_text(text.replace(str(plugin), "/usr/local/lib/iotcore/iotcore.so"))

    def configure(self, text):
        """Until the next boot, by a drop-in that comes after the others; an empty one changes nothing."""
        directory = "/run/enrolld/enrolld.conf.d"
        self.run(f"mkdir -p {directory} && cat >{directory}/zz.conf <<'END'\n{text}END\n")
        self.run("enrollctl reload")

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

    def journal(self):
        """What the daemon has said since the boot."""
        return self.run("journalctl --boot --quiet --output=cat --unit=enrolld.service")

    def doctor(self):
        """Its rows, by what was looked at."""
        rows = json.loads(self.run("enrollctl doctor --json || test $? = 1", 400))["Rows"]
        return {row["What"]: row for row in rows}

    def complaints(self):
        """Of enrolld since the boot: warnings and worse."""
        return self.run("journalctl --boot --quiet --output=cat --priority=warning --unit=enrolld.service --unit='enrolld-*'")

    def wait_state(self, state, seconds=120):
        self.wait(f"busctl get-property org.enrolld1 /org/enrolld1 org.enrolld1.Agent State | grep -w {state}", seconds)
        return self.status()

    def wait_provisioned(self, seconds=120):
        self.wait("enrollctl wait --timeout=60", seconds)  # fails as long as there is no bus
        return self.status()
