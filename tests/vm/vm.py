#!/usr/bin/env python3
"""Runs scenarios in virtual machines, each with new ones of its own, and says how long each has taken."""

import argparse
import contextlib
import pathlib
import signal
import sys
import tempfile
import time
import traceback

import scenarios
from gateway_machine import Gateway
from image import Image

DEADLINE = 600  # seconds for a scenario, if it does not name its own


class Scene:
    """What a scenario gets: machines with nothing on their disks. Afterwards they are off."""

    def __init__(self, directory, golden):
        self.directory = directory
        self.golden = golden
        self.machines = []
        self.facts = []

    def gateway(self, golden=None, **options):
        directory = self.directory / f"gateway-{len(self.machines) + 1}"
        self.machines.append(Gateway(directory, golden or self.golden, **options))
        return self.machines[-1]

    def say(self, text):
        """What was seen, for the report."""
        self.facts.append(text)

    def describe(self):
        return "\n".join(machine.describe() for machine in self.machines)

    def end(self):
        for machine in self.machines:
            machine.end()


@contextlib.contextmanager
def deadline(seconds):
    def too_late(*_):
        raise AssertionError(f"not done within {seconds} s")

    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def comment(text):
    for line in text.splitlines():
        print(f"#   {line}", flush=True)


def try_scenario(scene, function):
    """Whether it has passed."""
    try:
        with deadline(getattr(function, "deadline", DEADLINE)):
            function(scene)
        return True
    except Exception:
        comment(traceback.format_exc())
        with deadline(60), contextlib.suppress(Exception):
            comment(scene.describe())
        return False
    finally:
        scene.end()


def run(names, golden):
    failed = 0
    print(f"1..{len(names)}", flush=True)
    for number, name in enumerate(names, 1):
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="enrolld-vm-") as directory:
            scene = Scene(pathlib.Path(directory), golden)
            good = try_scenario(scene, scenarios.EVERY[name])
        failed += not good
        seconds = time.monotonic() - start
        print(f"{'ok' if good else 'not ok'} {number} - {name} ({seconds:.0f} s)", flush=True)
        comment("\n".join(scene.facts))
    print(f"{len(names) - failed} passed, {failed} failed", flush=True)
    return failed == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=pathlib.Path, required=True, help="where they are kept")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="where enrolld was built")
    parser.add_argument("--list", action="store_true", help="the scenarios")
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO")
    options = parser.parse_args()
    if options.list:
        for name, function in scenarios.EVERY.items():
            print(f"{name:26}{' '.join(function.__doc__.split())}")
        return
    unknown = [name for name in options.scenario if name not in scenarios.EVERY]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}: there are {', '.join(scenarios.EVERY)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and so no machine is left behind
    golden = Image(options.images, options.build)
    sys.exit(0 if run(options.scenario or list(scenarios.EVERY), golden) else 1)


if __name__ == "__main__":
    main()
