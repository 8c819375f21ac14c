"""What README.md tells people to do, to the letter."""

import re

from clean_image import CleanImage, readme_step
from gateway_machine import enabled
from image import SOURCE_DIR
from scenario import expect, scenario

CONFIGURATION = "/etc/enrolld/enrolld.conf.d/gateway.conf"
HANDOVER = "/srv/handover"
OBJECT = "org.enrolld1 /org/enrolld1"
GDBUS = "gdbus call --system --dest org.enrolld1 --object-path /org/enrolld1 --method"
REFUSED = "access.?denied|this is for root"  # that of the bus, and that of enrollctl
PYTHON = """
import dbus
agent = dbus.SystemBus().get_object("org.enrolld1", "/org/enrolld1")
properties = agent.GetAll("org.enrolld1.Agent", dbus_interface="org.freedesktop.DBus.Properties")
print(properties["State"], properties["ThingName"])
"""
PYTHON_ENROLL = """
import dbus
dbus.SystemBus().get_object("org.enrolld1", "/org/enrolld1").Enroll(dbus_interface="org.enrolld1.Agent")
"""


def as_visitor(command):
    return f"setpriv --reuid=visitor --regid=visitor --init-groups {command}"


def python(text):
    return f"python3 - <<'PYTHON'\n{text}PYTHON\n"


def take_steps(scene, gateway):
    """All that comes after the installation."""
    gateway.run(f"mkdir {HANDOVER} && cd /srv/cloud && cp claim.pem claim.key {HANDOVER}")
    gateway.run(f"cp /srv/cloud/root-ca.pem {HANDOVER}/amazon-root-ca.pem")
    for step in ("users", "claim"):
        gateway.run(f"set -e; cd {HANDOVER}\n{readme_step(step)}")
    expect("README.md names the file", CONFIGURATION in (SOURCE_DIR / "README.md").read_text(), True)
    gateway.run(f"install -D -m 644 /dev/stdin {CONFIGURATION} <<'END'\n{readme_step('configuration')}END\n")
    gateway.run("/usr/libexec/enrolld/enrolld --check-config")
    scene.say(gateway.run(f"set -e; {readme_step('start')}", 400))


def expect_readable(gateway, thing):
    """By everybody, with the stock tools and bindings."""
    gateway.run("useradd visitor")
    text = gateway.run(as_visitor(f"busctl get-property {OBJECT} org.enrolld1.Agent State ThingName"))
    expect("busctl reads", text.split(), ["s", '"provisioned"', "s", f'"{thing}"'])
    text = gateway.run(as_visitor(f"{GDBUS} org.freedesktop.DBus.Properties.GetAll org.enrolld1.Agent"))
    expect("gdbus reads", text, lambda text: "'State': <'provisioned'>" in text and f"'ThingName': <'{thing}'>" in text)
    expect("Python reads", gateway.run(as_visitor(python(PYTHON))).split(), ["provisioned", thing])


def expect_refused(gateway):
    """Others than root and the group enrolld-admin."""
    calls = (
        f"busctl call {OBJECT} org.enrolld1.Agent Enroll",
        f"{GDBUS} org.enrolld1.Agent.Enroll",
        python(PYTHON_ENROLL),
        "enrollctl enroll",
    )
    for call in calls:
        text = gateway.run(f"! {as_visitor(call)}")
        expect(f"the answer to {call.split()[0]}", text, re.compile(REFUSED, re.IGNORECASE).search)


@scenario
def readme(scene):
    """The steps of README.md on a clean Debian 12 give a gateway that is provisioned, at each boot, too. busctl, gdbus and
    Python's bindings read its status; a second user cannot enrol."""
    endpoint = re.search(r"^Endpoint=(\S+)$", readme_step("configuration"), re.MULTILINE)[1]
    gateway = scene.gateway(
        golden=CleanImage(scene.golden),
        configured=False,
        standin=[f"--host={endpoint}"],
        files={"/etc/hosts": f"127.0.0.1 localhost {endpoint}\n", **enabled("cloud.service")},
        options=["-smbios", "type=1,serial=GW-4714"],
    )
    expect("after the boot the system is", gateway.boot(), "running")
    take_steps(scene, gateway)
    thing = gateway.status()["ThingName"]
    expect("the thing", thing, "gateway-GW-4714")
    text = gateway.run("journalctl --catalog --unit=enrolld.service")
    expect("the catalog", text, lambda text: "Subject: This device has an identity" in text)
    expect_readable(gateway, thing)
    expect_refused(gateway)
    gateway.power_off()
    expect("after the boot the system is", gateway.boot("systemd.mask=cloud.service"), "running")
    expect("after the boot it is", gateway.wait_provisioned()["State"], "provisioned")
    gateway.wait("systemctl is-active enrolld-provisioned.target")


readme.deadline = 1800  # it builds on a system without a compiler
