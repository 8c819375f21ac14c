"""Counts what a process and its children ask of the file system, by strace."""

import collections
import re
import shutil
import subprocess

# `?`: not every architecture has each of them.
TRACED = "?fsync,?fdatasync,?rename,?renameat,?renameat2"


def obstacle():
    """Why strace cannot be used here; None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, timeout=10)
    return None if done.returncode == 0 else f"strace: {done.stderr.strip()}"


def command(output):
    """What to put in front of a command line. SIGTERM ends strace and what it runs."""
    return ["strace", "--follow-forks", "--interruptible=waiting", f"--output={output}", f"--trace={TRACED}"]


def succeeded(output):
    """How many calls of each kind: rename, renameat and renameat2 are one."""
    calls = re.findall(r"^(?:\d+ +)?(f\w*sync|rename)\w*\(.* = 0$", output.read_text(), re.MULTILINE)
    return collections.Counter(calls)
