#!/usr/bin/env python3
"""Power cuts: one provisioning is recorded, and every state that a power cut could have left on the disk, with what the
cloud knew at that moment, is made and started on.

    tests/crash/replay.py [--every=N] [--replacement | --renewal] [--way=jitp|key] [--without-fsync]

--without-fsync: as if the program had none. This must fail, or the test sees nothing.
"""

import dataclasses
import functools
import sys
import time

import disk_model
import recording
from imported import add_way, scene_class
from scene import LANES, Scene, Verdict, arguments, harness, run_lanes, summary

MODE = 0o711  # of the state directory, which systemd makes


@dataclasses.dataclass
class State:
    name: str
    tree: dict
    moment: int  # whose memory the cloud has, microseconds since the epoch
    asked: bool  # the attempt has had an effect in the cloud
    announced: bool  # somebody was told of the identity
    end: int  # before the next call, microseconds since the epoch


class Recorded:
    """One provisioning: the calls on the state directory, and when the cloud's registry changed."""

    def __init__(self, scene):
        self.scene = scene
        log = scene.directory / "calls"
        with scene.new_device():
            begin = scene.cloud.history()[-1][0]
            self.begin = disk_model.read(scene.gateway.state)
            scene.gateway.start(before=["strace", "-o", log, *recording.OPTIONS])
            scene.wait_settled()
            scene.gateway.stop()
            self.end = time.time_ns() // 1000
        self.calls = recording.Reader(scene.gateway.state).read(log.read_text())
        self.versions = [moment for moment, _ in scene.cloud.history() if moment >= begin]

    def moments(self, number):
        """Since when the cloud may know what it knows when the first `number` calls are done and the next is not."""
        begin = self.calls[number - 1].microseconds if number > 0 else 0
        end = self.calls[number].microseconds if number < len(self.calls) else self.versions[-1]
        before = [moment for moment in self.versions if moment <= begin][-1:] or self.versions[:1]
        return before + [moment for moment in self.versions if begin < moment <= end and moment not in before]

    def states(self, without_fsync=False):
        """All different ones, in the order of the calls."""
        disk = disk_model.Disk(MODE, self.begin)
        seen = set()
        announced = False
        for number in range(len(self.calls) + 1):
            call = self.calls[number - 1] if number > 0 else None
            if call is not None and not (without_fsync and call.name == "fsync"):
                call.apply(disk)
                announced |= call.name == "announce"
            end = self.calls[number].microseconds if number < len(self.calls) else self.end
            for kind, tree in disk.states(number):
                for moment in self.moments(number):
                    key = (tuple(sorted(tree.items())), moment, announced)
                    if key not in seen:
                        seen.add(key)
                        version = self.versions.index(moment)
                        name = f"after call {number} ({call}), {kind}, version {version} of the cloud"
                        yield State(name, tree, moment, version > 0, announced, end)


def try_state(scene, state):
    """On the recorded device, which has the same serial number, TPM and cloud: a checkpoint belongs to these."""
    verdict = Verdict(state.name)
    disk_model.materialise(state.tree, scene.gateway.state, MODE)
    scene.cloud.stop()
    scene.cloud.restore(state.moment)
    scene.cloud.start()
    scene.go_back(state.end)
    try:
        before = scene.judge_crash(verdict, state.announced)
        scene.recover(verdict, before)
        attempts = scene.gateway.signalled("Attempt")
        if before is None and state.asked and max(attempts, default=0) < 2:
            verdict.other.append(f"the attempt before is forgotten, at each boot again: Attempt was {attempts}")
    finally:
        scene.end_everything()
        scene.clear_device()
    return verdict


def lane(number, options):
    with scene_class(Scene, options)(options.replacement) as scene:
        recorded = Recorded(scene)
        states = list(recorded.states(options.without_fsync))
        if number == 0:
            calls, versions = len(recorded.calls), len(recorded.versions)
            harness.comment(f"{calls} calls, {versions} versions of the cloud, {len(states)} states")
        for state in states[:: options.every][number::LANES]:
            yield try_state(scene, state)


def main():
    parser = arguments("state")
    add_way(parser)
    parser.add_argument("--without-fsync", action="store_true", help="as if nothing were ever made durable")
    options = parser.parse_args()
    verdicts = run_lanes(functools.partial(lane, options=options))
    part = "power cuts without fsync" if options.without_fsync else "power cuts"
    line, good = summary(part, verdicts, options)
    print(line, flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
