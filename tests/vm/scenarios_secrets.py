"""The claim's key, sealed to one machine: docs/credentials.md."""

import pathlib

import image
from scenario import expect, provision, scenario

EXAMPLE = image.SOURCE_DIR / "docs/examples/seal-claim"
DROP_IN = "/etc/systemd/system/enrolld-claim@.service.d/50-sealed.conf"
SEALER = "/etc/systemd/system/seal-claim.service"
PLAIN = "/etc/credstore/claim-key"
SEALED = "/etc/credstore.encrypted/claim-key"
TAKES_SEALED = {DROP_IN: (EXAMPLE / "50-sealed.conf").read_text()}
SEALS = {
    **TAKES_SEALED,
    SEALER: (EXAMPLE / "seal-claim.service").read_text(),
    "/etc/systemd/system/enrolld.service.wants/seal-claim.service": pathlib.PurePath(SEALER),
}
# The first 16 bytes of a credential say by what it is sealed (systemd, src/shared/creds-util.h): the TPM, or it and the host's
# secret.
BY_TPM = {"0c7cc07b11764591" "9c4b0bea08bc20fe", "93a8940948744490" "90caf2fc93cab553"}


@scenario
def claim_sealed(scene):
    """At its first boot a gateway seals the claim's key by its TPM, removes the plain one, and enrols with it."""
    gateway, _ = provision(scene, files=SEALS)
    expect("the plain key is there", gateway.succeeds(f"test -e {PLAIN}"), False)
    sealed_by = gateway.run(f"base64 -d {SEALED} | head -c 16 | od -An -v -tx1 | tr -d ' \\n'")
    expect("it is sealed by the TPM", sealed_by in BY_TPM or sealed_by, True)
    expect("workers", gateway.workers(), {"check": 1, "claim": 1, "worker": 0})
    expect("failed units", gateway.run("systemctl --failed --no-legend"), "")
    scene.say(gateway.run("systemd-analyze blame | grep -E 'seal-claim|enrolld'"))


@scenario
def claim_of_another_machine(scene):
    """A claim that this machine cannot open stops enrolling by it, and neither checks nor work by hand, nor the identity of
    a gateway that has one."""
    other = scene.gateway(files=SEALS)
    other.boot("systemd.mask=enrolld.service")
    other.run("systemctl start seal-claim.service")
    foreign = other.run(f"cat {SEALED}")
    other.power_off()

    key = scene.directory / "gateway-2/scene/cloud/claim.key"
    gateway = scene.gateway(files={**TAKES_SEALED, SEALED: foreign, PLAIN: None})
    expect("after the boot the system is", gateway.boot(), "running")
    gateway.wait("journalctl --boot --quiet --unit='enrolld-claim@*' | grep 243/CREDENTIALS")
    gateway.wait("enrollctl status --json | grep -q enrolld-claim@")
    failure = gateway.status()["LastError"]
    scene.say(f"{failure['Class']}: {failure['Message']}")
    expect("the methods that are listed", gateway.run("enrollctl plugins"), lambda text: "fleet-claim" in text)
    gateway.configure("[Agent]\nMethods=fleet-claim jitp\nThingName=%c\n")
    expect("a request", gateway.run("enrollctl request"), lambda text: "BEGIN CERTIFICATE REQUEST" in text)
    gateway.configure("")

    gateway.run(f"systemd-creds encrypt --name=claim-key - {SEALED} <<'KEY'\n{key.read_text()}KEY\n")
    gateway.run("enrollctl enroll || true")
    before = gateway.wait_provisioned()
    gateway.run(f"cat >{SEALED} <<'SEALED'\n{foreign}\nSEALED\n")
    gateway.power_off()
    expect("after the boot the system is", gateway.boot("systemd.mask=cloud.service"), "running")
    expect("the certificate", gateway.wait_provisioned()["CertificateId"], before["CertificateId"])
    expect("workers", gateway.workers(), {"check": 1, "claim": 0, "worker": 0})
