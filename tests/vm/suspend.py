"""A machine that sleeps: suspended to its memory (ACPI S3), until qemu is told to wake it."""

import contextlib
import json
import socket
import time

from machine import COMMAND_DEADLINE

SUSPEND = "systemctl suspend"


class Monitor:
    """What qemu tells and can be told: the QEMU Machine Protocol."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("r")
        self.wait_for("QMP")
        self.command("qmp_capabilities")

    def close(self):
        self.lines.close()
        self.socket.close()

    def wait_for(self, key, value=None):
        """Until a message with this member comes: qemu is silent in between, or tells what happens."""
        self.socket.settimeout(COMMAND_DEADLINE)
        message = {}
        while key not in message or value not in (None, message[key]):
            message = json.loads(self.lines.readline())
            if "error" in message:
                raise AssertionError(f"qemu says {message}")

    def command(self, name):
        self.socket.sendall(json.dumps({"execute": name}).encode())
        self.wait_for("return")


def date(machine):
    """What its clock shows, in seconds since 1970."""
    return float(machine.run("date +%s.%N"))


def seconds_asleep(machine):
    """Since its boot: CLOCK_BOOTTIME goes on while it sleeps, CLOCK_MONOTONIC does not (clock_gettime(2))."""
    return float(machine.run("python3 -c 'from time import *; print(clock_gettime(CLOCK_BOOTTIME) - monotonic())'"))


def sleep_until(machine, seconds):
    """Suspends it, and wakes it when this date of its clock has come. The date of that."""
    with contextlib.closing(Monitor(machine.directory / "monitor")) as monitor:
        ahead = date(machine) - time.time()
        machine.shell.send(SUSPEND)
        monitor.wait_for("event", "SUSPEND")
        time.sleep(max(0, seconds - ahead - time.time()))
        woken = time.time() + ahead
        monitor.command("system_wakeup")
    status, output = machine.shell.read_answer(SUSPEND, COMMAND_DEADLINE)
    if status != 0:
        raise AssertionError(f"{SUSPEND}: {output}")
    return woken
