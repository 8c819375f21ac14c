"""The power goes."""

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


@scenario
def power_cuts(scene):
    """The power goes in the middle of a provisioning, at three moments: the next boot ends it, with one certificate."""
    for moment in MOMENTS:
        power_cut_at(scene, moment)
