"""From power to an identity."""

import statistics

from application import APPLICATION_FILES
from gateway_machine import THING
from scenario import expect, provision, scenario

BOOTS = 2  # of each kind
# What `enrollctl doctor` looks at, beside the units.
ROWS = "identity store clock tpm serial-number root-ca dns tcp tls".split() + ["method fleet-claim"]


def expect_healthy(scene, gateway):
    """To the doctor, whose workers run in the sandboxes of the units."""
    rows = gateway.doctor()
    expect("rows that are missing", set(ROWS) - set(rows), set())
    expect("rows of units", [what for what in rows if what.startswith("enrolld")], lambda units: len(units) >= 7)
    expect("rows that are not ok", [row for row in rows.values() if row["Verdict"] != "ok"], [])
    scene.say("\n".join(f"{what}: {row['Text']}" for what, row in rows.items()))


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
    text = gateway.run("journalctl --catalog --unit=enrolld.service")
    expect("the catalog", text, lambda text: "Subject: This device has an identity" in text)
    expect("workers left", gateway.run("ls -d /sys/fs/cgroup/system.slice/system-enrolld*/*@* 2>/dev/null || true"), "")
    expect_healthy(scene, gateway)
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
    # Left to itself it would not come back while this runs: it has to hear of the address.
    gateway = scene.gateway(endpoint="cloud.example", standin=standin, files=files, more="[Retry]\nNetwork=365d 365d")
    expect("after the boot the system is", gateway.boot(), "running")
    expect("jobs that wait", gateway.run("systemctl list-jobs --no-legend"), "")
    expect("the class of the failure", gateway.wait_state("backoff")["LastError"]["Class"], "network")
    expect("the target is", gateway.succeeds("systemctl is-active enrolld-provisioned.target"), False)
    gateway.run("ip link add dummy0 type dummy && ip address add 192.0.2.1/24 dev dummy0 && ip link set dummy0 up")
    expect("the state", gateway.wait_provisioned()["State"], "provisioned")
    expect("the journal", gateway.journal(), lambda text: "the network has changed: the next attempt" in text)
    gateway.wait("systemctl is-active enrolld-provisioned.target")


def milliseconds_of_boot(gateway, unit=None):
    """From the start of PID 1 to the end of the boot, or until the unit is active."""
    texts = gateway.run("systemctl show --property=UserspaceTimestampMonotonic --property=FinishTimestampMonotonic")
    times = {name: int(value) for name, value in (line.split("=") for line in texts.splitlines())}
    if unit is None:
        end = times["FinishTimestampMonotonic"]
    else:
        gateway.wait(f"systemctl is-active {unit}")
        end = int(gateway.run(f"systemctl show --property=ActiveEnterTimestampMonotonic --value {unit}"))
    return (end - times["UserspaceTimestampMonotonic"]) // 1000


def timed_boot(gateway, command_line):
    """Milliseconds of the boot, seconds of the processor."""
    expect("after the boot the system is", gateway.boot(command_line), "running")
    return milliseconds_of_boot(gateway), gateway.processor_seconds()


@scenario
def boot_time(scene):
    """What enrolld adds to the boot of a provisioned gateway without a network: one image with and without it, by turns."""
    gateway, _ = provision(scene)
    gateway.power_off()
    offline = "systemd.mask=cloud.service"
    boots = {"without": [], "with": []}
    ready = []
    for _ in range(BOOTS):
        boots["without"].append(timed_boot(gateway, f"{offline} systemd.mask=enrolld.service"))
        expect("units of enrolld that are active", gateway.run("systemctl list-units --no-legend 'enrolld*'"), "")
        gateway.power_off()
        boots["with"].append(timed_boot(gateway, offline))
        ready.append(milliseconds_of_boot(gateway, "enrolld-provisioned.target"))
        blame = gateway.run("systemd-analyze blame | grep enrolld; systemd-analyze critical-chain multi-user.target")
        gateway.power_off()
    for kind, values in boots.items():
        scene.say(f"{kind} enrolld: ms of the boot, s of the processor: {values}")
    scene.say(f"ms until the target is up: {ready}")
    for number, unit in enumerate(("ms", "s of the processor")):
        without, together = (statistics.median(value[number] for value in boots[kind]) for kind in ("without", "with"))
        scene.say(f"medians {without:.1f} and {together:.1f} {unit}: ratio {together / without:.3f}")
    scene.say(blame)


boot_time.deadline = 1800
