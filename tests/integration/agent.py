"""A stand-in for enrolld on the bus, for tests of enrollctl."""

import os

import harness

IDENTIFIER = "0123456789abcdef" * 4


class Agent:
    """The other side of the bus, told what to answer and asked what it got: tests/integration/fake-agent.c."""

    def __init__(self, test, bus):
        self.directory = test.directory / "agent"
        self.directory.mkdir()
        self.answer(detail=IDENTIFIER)
        log = test.directory / "agent.log"
        test.show_on_failure("fake-agent", log)
        environment = {"PATH": os.environ["PATH"], "DBUS_SYSTEM_BUS_ADDRESS": bus.address}
        program = harness.built("tests/integration/fake-agent")
        self.process = harness.Process("fake-agent", [program, self.directory], log, environment)
        test.addCleanup(self.process.stop)
        harness.wait_for(lambda: f"fake-agent is ready: {log.read_text()}", lambda: "ready" in log.read_text())

    def answer(self, **texts):
        for name, text in texts.items():
            (self.directory / name).write_text(text)

    def got(self, name):
        """What it was given of that name, None if nothing."""
        path = self.directory / name
        return path.read_text() if path.exists() else None

    def forget(self):
        for name in ("calls", "chain", "key"):
            (self.directory / name).unlink(missing_ok=True)

    def calls(self):
        return (self.got("calls") or "").split()
