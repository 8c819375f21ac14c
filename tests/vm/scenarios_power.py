"""The power goes."""

import block_log
import replay
from machine import wait_for
from scenario import expect, scenario

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


# Its fsync, fdatasync, sync ... do nothing.
WITHOUT_FSYNC = {
    "/etc/systemd/system/enrolld.service.d/without-fsync.conf": "[Service]\nEnvironment=LD_PRELOAD=libeatmydata.so\n"
}


def record(gateway):
    """One provisioning, from power on to power off."""
    begin = gateway.state.read_bytes()
    gateway.log_state()
    gateway.boot(wait=False)
    gateway.run("until [ -e /run/enrolld/provisioned ]; do :; done", 120)
    announced = block_log.count_requests(gateway.state_log)
    # The file system writes names every 5 s, and data that nobody wants to be durable much later.
    wait_for("the journal is written", lambda: block_log.count_requests(gateway.state_log) > announced, 60)
    gateway.power_off()
    return replay.Recording(begin, gateway.state_log, announced)


def replay_all(scene, what, files):
    gateway = scene.gateway(files=files)
    outcome = replay.replay(record(gateway))
    scene.say(f"{what}: {outcome}")
    for name, fault in list(outcome.faults.items())[:5]:
        scene.say(f"  {name}: {fault}")
    return outcome


@scenario
def power_cuts(scene):
    """Whatever a disk may have kept when the power went: an identity is whole or absent, and stays once it was announced."""
    outcome = replay_all(scene, "as shipped", {})
    expect("broken", len(outcome.faults), 0)
    expect("identities that were in use", len(outcome.identities), 1)


@scenario
def power_cuts_without_fsync(scene):
    """The same with a daemon whose fsyncs do nothing: the replay finds what is broken, or it would be worth nothing."""
    outcome = replay_all(scene, "without fsync", WITHOUT_FSYNC)
    expect("broken", len(outcome.faults), lambda number: number > 0)
