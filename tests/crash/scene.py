"""A gateway with its TPM and its cloud, that is brought into one state after another, and what must hold in each."""

import argparse
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
import stat
import sys
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))

import harness
from gateway import FILES, Gateway
from parts import Cloud, Tpm

# After a crash the next attempt comes soon: the waits are not what is tested here.
WAIT = "20ms 40ms"
LANES = 2
PREDECESSOR = "generations/1"


@dataclasses.dataclass
class Verdict:
    """What became of one state. The lists hold what is wrong, in words."""

    name: str
    lost: list = dataclasses.field(default_factory=list)
    second: list = dataclasses.field(default_factory=list)
    other: list = dataclasses.field(default_factory=list)
    pending: int = 0  # certificates that the cloud deletes after an hour
    reached: bool = True  # the crash has happened

    def wrong(self):
        return self.lost + self.second + self.other


class Scene(harness.TestCase):
    """One gateway at a time. As a context manager it stops all that it has started. replacement: it has an identity
    already, but one whose key belonged to another TPM."""

    cloud_options = ()
    front = False  # a way into the cloud for certificates of authorities that it does not know

    def __init__(self, replacement=False):
        super().__init__()
        self.replacement = replacement
        self.count = 0

    def make_cloud(self):
        return Cloud(self, "--connect-rate=off", "--history=on", *self.cloud_options, front=self.front)

    def prepare_ways(self):
        """What the device, its maker and the cloud have agreed on before it is switched on."""

    def __enter__(self):
        self.setUp()
        self.cloud = self.make_cloud()
        self.tpm = Tpm(self)
        self.gateway = Gateway(self, self.cloud, self.tpm)
        self.persistent = self.tpm.handles("persistent")
        self.predecessor = self.directory / "predecessor"  # the state directory with the identity that is lost
        self.gateway.configure("Retry", Internal=WAIT, Network=WAIT, TPM=WAIT)
        # LeakSanitizer cannot work below strace(1), which is a tracer, too.
        sanitizer = os.environ.get("ASAN_OPTIONS", "")
        self.gateway.extra_environment["ASAN_OPTIONS"] = f"{sanitizer}:detect_leaks=0"
        self.prepare_ways()
        if self.replacement:
            self.make_predecessor()
        return self

    def __exit__(self, kind, error, trace):
        if not self.doCleanups() and kind is None:
            raise AssertionError("something has not ended as it should")

    @contextlib.contextmanager
    def new_device(self):
        """A device with a serial number that the cloud has not seen. Nothing of it runs at the end."""
        self.count += 1
        serial = f"GW-{self.count:04}"
        self.thing = self.cloud.thing_name(serial)
        self.gateway.configure("Agent", SerialNumber=f"literal:{serial}")
        self.known = set(self.cloud.registry()["certificates"])
        self.make_state()
        try:
            yield
        finally:
            self.end_everything()
            self.clear_device()

    def make_state(self):
        self.gateway.state.mkdir(mode=0o711)
        if self.predecessor.exists():
            shutil.copytree(self.predecessor, self.gateway.state, symlinks=True, dirs_exist_ok=True)

    def make_predecessor(self):
        with self.new_device():
            self.gateway.start()
            self.gateway.wait_provisioned()
            self.wait_workers_ended()
            self.gateway.stop()
            shutil.copytree(self.gateway.state, self.predecessor, symlinks=True)
        self.tpm.tool("tpm2_clear")  # as if the board had been replaced

    def clear_device(self):
        for directory in (self.gateway.state, self.gateway.runtime):
            shutil.rmtree(directory, ignore_errors=True)
        self.gateway.runtime.mkdir()

    def end_everything(self):
        """Power off, as far as processes and the TPM's resource manager see it."""
        self.gateway.kill()
        self.reap_orphans()
        self.tpm.flush()

    def go_back(self, microseconds):
        """Whoever is not on the device knows what he knew then, microseconds since the epoch."""

    def refusals(self):
        """What somebody who has asked the device for something was told of failures inside it."""
        return []

    def is_beside(self, error):
        """Whether this LastError would be there without any crash: the identity is lost."""
        return self.replacement and error[:2] == ["tpm", "key"]

    def settled(self):
        """All is done that there is to do, as far as signals tell."""
        return self.gateway.signalled("State")[-1:] == ["provisioned"]

    def wait_settled(self):
        harness.wait_for(lambda: f"provisioned, and nothing left to do\n{self.gateway.describe()}", self.settled)
        self.wait_workers_ended()

    def wait_workers_ended(self):
        harness.wait_for("all workers have ended", lambda: not self.gateway.workers())

    # What must hold.

    def certificates(self):
        """The status of each certificate that the cloud has issued to this device."""
        certificates = self.cloud.registry()["certificates"]
        return {key: value["status"] for key, value in certificates.items() if key not in self.known}

    def look_at_current(self):
        """None if there is no identity of this device, "" if there is a whole one, otherwise what is wrong with it."""
        current = self.gateway.state / "current"
        if not current.is_symlink():
            return "is not a link" if current.exists() or self.replacement else None
        if self.replacement and os.readlink(current) == PREDECESSOR:
            return None
        names = sorted(path.name for path in current.iterdir()) if current.is_dir() else []
        if names != sorted(FILES):
            return f"has the files {names}"
        modes = [stat.S_IMODE((current / name).stat().st_mode) for name in FILES]
        if stat.S_IMODE(current.stat().st_mode) != 0o750 or set(modes) != {0o640}:
            return f"has the modes {[oct(mode) for mode in modes]} in {oct(current.stat().st_mode)}"
        status, text = self.gateway.check(current)
        return "" if status == 0 else f"is refused by the check: {text}"

    def judge_crash(self, verdict, announced):
        """Right after the crash. Returns the identity that must survive, or None."""
        problem = self.look_at_current()
        if problem:
            verdict.lost.append(f"after the crash `current` {problem}")
        if problem is None and announced:
            verdict.lost.append("an identity that was announced is not there after the crash")
        return self.gateway.identity() if problem == "" else None

    def recover(self, verdict, before):
        """Starts the daemon on what is there and judges where it ends; before: the identity that must survive."""
        try:
            self.gateway.start()
            self.wait_settled()
        except AssertionError as error:
            verdict.lost.append(f"does not end provisioned: {error}")
            return
        self.judge_end(verdict, before)

    def judge_end(self, verdict, before=None):
        """Provisioned, with no worker left."""
        problem = self.look_at_current()
        if problem != "":
            verdict.lost.append(f"at the end `current` {problem or 'is absent'}")
            return
        identity = self.gateway.identity()
        if before is not None and identity != before:
            verdict.lost.append("the identity that was there is not the one in use")
        self.judge_cloud(verdict, identity["certificateId"])
        self.judge_leftovers(verdict)

    def judge_cloud(self, verdict, used):
        certificates = self.certificates()
        active = [key for key, status in certificates.items() if status == "ACTIVE"]
        if certificates.get(used) != "ACTIVE":
            verdict.lost.append(f"the certificate in use is {certificates.get(used)} in the cloud")
        if len(active) > 1:
            verdict.second.append(f"{len(active)} certificates are ACTIVE")
        verdict.pending = sum(status == "PENDING_ACTIVATION" for status in certificates.values())
        if verdict.pending > 1:
            verdict.other.append(f"{verdict.pending} certificates are PENDING_ACTIVATION")
        things = sorted(name for name, attached in self.cloud.things().items() if used in attached)
        if things != [self.thing]:
            verdict.other.append(f"the certificate is attached to {things}")

    def judge_leftovers(self, verdict):
        state = self.gateway.state
        generations = {os.readlink(state / "current"), *([PREDECESSOR] if self.replacement else [])}
        expected = {"current", "generations", *generations}
        expected |= {f"{generation}/{name}" for generation in generations for name in FILES}
        # The file that the clock is judged by is not durable: each check writes it again.
        found = {str(path.relative_to(state)) for path in state.rglob("*")} - {"clock"}
        if found != expected:
            verdict.other.append(f"the state directory has {sorted(found)}")
        if (error := self.gateway.property("LastError")) != ["", "", "", 0]:
            verdict.other.append(f"LastError is {error}")
        for kind in ("transient", "loaded-session"):
            if handles := self.tpm.handles(kind):
                verdict.other.append(f"the TPM has {kind} handles: {handles}")
        if (handles := self.tpm.handles("persistent")) != self.persistent:
            verdict.other.append(f"the TPM has persistent handles: {handles}")


