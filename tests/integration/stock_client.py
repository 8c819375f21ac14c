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


class StockClient:
    """tpm: where the key is, None if it is in a file."""

    def __init__(self, test, gateway, cloud, tpm=None):
        self.gateway = gateway
        self.cloud = cloud
        self.environment = dict(os.environ)
        self.configurations = [None]
        if tpm is not None:
            self.use_tpm(test, tpm)

    def use_tpm(self, test, tpm):
        """tpm2-openssl opens the TPM more than once at a time: that takes tpm2-abrmd, the resource manager in user
        space; on a gateway /dev/tpmrm0 does it in the kernel."""
        self.environment.update(DBUS_SYSTEM_BUS_ADDRESS=self.gateway.bus.address, TSS2_LOG="all+NONE")
        log = test.directory / "tpm2-abrmd.log"
        words = ["tpm2-abrmd", "--allow-root", f"--tcti={tpm.tcti}"]
        process = Process("tpm2-abrmd", words, log, self.environment)
        test.addCleanup(process.stop)
        wait_for(
            lambda: "tpm2-abrmd has not taken its name on the bus: " + log.read_text(),
            lambda: "com.intel.tss2.Tabrmd" in self.gateway.busctl("list"),
        )
        self.environment["TPM2OPENSSL_TCTI"] = "tabrmd:bus_type=system"
        self.configurations = []
        for name, text in (("older", OLDER), ("newer", NEWER)):
            self.configurations.append(test.directory / f"openssl-{name}.cnf")
            self.configurations[-1].write_text(text)

    def try_to_publish(self, client_id, topic, payload, configuration):
        environment = dict(self.environment)
        if configuration is not None:
            environment["OPENSSL_CONF"] = str(configuration)
        words = ["-h", "localhost", "-p", str(self.cloud.port), "-V", "5", "-q", "1", "-i", client_id]
        words += ["--cafile", "root-ca.pem", "--cert", "certificate.pem", "--key", "private.pem"]
        return subprocess.run(
            ["mosquitto_pub", *words, "-t", topic, "-m", payload],
            cwd=(self.gateway.state / "current").resolve(),
            env=environment,
            text=True,
            capture_output=True,
            timeout=DEADLINE,
        )

    def publish(self, client_id, topic, payload):
        """With QoS 1, by the identity in current/; again until it is taken, as any application does."""
        seen = []

        def published():
            for configuration in self.configurations:
                done = self.try_to_publish(client_id, topic, payload, configuration)
                if done.returncode == 0:
                    return True
                seen.append(done.stderr.strip())
            return False

        wait_for(lambda: f"mosquitto_pub publishes; it has said {seen[-4:]}", published)
