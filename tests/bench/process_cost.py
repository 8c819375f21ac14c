"""What a process costs while it does nothing, as the kernel counts it (proc(5))."""

import os
import pathlib
import re
import shutil
import subprocess
import time


def write_back(program):
    """A program that was just linked is not on the disk yet, and until then its pages count as dirty memory."""
    with open(program, "rb") as file:
        os.fsync(file.fileno())


def copy_libraries(program, directory):
    """PSS shares a page out among all who have it mapped, so it would depend on what else runs on this machine: whose
    libraries are copies counts alone what of them it uses. All but the C library, which every process has."""
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    directory.mkdir(exist_ok=True)
    for path in re.findall(r" => (/\S+)", text):
        if not path.endswith("/libc.so.6"):
            write_back(shutil.copy(path, directory))


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
