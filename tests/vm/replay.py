"""Every state that a power cut could have left on the disk with the state directory, and what must hold in each. Nothing
is mounted: the file system is recovered by e2fsck, as at boot, and read by debugfs.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import pathlib
import re
import stat
import subprocess
import tempfile
import time

import block_log
import image
from block_log import Disk, Log

LANES = 2
SEED = 20261122
HALVES = 12
FILES = ("certificate.pem", "private.pem", "root-ca.pem", "identity.json")
FIRST = 1
GENERATION = re.compile(r"generations/([1-9][0-9]*)")
KEPT = re.compile(r"retry|retry-renewal\.[1-9][0-9]*|retire|checkpoint-[a-z-]+|renewal-[a-z-]+\.[1-9][0-9]*")
# Work in progress: recovery removes it, whatever it is.
UNFINISHED = re.compile(r"incoming|.*\.new")
E2FSCK_SAFE = (0, 1)  # nothing to mend but what a crash always leaves


@dataclasses.dataclass
class Outcome:
    """faults: {name of the state: what is wrong}. identities: the contents of FILES, of all that was in use."""

    flushes: int = 0
    states: int = 0
    faults: dict = dataclasses.field(default_factory=dict)
    identities: set = dataclasses.field(default_factory=set)
    whole: int = 0  # with an identity that is in use
    without: int = 0
    seconds: float = 0

    def add(self, other):
        self.states += other.states
        self.faults |= other.faults
        self.identities |= other.identities
        self.whole += other.whole
        self.without += other.without

    def __str__(self):
        return (
            f"{self.flushes} flushes, {self.states} states ({self.whole} with an identity, {self.without} without), "
            f"broken: {len(self.faults)}, {self.seconds:.0f} s, seed {SEED}"
        )


@dataclasses.dataclass
class Promise:
    """generation: that somebody was told of, or 0: it is in use, or one that came later. pending: the certificate that the
    cloud must still be told of where a later one is in use."""

    generation: int = 0
    pending: str = ""


@dataclasses.dataclass
class Recording:
    """One boot. begin: the disk before it. announced: for each identity, by its generation, the requests up to the last flush
    before somebody was told of it. replaced: of a renewal, the certificate of the first; until request number `kept` the
    cloud has taken it for one in use."""

    begin: bytes
    log: pathlib.Path
    announced: dict
    replaced: str = ""
    kept: int = 0

    def promise(self, end):
        """What must hold on a disk that has all requests up to the last flush before number end (None: all there are)."""
        told = [generation for generation, requests in self.announced.items() if end is None or end > requests]
        pending = self.replaced if end is not None and end <= self.kept else ""
        return Promise(max(told, default=0), pending)


# Of one state.


def read_tree(disk, directory):
    """Recovers the file system and takes it out. Returns what is wrong with it, or None."""
    done = subprocess.run(["e2fsck", "-f", "-p", disk], capture_output=True, text=True)
    if done.returncode not in E2FSCK_SAFE:
        return f"e2fsck ends with {done.returncode}: {done.stdout}{done.stderr}"
    image.command("debugfs", "-R", f"rdump / {directory}", disk)
    return None


@functools.lru_cache
def public_key(certificate):
    """The two coordinates of its key on P-256, or None."""
    done = subprocess.run(["openssl", "x509", "-noout", "-pubkey"], input=certificate, capture_output=True)
    if done.returncode != 0:
        return None
    key = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=done.stdout, capture_output=True).stdout
    return key[-64:-32], key[-32:]


@functools.lru_cache
def belongs(private, certificate):
    """Whether the public area in a TSS2 PRIVATE KEY is the certificate's key: its last members are TPM2B_ECC_PARAMETER."""
    done = subprocess.run(["openssl", "asn1parse", "-inform", "PEM", "-noout", "-out", "/dev/stdout"],
                          input=private, capture_output=True)  # fmt: skip
    unique = b"".join(len(number).to_bytes(2) + number for number in public_key(certificate))
    return done.returncode == 0 and unique in done.stdout


def judge_files(directory, number):
    """Whether an identity is whole. Yields what is wrong."""
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode != 0o750:
        yield f"the directory has the mode {mode:o}"
    names = {path.name for path in directory.iterdir()}
    if names != set(FILES):
        yield f"there are {sorted(names)}"
        return
    for name in FILES:
        status = (directory / name).lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0 or stat.S_IMODE(status.st_mode) != 0o640:
            yield f"{name} has {status.st_size} bytes and the mode {status.st_mode:o}"
            return
    certificate, private, root, identity = ((directory / name).read_bytes() for name in FILES)
    if public_key(certificate) is None or public_key(root) is None:
        yield "a certificate cannot be read"
    elif not belongs(private, certificate):
        yield "the key is not the certificate's"
    try:
        document = json.loads(identity)
    except ValueError as error:
        yield f"identity.json: {error}"
        return
    if document.get("generation") != number or not document.get("certificateId"):
        yield f"identity.json has {document}"


