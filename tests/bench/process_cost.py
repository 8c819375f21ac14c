"""What a process costs while it does nothing, as the kernel counts it (proc(5))."""

import os
import pathlib
import re
import time


def write_back(program):
    """A program that was just linked is not on the disk yet, and until then its pages count as dirty memory."""
    with open(program, "rb") as file:
        os.fsync(file.fileno())


def memory(pid):
    """The fields of smaps_rollup in KiB, such as Pss and Private_Dirty."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}


def sleeps(pid):
    """How often its threads have gone to sleep so far."""
    text = "".join(path.read_text() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(int(count) for count in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.MULTILINE))


def wakeups(pid, seconds):
    """How often it wakes in that time: who wakes goes to sleep again."""
    before = sleeps(pid)
    time.sleep(seconds)
    return sleeps(pid) - before
