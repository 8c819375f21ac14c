"""The system that enrolld is installed on: where it may write, where its number comes from, what systemd says of it."""

import pathlib

import image
from gateway_machine import SERIAL
from scenario import TRIES, expect, provision, scenario

READ_ONLY = {
    "/etc/fstab": """LABEL=root / ext4 ro 0 0
LABEL=state /var ext4 defaults 0 2
LABEL=scene /srv ext4 defaults 0 0
tmpfs /tmp tmpfs mode=1777 0 0
""",
    "/etc/machine-id": "",
}
VOLATILE = """LABEL=root / ext4 defaults 0 0
tmpfs /var/lib/enrolld tmpfs mode=0711 0 0
LABEL=scene /srv ext4 defaults 0 0
"""
OVERLAY = "lowerdir=/var/lib/enrolld,upperdir=/run/overlay/upper,workdir=/run/overlay/work"
# Debian's kernel for this kind of machine knows no device trees: the file is there where the kernel would show it.
DEVICE_TREE = """[Unit]
Description=A device tree
Before=enrolld.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=mount -t tmpfs -o mode=0755 tmpfs /sys/firmware
ExecStart=mkdir -p /sys/firmware/devicetree/base
ExecStart=sh -c "printf 'GW-TREE-7\\\\0' >/sys/firmware/devicetree/base/serial-number"
ExecStart=chmod 0444 /sys/firmware/devicetree/base/serial-number

[Install]
WantedBy=enrolld.service
"""
# Each unit of a worker has the TPM, and can read no identity.
TRIAL = f"""{TRIES}
allowed touch /tmp/there
allowed sh -c ': <>/dev/tpmrm0'
refused touch /var/lib/enrolld/there
refused touch /etc/there
refused cat /var/lib/enrolld/current/private.pem
"""
ON_THE_NETWORK = 'test "$(readlink /proc/self/ns/net)" = "%s"\n'
HAS_CLAIM = 'test -r "$CREDENTIALS_DIRECTORY/claim-key"\n'
TRIALS = {"check": ("refused", "refused"), "worker": ("allowed", "refused"), "claim": ("allowed", "allowed")}
TRIAL_UNIT = """[Service]
Type=oneshot
ExecStart=
ExecStart=sh /run/trial-%i
"""
# Ten times the exposure that `systemd-analyze security` finds, at most.
EXPOSURE = {"enrolld.service": 6, "enrolld-check@1.service": 2, "enrolld-worker@1.service": 11, "enrolld-claim@1.service": 11,
            "enrolld-wait.service": 2, "enrolld-lost.service": 2,
            "enrolld-discard-claim.service": 5}  # fmt: skip


def expect_no_connection(gateway):
    connections = gateway.run("grep 'New connection' /srv/cloud/mosquitto.log || true")
    expect("connections to the cloud", connections, "")


@scenario
def read_only_root(scene):
    """On a read-only root, with only /var on a disk, a gateway is provisioned; its machine id, which is another one at each
    boot then, is refused as a serial number."""
    gateway = scene.gateway(serial="machine-id")
    expect("after the boot that makes the users the system is", gateway.boot("systemd.mask=enrolld.service"), "running")
    gateway.power_off()
    image.put_files(gateway.root, READ_ONLY)
    gateway.command_line = "ro"
    expect("after the boot the system is", gateway.boot(), "running")
    expect("the root can be written", gateway.succeeds("touch /etc/there"), False)
    gateway.wait_state("failed")
    failure = gateway.status()["LastError"]
    scene.say(f"with SerialNumber=machine-id: {failure['Class']}: {failure['Message']}")
    expect("the failure", failure["Message"], lambda text: "machine-id" in text)
    expect_no_connection(gateway)
    gateway.configure(f"[Agent]\nSerialNumber=literal:{SERIAL}\n")
    before = gateway.wait_provisioned()
    machine_id = gateway.run("cat /etc/machine-id")
    gateway.power_off()
    expect("after the boot the system is", gateway.boot("systemd.mask=cloud.service"), "running")
    expect("the machine id is another one", gateway.run("cat /etc/machine-id") != machine_id, True)
    expect("the certificate", gateway.wait_provisioned()["CertificateId"], before["CertificateId"])
    gateway.wait("systemctl is-active enrolld-provisioned.target")
    expect("complaints", gateway.complaints(), "")


