#!/usr/bin/env python3
"""A state directory in memory: each boot would cost another certificate, so enrolld refuses to enrol there. And a machine
id in memory, which is another one at each boot. Both in a mount namespace of the test's own, where it may mount things."""

import json
import os
import pathlib
import subprocess
import unittest

import harness
from gateway import Gateway
from parts import Cloud

SHELL = ["unshare", "--mount", "--propagation=private", "sh", "-c"]
if os.geteuid() != 0:
    SHELL[1:1] = ["--map-root-user"]


def can(script):
    """Whether that may be done here: a container may forbid it."""
    return subprocess.run([*SHELL, script], capture_output=True).returncode == 0


class Device(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = Cloud(self)
        self.gateway = Gateway(self, self.cloud, backend="file")
        self.gateway.configure("Agent", VolatileState=None)
        self.gateway.state.mkdir()
        self.place = self.directory / "place"
        self.place.mkdir()

    def mount(self, script, **names):
        """Has the daemon begin with that, in a mount namespace."""
        script = script.format(place=self.place, state=self.gateway.state, **names)
        if not can(script):
            self.skipTest(f"may not be done here: {script}")
        self.gateway.wrapper = [*SHELL, f'{script} && exec "$@"', "sh"]

    def refused(self):
        self.gateway.start()
        error = self.gateway.wait_property("LastError", lambda error: error[0] == "invalid")
        self.gateway.wait_property("State", "failed")
        self.assertEqual(self.cloud.events(event="connect"), [])
        return error

    def store(self):
        """What `enrollctl doctor` says of it: verdict and text."""
        done = self.gateway.enrollctl("doctor", "--json")
        row = [row for row in json.loads(done.stdout)["Rows"] if row["What"] == "store"][0]
        return row["Verdict"], row["Text"]


TMPFS = "mount -t tmpfs state {state}"
OVERLAY = (
    "{first} && mkdir -p {place}/lower '{place}/{upper}' {place}/work"
    " && mount -t overlay overlay -o 'lowerdir={place}/lower,upperdir={place}/{upper},workdir={place}/work' {state}"
)
IN_MEMORY = "mount -t tmpfs place {place}"


class State(Device):
    def test_refused(self):
        self.mount(TMPFS)
        error = self.refused()
        self.assertEqual(error[1], "configuration")
        self.assertIn("VolatileState=yes", error[2])
        self.assertEqual(self.gateway.property("VolatileState"), "yes")
        self.assertNotIn("Warning:", self.gateway.enrollctl("status").stdout)
        self.assertIn("the state directory is in memory", self.gateway.log.read_text())
        # Said by the operator it is his business, and told all the same.
        self.gateway.configure("Agent", VolatileState="yes")
        self.gateway.call("Reload")
        self.gateway.wait_provisioned()
        status = self.gateway.enrollctl("status").stdout
        self.assertIn("Warning: the state directory is in memory: at the next boot this identity is gone", " ".join(status.split()))

    def test_overlay_in_memory(self):
        self.mount(OVERLAY, first=IN_MEMORY.format(place=self.place), upper="upper with a blank")
        self.refused()
        self.assertEqual(self.gateway.property("VolatileState"), "yes")
        verdict, text = self.store()
        self.assertEqual(verdict, "wrong")
        self.assertIn("is in memory: nothing enrolls", text)

    def test_overlay_out_of_sight(self):
        """As when an initial RAM disk has mounted it: nobody can say, so it is allowed."""
        hide = IN_MEMORY.format(place=self.place)
        self.mount(OVERLAY + " && mkdir {place}/upper/x && umount -l {place}", first=hide, upper="upper")
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("VolatileState"), "unknown")
        self.assertIn("cannot be seen", self.gateway.log.read_text())
        self.assertEqual(self.store()[0], "warning")

    def test_overlay_on_a_disk(self):
        self.mount(OVERLAY, first="true", upper="upper")
        if subprocess.run(["stat", "-f", "-c", "%T", self.place], capture_output=True, text=True).stdout[:4] == "tmpf":
            self.skipTest("the tests are in memory")
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.property("VolatileState"), "no")
        self.assertNotIn("state directory is", self.gateway.log.read_text())
        self.assertEqual(self.store()[0], "ok")


class MachineId(Device):
    def prepare(self, script, text):
        (self.place / "machine-id").write_text(text)
        self.gateway.configure("Agent", SerialNumber="machine-id", VolatileState="yes")
        self.mount(script + " && mount --bind {place}/machine-id /etc/machine-id")

    @unittest.skipUnless(pathlib.Path("/etc/machine-id").exists(), "this machine has no id")
    def test_transient(self):
        copy = "cp {place}/machine-id {state}/id && mount -t tmpfs place {place} && cp {state}/id {place}/machine-id"
        self.prepare(copy, "0123456789abcdef0123456789abcdef\n")
        error = self.refused()
        self.assertIn("/etc/machine-id cannot be the serial number: it is transient", error[2])

    @unittest.skipUnless(pathlib.Path("/etc/machine-id").exists(), "this machine has no id")
    def test_uninitialized(self):
        for text in ("uninitialized\n", ""):
            with self.subTest(text=text):
                self.prepare("true", text)
                error = self.refused()
                self.assertIn("/etc/machine-id cannot be the serial number: it is not initialized", error[2])
                self.gateway.stop()
                (self.gateway.state / "retry").unlink()

    @unittest.skipUnless(pathlib.Path("/etc/machine-id").exists(), "this machine has no id")
    def test_of_a_disk(self):
        self.prepare("true", "0123456789abcdef0123456789abcdef\n")
        self.gateway.start()
        self.gateway.wait_provisioned()
        self.assertEqual(self.gateway.identity()["serialNumber"], "0123456789abcdef0123456789abcdef")


if __name__ == "__main__":
    harness.main()
