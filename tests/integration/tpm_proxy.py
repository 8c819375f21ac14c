"""A proxy between the agent and a software TPM that lists and times the commands, and makes the TPM slow, busy or
gone. It listens where the TCTI `swtpm:path=PATH` of tpm2-tss connects to: commands on PATH, the simulator's control
channel on PATH.ctrl."""

import collections
import dataclasses
import socket
import socketserver
import struct
import threading
import time

from harness import DEADLINE

# TPM 2.0 Library, part 2, "TPM_CC": what an agent of this kind may use. Others are shown as numbers.
COMMANDS = {
    0x131: "CreatePrimary",
    0x153: "Create",
    0x156: "Import",
    0x157: "Load",
    0x15D: "Sign",
    0x165: "FlushContext",
    0x167: "LoadExternal",
    0x173: "ReadPublic",
    0x176: "StartAuthSession",
    0x17A: "GetCapability",
    0x17B: "GetRandom",
    0x191: "CreateLoaded",
}

# Response codes (part 2, "TPM_RC") by which a TPM wants a command again.
YIELDED, TESTING, NV_RATE, RETRY = 0x908, 0x90A, 0x920, 0x922
OBJECT_MEMORY = 0x902

# Tag, size of the whole, command or response code: the header of every command and response (part 1, 18).
HEADER = struct.Struct(">HII")
TAG_NO_SESSIONS = 0x8001


def command_name(code):
    return COMMANDS.get(code, f"{code:#x}")


@dataclasses.dataclass
class Command:
    code: int
    response: int
    seconds: float

    def __str__(self):
        name = command_name(self.code)
        return name if self.response == 0 else f"{name} ({self.response:#x})"


@dataclasses.dataclass
class Fault:
    seconds: float = 0  # how much later the command reaches the TPM
    answer: int = 0  # does not reach it, has this response code
    gone: bool = False  # the TPM is gone from then on
    times: float = 1
    after: int = 0  # commands of that name that are left alone before


def receive(stream):
    """One command or response; b"" at the end."""
    header = stream.recv(HEADER.size, socket.MSG_WAITALL)
    if len(header) < HEADER.size:
        return b""
    _, size, _ = HEADER.unpack(header)
    return header + stream.recv(size - HEADER.size, socket.MSG_WAITALL)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class TpmProxy:
    """For the TPM `tpm` (of parts.py). `tcti` is what the agent's configuration names."""

    def __init__(self, test, tpm):
        self.tpm = tpm
        self.commands = []
        self.arrived = threading.Condition()
        self.counted = collections.Counter()
        self.faults = {}
        self.gone = False
        self.ended = threading.Event()
        self.path = test.directory / "tpm-proxy"
        self.tcti = f"swtpm:path={self.path}"
        self.serve(test, self.path, self.relay_commands)
        self.serve(test, f"{self.path}.ctrl", self.relay_control)
        test.addCleanup(self.ended.set)

    def serve(self, test, path, relay):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    relay(self.request)
                except OSError:
                    pass  # the agent was killed, or the TPM

        server = Server(str(path), Handler)
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        test.addCleanup(server.server_close)
        test.addCleanup(server.shutdown)

    def take(self):
        """The commands since the last call."""
        taken, self.commands = self.commands, []
        return taken

    def fault(self, name, **fault):
        """What happens to the next commands of that name: see Fault."""
        self.faults[name] = Fault(**fault)

    def heal(self):
        """No more faults; what was gone is back."""
        self.faults = {}
        self.gone = False

    def wait_command(self, name, seconds=DEADLINE):
        """Until one of that name has arrived."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: self.counted[name], seconds):
                raise AssertionError(f"no command {name} within {seconds} s, but {dict(self.counted)}")

    def next_fault(self, name):
        """The fault for a command that has arrived, None for none."""
        with self.arrived:
            self.counted[name] += 1
            self.arrived.notify_all()
        fault = self.faults.get(name)
        if fault is None or fault.times <= 0:
            return None
        if fault.after > 0:
            fault.after -= 1
            return None
        fault.times -= 1
        return fault

    def respond(self, chip, command):
        """The response, b"" if there is none."""
        fault = self.next_fault(command_name(HEADER.unpack_from(command)[2]))
        if fault is not None:
            self.ended.wait(fault.seconds)
            self.gone = self.gone or fault.gone
            if fault.answer:
                return HEADER.pack(TAG_NO_SESSIONS, HEADER.size, fault.answer)
        if self.gone:
            return b""
        chip.sendall(command)
        return receive(chip)

    def relay_commands(self, agent):
        if self.gone:
            return
        with socket.socket(socket.AF_UNIX) as chip:
            chip.connect(str(self.tpm.socket))
            while command := receive(agent):
                start = time.monotonic()
                response = self.respond(chip, command)
                if not response:
                    return
                seconds = time.monotonic() - start
                self.commands.append(Command(HEADER.unpack_from(command)[2], HEADER.unpack_from(response)[2], seconds))
                agent.sendall(response)

    def relay_control(self, agent):
        """One short question, one short answer (swtpm_ioctls(3)); these never reach the TPM."""
        while not self.gone and (question := agent.recv(4096)):
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(self.tpm.control))
                control.sendall(question)
                agent.sendall(control.recv(4096))
