"""The claim's key: sealed to one machine, docs/credentials.md; and destroyed when it is not needed, docs/renewal.md."""

import mmap
import pathlib

import image
from renewal import RENEWAL, lasting, wait_retired
from scenario import TRIES, expect, provision, scenario

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

KEEPS_NO_CLAIM = RENEWAL.replace("[Renewal]", "[Renewal]\nKeepClaim=no")
DISCARD = "enrolld-discard-claim.service"
# What that unit can do and what not, by a script in its place: it writes where claims are, and is root without its rights.
DISCARD_TRIAL = f"""{TRIES}
allowed touch /etc/credstore/there
allowed rm /etc/credstore/there
refused touch /etc/there
refused touch /usr/there
refused touch /var/lib/enrolld/there
refused touch /run/enrolld/there
refused cat /var/lib/enrolld/current/private.pem
refused sh -c ': <>/dev/tpmrm0'
refused test "$(readlink /proc/self/ns/net)" = "%s"
refused grep '^CapEff:.*[1-9a-f]' /proc/self/status
"""


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


def times_on_disk(gateway, text):
    """How often the machine's own disk holds it, in a file or in a block that belongs to none."""
    with gateway.root.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as disk:
        count = at = 0
        while (at := disk.find(text, at) + 1) > 0:
            count += 1
    return count


def wait_discarded(gateway, times):
    """Until the claim was discarded that often since the boot."""
    done = f"journalctl --boot --quiet --output=cat --unit={DISCARD} | grep -c '^Finished'"
    gateway.wait(f"test $({done}) -ge {times}")
    expect("the claim", gateway.run("ls /etc/credstore"), "")
    expect("the flag", gateway.succeeds("test -e /run/enrolld/discard-claim"), False)
    expect("failed units", gateway.run("systemctl --failed --no-legend"), "")


def expect_discarding_confined(gateway):
    network = gateway.run("readlink /proc/1/ns/net").strip()
    directory = f"/run/systemd/system/{DISCARD}.d"
    gateway.run(f"cat >/run/trial <<'END'\n{DISCARD_TRIAL % network}END\n")
    gateway.run(f"mkdir -p {directory} && printf '[Service]\nExecStart=\nExecStart=sh /run/trial\n' >{directory}/trial.conf")
    gateway.run("systemctl daemon-reload")
    gateway.run(f"systemctl start {DISCARD} || {{ journalctl --output=cat --unit={DISCARD}; false; }}")
    gateway.run(f"rm -r {directory} && systemctl daemon-reload")


@scenario
def discard_claim(scene):
    """With KeepClaim=no a claim is destroyed, in a sandbox, once the gateway has an identity, which is renewed without it. Lost,
    the identity says that somebody has to bring a claim; that is enough, and it is destroyed, too."""
    gateway = scene.gateway(more=KEEPS_NO_CLAIM, standin=[word for word in lasting(400) if word != "--hooks"])
    secret = (scene.directory / "gateway-1/scene/cloud/claim.key").read_bytes().splitlines()[1]
    expect("the key on a new disk", times_on_disk(gateway, secret), 1)
    expect("after the boot the system is", gateway.boot(), "running")
    before = gateway.wait_provisioned()
    wait_discarded(gateway, 1)
    scene.say(gateway.run(f"journalctl --boot --quiet --output=cat --unit={DISCARD}"))
    expect_discarding_confined(gateway)

    gateway.run(f"date --set=@{before['RenewAfter'] / 1e6 + 1:.3f}")
    gateway.wait("grep -x 2 /run/enrolld/generation", 240)
    after = wait_retired(gateway)
    expect("in the cloud", gateway.certificates(), {after["CertificateId"]: "ACTIVE"})
    expect("workers with the claim", gateway.workers()["claim"], 1)
    wait_discarded(gateway, 3)  # the second one was the trial

    gateway.run("tpm2_clear --tcti=device:/dev/tpmrm0 --auth-hierarchy=lockout")
    gateway.run("enrollctl check || true")
    gateway.wait("enrollctl status --json | grep 'KeepClaim=no may have destroyed it: put it there'", 240)
    scene.say(gateway.run("enrollctl status || test $? = 3"))
    gateway.run("cd /srv/cloud && cp claim.pem /etc/credstore/claim-certificate && cp claim.key /etc/credstore/claim-key")
    expect("the thing", gateway.wait_provisioned()["ThingName"], before["ThingName"])
    wait_discarded(gateway, 4)
    gateway.power_off()
    expect("the key on the disk", times_on_disk(gateway, secret), 0)
