#!/usr/bin/env python3
"""A full disk, a read-only one and a broken one: an error at each call that changes the state directory, once, and from
there on until the daemon is started again.

    tests/crash/disk_errors.py [--every=N] [--replacement | --renewal] [--way=jitp|key]

The daemon must not crash, must say what is wrong, and must end provisioned with the one certificate when it is over.
"""

import collections
import errno
import functools
import os
import re
import sys

from imported import add_way, scene_class
from scene import LANES, Scene, Verdict, arguments, harness, run_lanes, summary

# What each error can come from: write(2), mkdir(2), rename(2) and so on.
SOURCES = {
    "ENOSPC": ("openat", "write", "fsync", "mkdirat", "renameat", "symlinkat"),
    "EROFS": ("openat", "mkdirat", "renameat", "symlinkat", "unlinkat", "fchmod"),
    "EIO": ("openat", "write", "fsync", "mkdirat", "renameat", "symlinkat", "unlinkat", "fchmod"),
}
CALLS = SOURCES["EIO"]
# strace follows files by their names: these are all that the daemon writes.
FOLDERS = ("", "generations", "incoming", "generations/1", "generations/2")
FILES = ("certificate.pem", "private.pem", "root-ca.pem", "identity.json")
KEPT = (
    *("retry.new", "checkpoint-fleet-claim.new", "staged.new"),
    *("retry-renewal.1.new", "renewal-fleet-claim.1.new", "staged.1.new", "retire.new"),
)
NAMES = (*FOLDERS, *KEPT, *(f"incoming/{name}" for name in FILES))
# What a worker had in the TPM that the daemon has ended goes with it, as with /dev/tpmrm0.
WORKER = """#!/bin/sh
{worker} "$@" && exit
export TPM2TOOLS_TCTI={tcti} TSS2_LOG=all+NONE
tpm2_flushcontext --transient-object && tpm2_flushcontext --loaded-session
exit 1
"""
# Enough to see that attempts without a disk ask the cloud for nothing more.
ATTEMPTS = 3


class Point:
    """counts: how many of each call come before; call: the one that fails, or the first that does."""

    def __init__(self, call, counts, error, lasting):
        self.call = call
        self.counts = counts
        self.error = error
        self.lasting = lasting

    def __str__(self):
        return f"{self.error} {'from' if self.lasting else 'only at'} {self.call} {self.counts[self.call] + 1}"

    def options(self):
        # An openat that fails for ever would be the end of reading, too; what it makes cannot be written anyway.
        calls = [call for call in SOURCES[self.error] if call != "openat"] if self.lasting else [self.call]
        rules = [f"inject={call}:error={self.error}:when={self.counts[call] + 1}" for call in calls]
        rules = [rule + "+" * self.lasting for rule in rules]
        return [f"--trace={','.join(calls)}", *(word for rule in rules for word in ("-e", rule))]


def wrap_worker(scene):
    wrapper = scene.directory / "worker"
    wrapper.write_text(WORKER.format(worker=harness.built("enrolld-worker"), tcti=scene.tpm.tcti))
    wrapper.chmod(0o755)
    scene.gateway.extra_environment["ENROLLD_WORKER"] = str(wrapper)


def strace(scene, *options):
    paths = [word for name in NAMES for word in ("-P", scene.gateway.state / name)]
    return ["strace", "-qq", "-o", scene.directory / "calls", *paths, *options]


def record(scene):
    """Each call that may fail, with how many of each kind were before it."""
    with scene.new_device():
        scene.gateway.start(before=strace(scene, f"--trace={','.join(CALLS)}"))
        scene.wait_settled()
        scene.gateway.stop()
        log = (scene.directory / "calls").read_text()
    counts = collections.Counter()
    for line in log.splitlines():
        call = re.match(r"(\w*)", line)[1]
        if call in CALLS:
            if call != "openat" or "O_CREAT" in line:
                yield call, counts.copy()
            counts[call] += 1


def all_points(scene):
    for call, counts in record(scene):
        for error, sources in SOURCES.items():
            for lasting in (False, True):
                if call in sources and not (lasting and call == "openat"):
                    yield Point(call, counts, error, lasting)


def errors(scene):
    """What LastError was."""
    told = [error for error in scene.gateway.signalled("LastError") if error[0] != ""]
    return [error for error in told if not scene.is_beside(error)]


def was_hit(scene, point):
    """How often files are looked for, and opened to read, is a matter of time: then it was another call."""
    lines = [line for line in (scene.directory / "calls").read_text().splitlines() if "(INJECTED)" in line]
    return any(point.call != "openat" or "O_CREAT" in line for line in lines)


def suffer(scene, point, verdict):
    """Runs the daemon on the bad disk for as long as there is something to see."""
    gateway = scene.gateway
    said = len(gateway.log.read_text()) if gateway.log.exists() else 0
    gateway.start(wait=False, before=strace(scene, *point.options()))
    harness.wait_for(
        lambda: f"all is done, or something said: {gateway.describe()}",
        lambda: scene.settled()
        or not gateway.process.running()
        or (point.lasting and len(errors(scene)) + len(scene.refusals()) >= ATTEMPTS),
    )
    ended = not gateway.process.running()
    status = gateway.stop()
    scene.end_everything()
    verdict.reached = was_hit(scene, point)
    words = gateway.log.read_text()[said:]
    judge_words(verdict, point, words, errors(scene))
    if status != (1 if ended else 0):
        verdict.other.append(f"ended with {status}: {words}")


def judge_words(verdict, point, log, told):
    text = os.strerror(getattr(errno, point.error))
    if verdict.reached and text not in log:
        verdict.other.append(f"the log does not tell of it: {log}")
    for kind, step, message, _ in told:
        if kind != "internal" or step == "" or text not in message:
            verdict.other.append(f"LastError was {kind}, {step}, {message}")


def try_point(scene, point):
    verdict = Verdict(str(point))
    with scene.new_device():
        try:
            suffer(scene, point, verdict)
            scene.recover(verdict, scene.judge_crash(verdict, announced=False))
        except AssertionError as error:
            verdict.other.append(str(error))
    return verdict


def lane(number, options):
    with scene_class(Scene, options)(options.replacement) as scene:
        wrap_worker(scene)
        for point in list(all_points(scene))[:: options.every][number::LANES]:
            yield try_point(scene, point)


def main():
    parser = arguments("point")
    add_way(parser)
    options = parser.parse_args()
    verdicts = run_lanes(functools.partial(lane, options=options))
    line, good = summary("disk errors", verdicts, options)
    print(line, flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
