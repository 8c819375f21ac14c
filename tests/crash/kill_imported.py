#!/usr/bin/env python3
"""As kill.py, of a device that is provisioned just in time: kill -9 while a request is made, a certificate is imported,
and the device enrols with it.

    tests/crash/kill_imported.py [--every=N]

A request that was printed stays good, and an import that has given its receipt need not be repeated.
"""

import contextlib
import threading
import time

import kill
from authority import Authority
from scene import Cloud, harness

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
        done = gateway.enrollctl("import", "-", input=self.chain)
        if done.returncode == 0:
            self.receipt = done.stdout.strip()
        if "failed (invalid)" in done.stderr:
            self.lost.append(f"the certificate for the request that was printed is refused: {done.stderr}")
        return done


class ImportedScene(kill.KillScene):
    def make_cloud(self):
        return Cloud(self, "--connect-rate=off", "--jitp-delay=0", front=True)

    def __enter__(self):
        super().__enter__()
        self.maker = Authority(self.directory, "maker")
        self.cloud.register_authority(self.maker.path, template=self.cloud.jitp_template())
        self.gateway.sections["Request"] = {"Subject": "CN=" + self.cloud.thing_name("%s")}
        self.gateway.configure("Agent", Methods="jitp", ThingName="%c")
        # Without a certificate it waits for the operator, and for nothing else.
        self.gateway.configure("Retry", Invalid="1h 1h")
        return self

    @contextlib.contextmanager
    def new_device(self):
        self.operator = Operator(self)
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


if __name__ == "__main__":
    kill.main("kill, imported", ImportedScene)
