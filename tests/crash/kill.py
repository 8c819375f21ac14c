#!/usr/bin/env python3
"""kill -9 at every system call that writes, renames, makes durable, removes or sends: of the daemon, of the worker that
enrols and of the one that checks; that process alone, or all of them.

    tests/crash/kill.py [--every=N] [--replacement | --renewal]

A process alone is killed as it enters the call, all of them as it leaves it: no state lies between two calls.
"""

import collections
import functools
import os
import pathlib
import re
import shlex
import signal
import sys

from imported import scene_class
from scene import LANES, Scene, Verdict, arguments, harness, run_lanes, summary

# "?": not every architecture has all of them.
CALLS = (
    "?write,?writev,?pwrite64,?pwritev,?pwritev2,?fsync,?fdatasync,?sync_file_range,?syncfs,?ftruncate,?link,?linkat,"
    "?unlink,?unlinkat,?rmdir,?rename,?renameat,?renameat2,?symlink,?symlinkat,?mkdir,?mkdirat,?fchmod,?fchmodat,"
    "?fchown,?sendmsg,?sendmmsg,?sendto"
)
DAEMON = 0  # workers are numbered from 1
# A worker below strace(1). What it had in the TPM goes with it, as with /dev/tpmrm0: the channel ends only after that.
WRAPPER = """#!/bin/sh
for number in 1 2 3 4 5 6 7 8 9; do
    mkdir {runs}/$number 2>/dev/null && break
done
case $number in
{numbers}) ;;
*) exec {worker} "$@" ;;
esac
strace -f -qq -o {log}.$number {options} {worker} "$@"
[ $? -le 128 ] && exit
export TPM2TOOLS_TCTI={tcti} TSS2_LOG=all+NONE
tpm2_flushcontext --transient-object && tpm2_flushcontext --loaded-session
kill -KILL $$
"""


class Point:
    """process: DAEMON, or the number of the worker since the daemon's start; number: how many-th such call."""

    def __init__(self, process, call, number, everything):
        self.process = process
        self.call = call
        self.number = number
        self.everything = everything

    def __str__(self):
        who = "daemon" if self.process == DAEMON else f"worker {self.process}"
        return f"{who}, {self.call} {self.number}, {'all' if self.everything else 'alone'} killed"

    def options(self):
        how = "STOP" if self.everything else "KILL"
        return ["-e", f"trace={self.call}", "-e", f"inject={self.call}:signal={how}:when={self.number}"]


class KillScene(Scene):
    def __enter__(self):
        super().__enter__()
        self.log = self.directory / "calls"
        self.runs = self.directory / "runs"
        return self

    def prepare(self):
        for path in self.directory.glob("calls*"):
            path.unlink()
        self.gateway.extra_environment.pop("ENROLLD_WORKER", None)

    def wrap_worker(self, numbers, options):
        """numbers: a shell pattern of those to trace."""
        for path in self.runs.glob("*"):
            path.rmdir()
        self.runs.mkdir(exist_ok=True)
        wrapper = self.directory / "worker"
        words = {"worker": harness.built("enrolld-worker"), "log": self.log, "runs": self.runs, "tcti": self.tpm.tcti}
        wrapper.write_text(WRAPPER.format(numbers=numbers, options=shlex.join(options), **words))
        wrapper.chmod(0o755)
        self.gateway.extra_environment["ENROLLD_WORKER"] = str(wrapper)

    def start_daemon(self, options):
        """Below strace(1), without its workers."""
        before = ["strace", "-qq", "-o", f"{self.log}.{DAEMON}", *options]
        self.gateway.start(wait=False, before=before)

    def log_of(self, process):
        path = pathlib.Path(f"{self.log}.{process}")
        return path.read_text() if path.exists() else ""

    def stopped(self, process):
        """The number of the process that strace has seen stop there, or None."""
        found = re.search(r"^(?:(\d+) +)?--- stopped by SIGSTOP", self.log_of(process), re.MULTILINE)
        return found and int(found[1] or self.gateway.pid())


def record(kill_scene):
    """The calls of one provisioning and of the daemon's end: (process, call, number)."""
    kill_scene.prepare()
    with kill_scene.new_device():
        kill_scene.wrap_worker("*", ["-e", f"trace={CALLS}"])
        kill_scene.start_daemon(["-e", f"trace={CALLS}"])
        kill_scene.wait_settled()
        kill_scene.gateway.stop()
        logs = sorted(kill_scene.directory.glob("calls.*"))
        return [(int(log.suffix[1:]), *call) for log in logs for call in numbered_calls(log.read_text())]


def numbered_calls(text):
    seen = collections.Counter()
    first = None
    for line in text.splitlines():
        found = re.match(r"(?:(\d+) +)?(\w+)\(", line)
        if not found:
            continue
        first = first or found[1]
        if found[1] == first:  # threads count for themselves
            seen[found[2]] += 1
            yield found[2], seen[found[2]]


def kill_alone(kill_scene, point):
    """Returns whether it happened, and what is wrong already."""
    gateway = kill_scene.gateway
    if point.process == DAEMON:
        kill_scene.start_daemon(point.options())
        harness.wait_for(
            "the daemon is killed or done",
            lambda: not gateway.process.running() or kill_scene.settled(),
        )
        gateway.stop()
    else:
        kill_scene.wrap_worker(str(point.process), point.options())
        gateway.start(wait=False)
        kill_scene.wait_settled()
    return "killed by SIGKILL" in kill_scene.log_of(point.process)


def kill_everything(kill_scene, point):
    gateway = kill_scene.gateway
    if point.process == DAEMON:
        kill_scene.start_daemon(point.options())
    else:
        kill_scene.wrap_worker(str(point.process), point.options())
        gateway.start(wait=False)
    harness.wait_for(
        "a process is stopped, or all is done",
        lambda: kill_scene.stopped(point.process) or kill_scene.settled() or not gateway.process.running(),
    )
    stopped = kill_scene.stopped(point.process)
    workers = gateway.workers() if gateway.pid() else []
    gateway.kill()
    for pid in [*workers, stopped] if point.process == DAEMON else [stopped]:
        try:
            if pid:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return stopped is not None


def try_point(kill_scene, point):
    verdict = Verdict(str(point))
    kill_scene.prepare()
    with kill_scene.new_device():
        crash = kill_everything if point.everything else kill_alone
        try:
            verdict.reached = crash(kill_scene, point)
            if point.process != DAEMON and not point.everything:
                kill_scene.judge_end(verdict)
                return verdict
            announced = (kill_scene.gateway.runtime / "provisioned").exists()
            kill_scene.end_everything()
            kill_scene.prepare()
            kill_scene.recover(verdict, kill_scene.judge_crash(verdict, announced))
        except AssertionError as error:
            verdict.other.append(str(error))
    return verdict


def lane(number, options):
    with scene_class(KillScene, options)(options.replacement) as kill_scene:
        calls = record(kill_scene)
        points = [Point(*call, everything) for call in calls for everything in (False, True)]
        for point in points[:: options.every][number::LANES]:
            yield try_point(kill_scene, point)


def main(options=None):
    options = options or arguments("point").parse_args()
    verdicts = run_lanes(functools.partial(lane, options=options))
    line, good = summary("kill", verdicts, options)
    print(line, flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
