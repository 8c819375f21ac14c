"""The example of docs/plugin.md, a plugin built out of tree and the HTTPS service that it asks, beside a cloud."""

import importlib.util
import subprocess
import threading

import harness
from gateway import Gateway
from harness import DEADLINE, SOURCE_DIR, built
from installation import Installation, run
from parts import Cloud, Tpm

EXAMPLE = SOURCE_DIR / "docs/examples/plugin-https-json"
TOKEN = "canary-0123456789-of-the-token"
SERIAL = "GW-0001"


def load_service():
    """docs/examples/plugin-https-json/service.py as a module."""
    specification = importlib.util.spec_from_file_location("service", EXAMPLE / "service.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


service = load_service()


def compile_plugin(source, target, *words, header=None):
    """As a stranger does it. header: the folder of another one than that of `make install`."""
    flags = [f"-I{header}"] if header else Installation.pkg_config("--cflags", "enrolld-plugin")
    flags += ["-Wall", "-Wextra", "-Werror"]
    libraries = run("pkg-config", "--cflags", "--libs", "json-c").split()
    run("cc", "-shared", "-fPIC", "-fvisibility=hidden", *flags, *words, "-o", target, source, *libraries)
    return target


class HoldingService(service.Service):
    """What a test makes of the service: `asked` are the questions so far, `answers` what comes in place of its own."""

    def __init__(self, cloud, token):
        super().__init__(cloud, token)
        self.asked = []
        self.answers = []  # the next ones: a Refusal to raise, or a function that makes another answer of it
        self.arrived = threading.Condition()

    def answer(self, question):
        with self.arrived:
            self.asked.append(question)
            self.arrived.notify_all()
            change = self.answers.pop(0) if self.answers else None
        if isinstance(change, Exception):
            raise change
        answer = super().answer(question)
        return change(answer) if change else answer

    def wait_asked(self, count):
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.asked) >= count, DEADLINE):
                raise AssertionError(f"asked {len(self.asked)} times, not {count}, within {DEADLINE} s")


class Scene(harness.TestCase):
    """A cloud, the service beside it, and a gateway with the example as its method."""

    def scene(self, backend="file", **options):
        self.cloud = Cloud(self, "--control-port=0", "--claim-key=ecdsa")
        self.tpm = Tpm(self) if backend == "tpm2" else None
        self.start_service()
        self.plugins = self.directory / "plugins"
        self.plugins.mkdir()
        compile_plugin(EXAMPLE / "https-json.c", self.plugins / "https-json.so")
        self.gateway = Gateway(self, self.cloud, self.tpm, backend)
        self.gateway.extra_environment["ENROLLD_PLUGIN_DIR"] = str(self.plugins)
        del self.gateway.sections["fleet-claim"]
        self.gateway.sections["https-json"] = {
            "Url": self.server.url,
            "Token": self.service_directory / "token",
            "ServerCA": self.service_directory / "server-ca.pem",
            **options,
        }
        self.gateway.configure("Agent", Methods="https-json")

    def start_service(self):
        self.service_directory = self.directory / "service"
        service.make_directory(self.service_directory, TOKEN)
        self.service = HoldingService(service.Cloud(self.cloud.directory), TOKEN)
        self.server = service.Server(self.service_directory, self.service)
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(self.server.shutdown)

    def enroll_by_hand(self):
        """One attempt of the worker; returns what it said, its exit status must be 1."""
        done = subprocess.run(
            [built("enrolld-worker"), "enroll", f"--config={self.gateway.configuration}"]
            + [f"--directory={self.directory / 'by-hand'}"],
            env=self.gateway.environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def assertOneCertificate(self):
        self.assertEqual(list(self.cloud.device_certificates().values()), ["ACTIVE"])
        self.assertEqual(list(self.cloud.things()), [f"gateway-{SERIAL}"])
        self.assertEqual(len(self.service.devices), 1)
