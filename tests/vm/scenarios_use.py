"""Who uses the identity, and what becomes of it later."""

import json

import image
from application import APPLICATION_FILES
from scenario import expect, provision, scenario

PEOPLE = "u visitor -\nu operator -\nm operator enrolld-admin\n"


@scenario
def application(scene):
    """An application that only knows the target and stock tools publishes with the key in the TPM, at each boot."""
    gateway, _ = provision(scene, files=APPLICATION_FILES)
    gateway.wait("systemctl is-active application.service")
    expect("messages in the cloud", len(gateway.published()), 1)
    gateway.power_off()
    expect("after the boot the system is", gateway.boot(), "running")
    gateway.wait("systemctl is-active application.service")
    expect("messages in the cloud", len(gateway.published()), 2)


@scenario
def tpm_cleared(scene):
    """Between two boots the TPM is cleared: the gateway gets a new identity, and the application goes on with it."""
    gateway, before = provision(scene, files=APPLICATION_FILES)
    gateway.wait("systemctl is-active application.service")
    gateway.power_off()
    gateway.tpm.clear()
    expect("after the boot the system is", gateway.boot(), "running")
    after = gateway.wait_provisioned()
    expect("the generation", after["Generation"], 2)
    expect("the certificate is another one", after["CertificateId"] != before["CertificateId"], True)
    expect("in the cloud", gateway.certificates().get(after["CertificateId"]), "ACTIVE")
    gateway.wait("systemctl is-active application.service")
    expect("messages in the cloud", len(gateway.published()), 2)


@scenario
def doctor(scene):
    """From the sandboxes of the units enrollctl doctor sees what is wrong, each thing by itself, and disturbs nothing."""
    gateway, before = provision(scene)
    gateway.run("systemctl stop cloud.service && mv /etc/credstore/claim-key /etc/credstore/another")
    gateway.run("mv /dev/tpmrm0 /dev/another && systemctl stop enrolld-lost.path")
    rows = gateway.doctor()
    verdicts = {what: row["Verdict"] for what, row in rows.items() if row["Verdict"] != "ok"}
    wanted = {"tpm": "wrong", "tcp": "wrong", "tls": "skipped", "enrolld-lost.path": "warning",
              "method fleet-claim": "warning"}  # the device has its identity already  # fmt: skip
    expect("rows that are not ok", verdicts, wanted)
    for what in verdicts:
        scene.say(f"{what}: {rows[what]['Text']} -> {rows[what]['Advice']}")
    expect("the certificate", gateway.status()["CertificateId"], before["CertificateId"])


@scenario
def users(scene):
    """Everybody may look, and nobody but root and the group enrolld-admin may enrol."""
    gateway, _ = provision(scene, files={"/usr/lib/sysusers.d/people.conf": PEOPLE})
    for user in ("visitor", "operator"):
        text = gateway.run(f"setpriv --reuid={user} --regid={user} --init-groups enrollctl status --json")
        expect(f"what the {user} sees", json.loads(text)["State"], "provisioned")
    call = "busctl call org.enrolld1 /org/enrolld1 org.enrolld1.Agent Enroll"
    refused = gateway.run(f"! setpriv --reuid=visitor --regid=visitor --init-groups {call}")
    expect("the answer to a visitor", "Access denied" in refused or refused, True)
    refused = gateway.run(f"! setpriv --reuid=operator --regid=operator --init-groups {call}")
    expect("the answer to an operator", "provisioned already" in refused or refused, True)
    text = gateway.run("! setpriv --reuid=visitor --regid=visitor --init-groups cat /var/lib/enrolld/current/private.pem")
    expect("a visitor reads the key", "Permission denied" in text or text, True)


@scenario
def user_renumbered(scene):
    """An update of the image gives the agent's users other numbers: the identity is still there and readable."""
    gateway, before = provision(scene)
    gateway.power_off()
    for name in ("/etc/passwd", "/etc/group"):
        text = image.read_file(gateway.root, name)
        image.put_files(gateway.root, {name: renumbered(text)})
    expect("after the boot the system is", gateway.boot("systemd.mask=cloud.service"), "running")
    expect("the certificate", gateway.wait_provisioned()["CertificateId"], before["CertificateId"])
    owners = gateway.run("find /var/lib/enrolld -not -user enrolld -not -name lost+found")
    expect("what belongs to others", owners, "")
    expect("the number", int(gateway.run("id --user enrolld")), lambda number: number > 1000)
    expect("complaints", gateway.complaints(), "")


def renumbered(text):
    lines = [line.split(":") for line in text.splitlines()]
    for fields in lines:
        if fields[0].startswith("enrolld"):
            numbers = (2, 3) if len(fields) == 7 else (2,)
            for field in numbers:
                fields[field] = str(int(fields[field]) + 1000)
    return "".join(":".join(fields) + "\n" for fields in lines)