# Many states, in lanes that run beside each other. Each lane has a scene and a recording of its own, and tries its
# share.


def run_lane(lane, number, answers):
    """In a process of its own."""
    harness.end_with_parent()
    try:
        for verdict in lane(number):
            answers.send(verdict)
    except Exception:
        answers.send(traceback.format_exc())
    finally:
        answers.close()


def run_lanes(lane):
    """All verdicts that lane(number), a generator, yields for the numbers below LANES; shows at once what is wrong."""
    running = {}
    for number in range(LANES):
        reader, writer = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=run_lane, args=(lane, number, writer))
        process.start()
        writer.close()
        running[reader] = process
    verdicts = []
    while running:
        for reader in multiprocessing.connection.wait(list(running)):
            try:
                answer = reader.recv()
            except EOFError:
                running.pop(reader).join()
                continue
            if isinstance(answer, str):
                raise AssertionError(f"a lane broke off: {answer}")
            comment_wrong(answer)
            verdicts.append(answer)
    return verdicts


def comment_wrong(verdict):
    for text in verdict.wrong():
        harness.comment(f"{verdict.name}: {text}")


def arguments(what):
    """The parser of the options that all parts have."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, metavar="N", help=f"only each N-th {what}")
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--replacement", action="store_true", help="of a device that has lost its identity")
    device.add_argument("--renewal", action="store_true", help="of one whose identity is renewed, and the old one retired")
    parser.set_defaults(way=None)
    return parser


def summary(part, verdicts, options):
    """One line for people and for docs; the second value is whether all is well."""
    part += f", imported, {options.way}" if options.way else ""
    part += " while an identity is replaced" if options.replacement else ""
    part += " while an identity is renewed" if options.renewal else ""
    tried = [verdict for verdict in verdicts if verdict.reached]
    lost = sum(bool(verdict.lost) for verdict in tried)
    second = sum(bool(verdict.second) for verdict in tried)
    other = sum(bool(verdict.other) for verdict in verdicts)
    pending = sum(verdict.pending > 0 for verdict in tried)
    line = (
        f"{part}: states tried {len(tried)}, lost {lost}, second certificates {second}, other faults {other} "
        f"(one PENDING_ACTIVATION left in {pending}; points not reached {len(verdicts) - len(tried)})"
    )
    return line, bool(tried) and lost == second == other == 0
