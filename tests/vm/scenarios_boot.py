"""From power to an identity."""

import statistics

from application import APPLICATION_FILES
from gateway_machine import THING
from scenario import expect, provision, scenario

BOOTS = 5  # of each kind


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


@scenario
def boot_time(scene):
    """What enrolld adds to the boot of a provisioned gateway: the same image with and without it, by turns."""
    gateway, _ = provision(scene)
    gateway.power_off()
    times = {"without": [], "with": [], "provisioned": []}
    for _ in range(BOOTS):
        expect("after the boot the system is", gateway.boot("systemd.mask=enrolld.service systemd.mask=cloud.service"), "running")
        expect("units of enrolld", gateway.run("systemctl list-units --no-legend 'enrolld*'"), "")
        times["without"].append(milliseconds_of_boot(gateway))
        gateway.power_off()
        expect("after the boot the system is", gateway.boot("systemd.mask=cloud.service"), "running")
        times["with"].append(milliseconds_of_boot(gateway))
        times["provisioned"].append(milliseconds_of_boot(gateway, "enrolld-provisioned.target"))
        blame = gateway.run("systemd-analyze blame | grep enrolld")
        chain = gateway.run("systemd-analyze critical-chain")
        gateway.power_off()
    middle = {name: statistics.median(values) for name, values in times.items()}
    scene.say(f"milliseconds from PID 1 to the end of the boot: {times}")
    scene.say(f"medians {middle}, ratio {middle['with'] / middle['without']:.2f}")
    scene.say(f"{blame}\n{chain}")


boot_time.deadline = 1800
