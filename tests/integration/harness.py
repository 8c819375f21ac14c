"""What every end-to-end test needs: deadlines, processes that are always reaped, a test case with its own directory
that shows all logs when it fails, and a main() that prints TAP.

The parts under test and around them are in parts.py (bus, TPM, cloud) and gateway.py (enrolld itself).
"""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

BUILD_DIR = pathlib.Path(os.environ.get("BUILD_DIR", ".")).resolve()
SOURCE_DIR = pathlib.Path(os.environ.get("SOURCE_DIR", ".")).resolve()

# Seconds until something that normally takes milliseconds counts as not happening. Long, as machines are busy and
# sanitizers slow; a test that passes never waits for it.
DEADLINE = 30
POLL = 0.02

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
libc = ctypes.CDLL(None, use_errno=True)


def wait_for(what, condition, seconds=DEADLINE):
    """Returns the first true value of condition(); fails with what() or what if there is none in time."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(POLL)


def built(name):
    """The path of a program or module that the build made."""
    for path in (BUILD_DIR / name, *sorted(BUILD_DIR.glob(f"**/.libs/{name}"))):
        if path.is_file():
            return path
    raise AssertionError(f"{name} is not in {BUILD_DIR}: build it first, or set BUILD_DIR")


def can_trace():
    """Whether strace(1) is there and may be used: a container may forbid it."""
    words = ["strace", "-o", "/dev/null", "true"]
    return shutil.which("strace") is not None and subprocess.run(words, capture_output=True).returncode == 0


def children(pid):
    """The processes that pid has forked and that still run."""
    try:
        found = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in found]


def end_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has it ignored in what it runs in the background


class Process:
    """A process in the background; its output goes to a log file."""

    running_pids = set()  # and those that ended but were not waited for

    def __init__(self, name, argv, log, environment=None, **options):
        self.name = name
        self.log = pathlib.Path(log)
        with self.log.open("ab") as output:
            options.setdefault("stdin", subprocess.DEVNULL)
            options.setdefault("stdout", output)
            options.setdefault("stderr", output)
            self.popen = subprocess.Popen(
                [str(word) for word in argv], env=environment, preexec_fn=end_with_parent, **options
            )
        self.pid = self.popen.pid
        self.running_pids.add(self.pid)

    def running(self):
        return self.popen.poll() is None

    def wait(self, seconds=DEADLINE):
        """Its exit status (negative: the signal)."""
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended within {seconds} s") from None
        self.running_pids.discard(self.pid)
        return status

    def stop(self, number=signal.SIGTERM):
        """Ends and reaps it; returns its exit status."""
        self.send_signal(number)
        try:
            return self.wait()
        except AssertionError:
            self.send_signal(signal.SIGKILL)
            self.wait()
            raise

    def send_signal(self, number):
        """Sends a signal, if it still runs."""
        self.popen.send_signal(number)


class TestCase(unittest.TestCase):
    """A test with a directory of its own. What it starts is stopped in reverse order."""

    def setUp(self):
        # Programs that the daemon leaves behind become children of this process, so that none gets lost.
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="enrolld-test-"))
        self.logs = []
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.addCleanup(self.reap_orphans)

    def show_on_failure(self, name, path):
        """Prints that file when the test fails."""
        self.logs.append((name, pathlib.Path(path)))

    def reap_orphans(self):
        """Waits for the programs that a killed daemon left: a worker ends by itself when its daemon is gone."""

        def none_left():
            for pid in orphans():
                os.waitpid(pid, os.WNOHANG)
            return not orphans()

        wait_for(lambda: f"left behind: {[command_line(pid) for pid in orphans()]}", none_left)


def orphans():
    """Children of this process that it has not started: of a process that was killed."""
    return [pid for pid in children(os.getpid()) if pid not in Process.running_pids]


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return f"{pid}, gone"


class TapResult(unittest.TestResult):
    """Prints each test as a line of TAP, and what a failed one saw as comments."""

    def __init__(self):
        super().__init__()
        self.number = 0
        self.bad = {}

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.bad.setdefault(test.id(), f"ok {{}} - {{}} # SKIP {reason}")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.report(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self.report(test, error)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            comment(f"in {subtest._subDescription()}")
            self.report(test, error)

    def report(self, test, error):
        self.bad[test.id()] = "not ok {} - {}"
        comment("".join(traceback.format_exception(*error)))
        for name, path in getattr(test, "logs", []):
            if path.is_file():
                comment(f"---- {name}:\n" + path.read_text(errors="replace")[-20000:])

    def stopTest(self, test):
        super().stopTest(test)
        self.number += 1
        name = test.id().removeprefix("__main__.")
        print(self.bad.get(test.id(), "ok {} - {}").format(self.number, name), flush=True)


def comment(text):
    for line in text.splitlines():
        print(f"#   {line}", flush=True)


def main():
    """Runs the tests of the calling file; with arguments only those whose name contains one of them."""
    every = unittest.defaultTestLoader.loadTestsFromName("__main__")
    tests = []

    def collect(suite):
        for test in suite:
            if isinstance(test, unittest.TestSuite):
                collect(test)
            elif len(sys.argv) < 2 or any(word in test.id() for word in sys.argv[1:]):
                tests.append(test)

    collect(every)
    print(f"1..{len(tests)}", flush=True)
    result = TapResult()
    unittest.TestSuite(tests).run(result)
    sys.exit(0 if result.wasSuccessful() and tests else 1)
