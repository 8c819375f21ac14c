#!/usr/bin/env python3
"""As kill.py, of a device that is provisioned just in time: kill -9 while a request is made, a certificate is imported,
and the device enrols with it; or, where no certificate comes, by a claim.

    tests/crash/kill_imported.py [--way=jitp|key|jitr|claim] [--every=N]

    jitp    the device's request is signed, and a template provisions it (the default)
    key     a key and its certificate come from the factory
    jitr    the device's request is signed, and a Lambda function registers it
    claim   Methods=jitp fleet-claim, and the request is never answered

A request that was printed stays good, and an import that has given its receipt need not be repeated.
"""

import contextlib
import shutil
import sys
import threading
import time

import kill
from authority import Authority
from scene import Cloud, arguments, harness

AGAIN = 0.05  # seconds until the operator repeats what has failed


class Operator:
    """Has the device's request signed, and imports the answer; repeats what fails."""

    def __init__(self, scene):
        self.scene = scene
        self.chain = None  # for the request that was printed
        self.receipt = None
        self.lost = []
        self.over = threading.Event()
        self.thread = None

    def start(self):
        self.over.clear()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def stop(self):
        if self.thread is not None:
            self.over.set()
            self.thread.join(harness.DEADLINE)
            if self.thread.is_alive():
                raise AssertionError("enrollctl has not ended")
            self.thread = None

    def run(self):
        while not self.over.is_set() and self.receipt is None:
            done = self.next_command()
            if "is provisioned already" in done.stderr:
                return  # what it has said of the import was lost
            if done.returncode != 0:
                time.sleep(AGAIN)

    def next_command(self):
        gateway = self.scene.gateway
        if self.chain is None:
            done = gateway.enrollctl("request")
            if done.returncode == 0:
                self.chain = self.scene.maker.sign(done.stdout) + self.scene.maker.pem
            return done
        return self.import_chain()

    def import_chain(self, *options):
        done = self.scene.gateway.enrollctl("import", *options, "-", input=self.chain)
        if done.returncode == 0:
            self.receipt = done.stdout.strip()
        if "failed (invalid)" in done.stderr:
            self.lost.append(f"the certificate for the request that was printed is refused: {done.stderr}")
        return done


class Factory(Operator):
    """Has made the key, too."""

    def next_command(self):
        self.chain = (self.scene.directory / f"{self.scene.thing}.pem").read_text()
        return self.import_chain(f"--key={self.scene.directory / self.scene.thing}.key")


class ImportedScene(kill.KillScene):
    operator_class = Operator
    cloud_options = ("--jitp-delay=0",)
    methods = "jitp"

    def make_cloud(self):
        return Cloud(self, "--connect-rate=off", *self.cloud_options, front=True)

    def register_maker(self):
        self.cloud.register_authority(self.maker.path, template=self.cloud.jitp_template())

    def __enter__(self):
        super().__enter__()
        self.maker = Authority(self.directory, "maker")
        self.register_maker()
        self.gateway.sections["Request"] = {"Subject": "CN=" + self.cloud.thing_name("%s")}
        self.gateway.configure("Agent", Methods=self.methods, ThingName="%c")
        # Without a certificate it waits for the operator, and for nothing else.
        self.gateway.configure("Retry", Invalid="1h 1h")
        return self

    @contextlib.contextmanager
    def new_device(self):
        self.operator = self.operator_class(self)
        with super().new_device():
            self.operator.start()
            yield

    def end_everything(self):
        self.gateway.kill()
        self.operator.stop()
        super().end_everything()

    def recover(self, verdict, before):
        self.operator.start()
        super().recover(verdict, before)

    def judge_end(self, verdict, before=None):
        super().judge_end(verdict, before)
        verdict.lost += self.operator.lost
        used = self.gateway.property("CertificateId")
        if self.operator.receipt not in (None, used):
            verdict.lost.append(f"{self.operator.receipt} was imported, {used} is in use")


class KeyScene(ImportedScene):
    operator_class = Factory

    def make_state(self):
        self.maker.device(self.thing)
        super().make_state()


class LambdaScene(ImportedScene):
    cloud_options = ("--lambda", "--control-port=0")
    methods = "jitr"

    def register_maker(self):
        self.cloud.register_authority(self.maker.path)
        self.cloud.control_url()
        program = harness.SOURCE_DIR / "tests/iotcore/iotcore-lambda"
        log = self.directory / "lambda.log"
        process = harness.Process("iotcore-lambda", [sys.executable, "-B", program, self.cloud.directory], log)
        self.addCleanup(process.stop)
        self.cloud.wait_event(event="subscribe", clientId="jitr-lambda")


class ClaimScene(kill.KillScene):
    """What is staged is a key with a request; it must be gone with the claim's identity."""

    def __enter__(self):
        super().__enter__()
        self.gateway.sections["jitp"] = {}
        self.staged = self.directory / "staged"
        self.make_staged()
        self.gateway.configure("Agent", Methods="jitp fleet-claim")
        return self

    def make_staged(self):
        self.gateway.configure("Agent", Methods="jitp")
        with self.new_device():
            self.gateway.start()
            done = self.gateway.enrollctl("request")
            if done.returncode != 0:
                raise AssertionError(f"enrollctl request: {done.stderr}")
            self.gateway.stop()
            shutil.copy(self.gateway.state / "staged", self.staged)

    def make_state(self):
        super().make_state()
        if self.staged.exists():
            shutil.copy(self.staged, self.gateway.state / "staged")


WAYS = {"jitp": ImportedScene, "key": KeyScene, "jitr": LambdaScene, "claim": ClaimScene}

if __name__ == "__main__":
    parser = arguments("point")
    parser.add_argument("--way", choices=WAYS, default="jitp")
    options = parser.parse_args()
    kill.main(f"kill, imported, {options.way}", WAYS[options.way], options)
