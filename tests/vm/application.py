"""An application on the gateway, for the scenarios that need one."""

import pathlib

from gateway_machine import PORT, THING

# An application as strangers write it: it knows the target, the directory, and how OpenSSL gets at a key in the TPM. The
# provider of Debian 12 checks the server's signatures in the TPM, too, and needs more than the three objects that the
# kernel's resource manager has for each client (TPM_RC_OBJECT_MEMORY): so it goes through the one in user space.
APPLICATION = f"""[Unit]
After=enrolld-provisioned.target tpm2-abrmd.service
Wants=tpm2-abrmd.service
PartOf=enrolld-provisioned.target

[Service]
Type=oneshot
RemainAfterExit=yes
User=application
SupplementaryGroups=enrolld-identity tss
WorkingDirectory=/var/lib/enrolld/current
Environment=OPENSSL_CONF=/etc/application/openssl.cnf TPM2OPENSSL_TCTI=tabrmd:bus_type=system
ExecStart=mosquitto_pub -h localhost -p {PORT} -V 5 -q 1 -i {THING} -t things/{THING}/hello -m hello \\
    --cafile root-ca.pem --cert certificate.pem --key private.pem
"""
OPENSSL = """openssl_conf = settings
[settings]
providers = providers
alg_section = algorithms
[providers]
default = activated
base = activated
tpm2 = activated
[activated]
activate = 1
[algorithms]
default_properties = ?tpm2.signature=yes
"""
APPLICATION_FILES = {
    "/etc/systemd/system/application.service": APPLICATION,
    "/etc/application/openssl.cnf": OPENSSL,
    "/usr/lib/sysusers.d/application.conf": "u application -\n",
    # What `systemctl enable` makes.
    "/etc/systemd/system/enrolld-provisioned.target.wants/application.service": pathlib.PurePath(
        "/etc/systemd/system/application.service"
    ),
}