def judge_current(tree, promise):
    current = tree / "current"
    if not current.is_symlink():
        if current.exists():
            yield "`current` is not a link"
        elif promise.generation > 0:
            yield "the identity is not there, and was announced"
        return
    target = str(current.readlink())
    found = GENERATION.fullmatch(target)
    if not found or not (tree / target).is_dir():
        yield f"`current` leads to {target}, and there is none"
    elif int(found[1]) < promise.generation:
        yield f"`current` leads to {target}, and generation {promise.generation} was announced"
    elif promise.pending and int(found[1]) > FIRST:
        retire = tree / "retire"
        if not retire.exists() or promise.pending not in retire.read_text().split():
            yield f"{target} is in use, and `retire` does not have what it has replaced"


def judge_kept(path):
    """What the next attempt reads."""
    text = path.read_text()
    if path.name == "retire":
        if not re.fullmatch(r"([0-9a-f]{64}\n)*", text):
            yield f"`retire` has {text!r}"
        return
    if path.name.startswith("retry"):
        if not re.fullmatch(r"(\w+=\S+\n){5}", text):
            yield f"`{path.name}` has {text!r}"
        return
    try:
        document = json.loads(text)
    except ValueError as error:
        yield f"{path.name}: {error}"
        return
    if not document.get("stage") or not document.get("privateKey"):
        yield f"{path.name} has {sorted(document)}"


def judge(tree, promise):
    """Yields what is wrong with a state directory."""
    yield from judge_current(tree, promise)
    generations = tree / "generations"
    for path in generations.iterdir() if generations.exists() else ():
        number = int(path.name) if path.name.isdecimal() else 0
        yield from (f"generation {path.name}: {fault}" for fault in judge_files(path, number))
    for path in tree.iterdir():
        if KEPT.fullmatch(path.name):
            yield from judge_kept(path)
        elif path.name == "lost+found":
            yield from (f"e2fsck has found {lost.name}" for lost in path.iterdir())
        elif path.name == "clock":
            if path.stat().st_size != 0:  # only its date means something
                yield f"`clock` has {path.stat().st_size} bytes"
        elif path.name not in ("current", "generations") and not UNFINISHED.fullmatch(path.name):
            yield f"there is {path.name}"


@contextlib.contextmanager
def recovered(data):
    """The tree on a disk after its recovery, and what is wrong with the file system."""
    with tempfile.TemporaryDirectory(prefix="enrolld-state-") as directory:
        disk, tree = pathlib.Path(directory) / "disk", pathlib.Path(directory) / "tree"
        disk.write_bytes(data)
        tree.mkdir()
        fault = read_tree(disk, tree)
        yield tree, fault


def is_kept(begin, log, generation=FIRST):
    """Whether the identity would be in use if the power went now."""
    log = Log(log)
    with recovered(Disk(begin, log).state(len(log.rounds), ())) as (tree, _):
        current = tree / "current"
        return current.is_symlink() and str(current.readlink()) == f"generations/{generation}"


# Of all.


def try_state(data, promise, name, outcome):
    outcome.states += 1
    with recovered(data) as (tree, fault):
        faults = [fault] if fault else list(judge(tree, promise))
        if faults:
            outcome.faults[name] = "; ".join(faults)
        elif (tree / "current").exists():
            outcome.whole += 1
            outcome.identities.add(tuple((tree / "current" / file).read_bytes() for file in FILES))
        else:
            outcome.without += 1


def lane(recording, number):
    """Every LANES-th state."""
    log = Log(recording.log)
    disk = Disk(recording.begin, log)
    outcome = Outcome()
    for position, (whole, chosen) in enumerate(log.cuts(SEED, HALVES)):
        if position % LANES != number:
            continue
        promise = recording.promise(log.ends[whole] if whole < len(log.ends) else None)
        missing = f"with blocks {list(chosen)} of {len(log.rounds[whole])} that were pending" if chosen else "with none"
        try_state(disk.state(whole, chosen), promise, f"after flush {whole} {missing}", outcome)
    return outcome


def replay(recording):
    """Tries all states."""
    begin = time.monotonic()
    total = Outcome(block_log.count_flushes(recording.log))
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(LANES, context) as pool:
        for outcome in pool.map(functools.partial(lane, recording), range(LANES)):
            total.add(outcome)
    total.seconds = time.monotonic() - begin
    return total
