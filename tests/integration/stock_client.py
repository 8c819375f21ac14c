"""A program that knows nothing of enrolld, and uses what is in current/: mosquitto_pub, with tpm2-openssl for the key."""

import os
import subprocess

from harness import DEADLINE, Process, wait_for

# tpm2-openssl beside OpenSSL's own provider: only operations with a TPM key go to the TPM.
OPENSSL_CONFIGURATION = """openssl_conf = settings
[settings]
providers = providers
{algorithms}
[providers]
default = activated
{providers}
[activated]
activate = 1
[algorithms]
default_properties = ?tpm2.signature=yes
"""
# What suits tpm2-openssl 1.1 is refused by 1.3, and the other way round.
OLDER = OPENSSL_CONFIGURATION.format(
    algorithms="alg_section = algorithms", providers="base = activated\ntpm2 = activated"
)
NEWER = OPENSSL_CONFIGURATION.format(algorithms="", providers="tpm2 = activated\nbase = activated")


def broker_for_tpm(test, gateway, tpm):
    """tpm2-openssl opens the TPM more than once at a time: that takes tpm2-abrmd, the resource manager in user space; on
    a gateway /dev/tpmrm0 does it in the kernel. Returns the environment for its clients."""
    environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=gateway.bus.address, TSS2_LOG="all+NONE")
    process = Process(
        "tpm2-abrmd",
        ["tpm2-abrmd", "--allow-root", f"--tcti={tpm.tcti}"],
        test.directory / "tpm2-abrmd.log",
        environment,
    )
    test.addCleanup(process.stop)
    wait_for(
        lambda: "tpm2-abrmd has not taken its name on the bus: " + process.log.read_text(),
        lambda: "com.intel.tss2.Tabrmd" in gateway.busctl("list"),
    )
    return environment | {"TPM2OPENSSL_TCTI": "tabrmd:bus_type=system"}


def publish(test, gateway, cloud, client_id, topic, payload, tpm=None):
    """Publishes with the identity in current/, with QoS 1; returns the finished program. tpm: where the key is."""
    environment = broker_for_tpm(test, gateway, tpm) if tpm is not None else dict(os.environ)
    configuration = test.directory / "openssl.cnf"
    words = ["-h", "localhost", "-p", str(cloud.port), "-V", "5", "-q", "1", "-i", client_id]
    words += ["--cafile", "root-ca.pem", "--cert", "certificate.pem", "--key", "private.pem"]
    for text in (OLDER, NEWER) if tpm is not None else ("",):
        configuration.write_text(text)
        done = subprocess.run(
            ["mosquitto_pub", *words, "-t", topic, "-m", payload],
            cwd=(gateway.state / "current").resolve(),
            env=environment | ({"OPENSSL_CONF": str(configuration)} if text else {}),
            text=True,
            capture_output=True,
            timeout=DEADLINE,
        )
        if done.returncode == 0:
            break
    return done
