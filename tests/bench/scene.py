"""A gateway, its TPM and its cloud, with the relays between them: what each figure is measured on."""

import os
import resource
import signal
import subprocess
import time

import harness
from gateway import Gateway
from parts import Cloud, Tpm
from relay_tcp import TcpRelay
from tpm_proxy import TpmProxy

SRK_HANDLE = "0x81000001"
SRK_ATTRIBUTES = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"


class Scene(harness.TestCase):
    """The directory in which parts live, and their end. On an error the logs are shown as those of a test are."""

    def __enter__(self):
        self.setUp()
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, Exception):
            for name, path in self.logs:
                if path.is_file():
                    harness.comment(f"---- {name}:\n" + path.read_text(errors="replace")[-4000:])
        if not self.doCleanups() and kind is None:
            raise AssertionError("something has not ended as it should")


class OldCloud(Cloud):
    """Speaks TLS 1.2 at most. mosquitto can't be told so, but OpenSSL (config(5), "SSL Configuration")."""

    def start(self):
        configuration = self.directory / "openssl.cnf"
        configuration.write_text(
            "openssl_conf=all\n[all]\nssl_conf=ssl\n[ssl]\nsystem_default=limits\n[limits]\nMaxProtocol=TLSv1.2\n"
        )
        os.environ["OPENSSL_CONF"] = str(configuration)
        try:
            super().start()
        finally:
            del os.environ["OPENSSL_CONF"]


class Device:
    """`network` and `chip` are the relays; `gateway` is configured to use them."""

    def __init__(self, scene, cloud=Cloud, srk=True):
        self.scene = scene
        self.cloud = cloud(scene)
        self.tpm = Tpm(scene)
        if srk:
            self.make_storage_root_key()
        self.network = TcpRelay(scene, self.cloud.port)
        self.chip = TpmProxy(scene, self.tpm)
        self.gateway = Gateway(scene, self.cloud, self.tpm)
        self.gateway.configure("Cloud", Port=self.network.port)
        self.gateway.configure("Key", TCTI=self.chip.tcti)
        self.devices = 0

    def make_storage_root_key(self):
        """As a maker should provision it: persistent and noDA (TCG TPM v2.0 Provisioning Guidance, 7.5)."""
        self.tpm.tool("tpm2_createprimary", "-C", "o", "-G", "ecc256", "-a", SRK_ATTRIBUTES, "-c", "srk.ctx")
        self.tpm.flush()
        self.tpm.tool("tpm2_evictcontrol", "-C", "o", "-c", "srk.ctx", SRK_HANDLE)
        self.tpm.flush()

    def provision(self):
        """The daemon, from its start to a committed identity and no worker left."""
        self.gateway.start()
        self.gateway.wait_provisioned()
        harness.wait_for("all workers have ended", lambda: not self.gateway.workers())

    def start_empty_daemon(self):
        """Ready when it returns, on the gateway's bus."""
        notifications = self.gateway.notifications
        said = notifications.mark()
        log = self.scene.directory / "empty-daemon.log"
        program = harness.built("tests/bench/empty-daemon")
        process = harness.Process("empty-daemon", [program], log, self.gateway.environment())
        self.scene.addCleanup(process.stop, signal.SIGKILL)
        if notifications.wait("READY=1", said) is None:
            raise AssertionError("empty-daemon: " + log.read_text())
        return process

    def enroll(self):
        """Another device runs the worker by hand. Returns seconds: from exec until the cloud has accepted the new
        certificate, and of the processor."""
        self.devices += 1
        serial = f"BENCH-{self.devices}"
        directory = self.scene.directory / serial
        self.gateway.configure("Agent", SerialNumber=f"literal:{serial}")
        words = [harness.built("enrolld-worker"), "enroll", f"--config={self.gateway.configuration}"]
        before, start = processor_time(), time.time()
        done = subprocess.run(
            [*words, f"--directory={directory}"],
            env=self.gateway.environment(),
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )
        processor = processor_time() - before
        if done.returncode != 0:
            raise AssertionError(f"enrolld-worker: {done.stderr}")
        client = f"{self.cloud.thing_name(serial)}-enrolld"
        connected = self.cloud.wait_event(event="connect", clientId=client)["time"] / 1000
        return connected - start, processor


def processor_time():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
