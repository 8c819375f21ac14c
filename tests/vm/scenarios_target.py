"""Units that follow the identity: what enrolld-provisioned.target does for them, and what it does to the boot."""

import pathlib

from gateway_machine import THING
from scenario import expect, provision, scenario

RETRY = "[Retry]\nNetwork=1s 5s"
# Three ways to follow the target; each unit is wanted by it.
WAYS = {
    "part": "PartOf=enrolld-provisioned.target",
    "bound": "BindsTo=enrolld-provisioned.target",
    "wanting": "Wants=enrolld-provisioned.target",
}
STOPPED_WITH_IT = ("part", "bound")


def follower(way):
    unit = f"[Unit]\nAfter=enrolld-provisioned.target\n{WAYS[way]}\n\n[Service]\nExecStart=sleep infinity\n"
    path = f"/etc/systemd/system/{way}.service"
    # What `systemctl enable` makes of WantedBy=enrolld-provisioned.target.
    return {path: unit, f"/etc/systemd/system/enrolld-provisioned.target.wants/{way}.service": pathlib.PurePath(path)}


def followers():
    return {name: value for way in WAYS for name, value in follower(way).items()}


def active(gateway):
    states = gateway.run(f"systemctl is-active {' '.join(f'{way}.service' for way in WAYS)} || true").split()
    return {way for way, state in zip(WAYS, states, strict=True) if state == "active"}


# But for workers, which begin whenever an attempt comes again.
JOBS = "systemctl list-jobs --no-legend | { grep -v 'enrolld-[a-z]*@' || true; }"


def expect_at_rest(gateway):
    expect("the system is", gateway.wait_booted(), "running")
    expect("jobs that wait", gateway.run(JOBS), "")


def wait_followers(gateway):
    """Of several units it is enough for systemctl that one is active: so by turns."""
    for unit in ("enrolld-provisioned.target", *(f"{way}.service" for way in WAYS)):
        gateway.wait(f"systemctl is-active {unit}")
    expect_at_rest(gateway)


def wait_target_stopped(gateway):
    gateway.wait("! systemctl is-active enrolld-provisioned.target")
    gateway.wait(f'test -z "$({JOBS})"')
    expect("what is still active", active(gateway), set(WAYS) - set(STOPPED_WITH_IT))
    expect_at_rest(gateway)


@scenario
def identity_lost(scene):
    """Applications in their own ways follow the target: none at a boot without identity, all with one, stopped when it is
    lost, there again with the next. The boot waits for none of that."""
    gateway = scene.gateway(cloud=False, files=followers(), more=RETRY)
    gateway.boot()
    expect_at_rest(gateway)
    expect("active without an identity", active(gateway), set())
    gateway.run("systemctl start cloud.service")
    before = gateway.wait_provisioned()
    wait_followers(gateway)

    gateway.run("systemctl stop cloud.service")
    gateway.run("tpm2_clear --tcti=device:/dev/tpmrm0 --auth-hierarchy=lockout")
    gateway.run("systemctl restart enrolld.service")  # at each start it looks whether the identity works
    wait_target_stopped(gateway)

    gateway.run("systemctl start cloud.service")
    after = gateway.wait_provisioned()
    expect("the certificate is another one", after["CertificateId"] != before["CertificateId"], True)
    wait_followers(gateway)


@scenario
def forget(scene):
    """A gateway that is told to forget its identity has none: its applications stop, nothing is left, and after the next
    boot at the latest it enrols anew."""
    gateway, before = provision(scene, files=followers(), more=RETRY)
    wait_followers(gateway)
    gateway.run("systemctl stop cloud.service")
    scene.say(gateway.run("enrollctl forget --yes"))
    wait_target_stopped(gateway)
    left = gateway.run("cd /var/lib/enrolld && find . -name 'private.pem' -o -name 'certificate.pem' -o -name current")
    expect("what is left of it", left, "")
    expect("in the cloud", gateway.certificates(), {before["CertificateId"]: "ACTIVE"})
    gateway.run("systemctl start cloud.service")
    after = gateway.wait_provisioned()
    expect("the certificate is another one", after["CertificateId"] != before["CertificateId"], True)
    expect("the thing", after["ThingName"], THING)
    wait_followers(gateway)
