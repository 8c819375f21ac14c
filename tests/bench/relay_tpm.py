"""A relay between the agent and a software TPM that lists and times the commands. It listens where the TCTI
`swtpm:path=PATH` of tpm2-tss connects to: commands on PATH, the simulator's control channel on PATH.ctrl."""

import dataclasses
import socket
import socketserver
import struct
import threading
import time

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

# Tag, size of the whole, command or response code: the header of every command and response (part 1, 18).
HEADER = struct.Struct(">HII")


@dataclasses.dataclass
class Command:
    code: int
    response: int
    seconds: float

    def __str__(self):
        name = COMMANDS.get(self.code, f"{self.code:#x}")
        return name if self.response == 0 else f"{name} ({self.response:#x})"


def receive(stream):
    """One command or response; b"" at the end."""
    header = stream.recv(HEADER.size, socket.MSG_WAITALL)
    if len(header) < HEADER.size:
        return b""
    _, size, _ = HEADER.unpack(header)
    return header + stream.recv(size - HEADER.size, socket.MSG_WAITALL)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class TpmRelay:
    """For the TPM `tpm` (of parts.py). `tcti` is what the agent's configuration names."""

    def __init__(self, scene, tpm):
        self.tpm = tpm
        self.commands = []
        self.path = scene.directory / "tpm-relay"
        self.tcti = f"swtpm:path={self.path}"
        self.serve(scene, self.path, self.relay_commands)
        self.serve(scene, f"{self.path}.ctrl", self.relay_control)

    def serve(self, scene, path, relay):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                relay(self.request)

        server = Server(str(path), Handler)
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        scene.addCleanup(server.server_close)
        scene.addCleanup(server.shutdown)

    def take(self):
        """The commands since the last call."""
        taken, self.commands = self.commands, []
        return taken

    def relay_commands(self, agent):
        with socket.socket(socket.AF_UNIX) as chip:
            chip.connect(str(self.tpm.socket))
            while command := receive(agent):
                start = time.monotonic()
                chip.sendall(command)
                response = receive(chip)
                seconds = time.monotonic() - start
                self.commands.append(Command(HEADER.unpack_from(command)[2], HEADER.unpack_from(response)[2], seconds))
                agent.sendall(response)

    def relay_control(self, agent):
        """One short question, one short answer (swtpm_ioctls(3)); these never reach the TPM."""
        while question := agent.recv(4096):
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(self.tpm.control))
                control.sendall(question)
                agent.sendall(control.recv(4096))