def expect_volatile(scene, gateway):
    """What is told of it; and that the cloud has not been asked for anything."""
    gateway.wait_state("failed")
    failure = gateway.status()["LastError"]
    scene.say(f"{failure['Class']}: {failure['Message']}")
    expect("the class of the failure", failure["Class"], "invalid")
    expect("the failure", failure["Message"], lambda text: "/var/lib/enrolld" in text and "VolatileState=" in text)
    expect_no_connection(gateway)


@scenario
def state_in_memory(scene):
    """A state directory that would not survive a reboot, a tmpfs or an overlay that is written to one, is refused before
    anything is sent, until VolatileState=yes."""
    gateway = scene.gateway(files={"/etc/fstab": VOLATILE})
    expect("after the boot the system is", gateway.boot(), "running")
    expect_volatile(scene, gateway)
    gateway.run("systemctl stop enrolld.service && umount /var/lib/enrolld && mkdir -p /run/overlay/upper /run/overlay/work")
    gateway.run(f"mount -t overlay -o {OVERLAY} overlay /var/lib/enrolld && systemctl start enrolld.service")
    expect_volatile(scene, gateway)
    gateway.configure("[Agent]\nVolatileState=yes\n")
    gateway.wait_provisioned()


@scenario
def serial_from_device_tree(scene):
    """The number in the device tree is read under the sandbox, and comes before the one of the firmware."""
    files = {"/etc/systemd/system/device-tree.service": DEVICE_TREE,
             "/etc/systemd/system/enrolld.service.wants/device-tree.service":
                 pathlib.PurePath("/etc/systemd/system/device-tree.service")}  # fmt: skip
    gateway, status = provision(scene, serial="auto", options=["-smbios", "type=1,serial=GW-4713"], files=files)
    expect("the thing", status["ThingName"], "gateway-GW-TREE-7")
    expect("complaints", gateway.complaints(), "")


def expect_daemon_confined(gateway, network):
    """The TPM and the network are out of its sight."""
    pid = gateway.run("systemctl show --property=MainPID --value enrolld.service").strip()
    expect("the daemon's network", gateway.run(f"readlink /proc/{pid}/ns/net"), lambda text: text.strip() != network)
    inside = f"nsenter --target {pid} --mount"
    expect("the daemon sees /dev/null", gateway.succeeds(f"{inside} test -e /dev/null"), True)
    expect("the daemon sees the TPM", gateway.succeeds(f"{inside} test -e /dev/tpmrm0"), False)
    expect("the daemon writes to /etc", gateway.succeeds(f"{inside} touch /etc/there"), False)


@scenario
def sandboxes(scene):
    """Tried, not read: the daemon has neither TPM nor network; workers cannot write the state nor read an identity; the check
    has no network, and only the worker for it has the claim."""
    gateway, _ = provision(scene)
    network = gateway.run("readlink /proc/1/ns/net").strip()
    expect_daemon_confined(gateway, network)
    for role, (on_the_network, has_claim) in TRIALS.items():
        unit = f"enrolld-{role}@{role}.service"
        script = f"{TRIAL}{on_the_network} {ON_THE_NETWORK % network}{has_claim} {HAS_CLAIM}"
        directory = f"/run/systemd/system/{unit}.d"
        gateway.run(f"cat >/run/trial-{role} <<'END'\n{script}END\n")
        gateway.run(f"mkdir -p {directory} && cat >{directory}/trial.conf <<'END'\n{TRIAL_UNIT}END\nsystemctl daemon-reload")
        gateway.run(f"systemctl start {unit} || {{ journalctl --output=cat --unit={unit}; false; }}")
        scene.say(f"{role}: {gateway.run(f'journalctl --output=cat --unit={unit}')}")


@scenario
def units(scene):
    """The machine's own systemd finds nothing wrong with the units, and little exposed."""
    gateway = scene.gateway()
    expect("after the boot the system is", gateway.boot(), "running")
    files = gateway.run("find /usr/lib/systemd/system -maxdepth 1 -type f -name 'enrolld*' -printf '%f '")
    names = files.replace("@.", "@1.").split()
    expect("units", len(names), lambda number: number >= len(EXPOSURE))
    expect("what it finds", gateway.run(f"systemd-analyze verify --man=no {' '.join(names)} 2>&1"), "")
    for unit, threshold in EXPOSURE.items():
        text = gateway.run(f"systemd-analyze security --no-pager --threshold={threshold} {unit}")
        scene.say(text.splitlines()[-1])
