"""The worker's other end of the channel (agent/common/channel.h) without a daemon: a test says what is in a job, and when
the power fails."""

import array
import json
import os
import socket
import subprocess

from harness import DEADLINE, built

FD = 3
FILES = {"certificate.pem": "certificate", "private.pem": "private-key", "root-ca.pem": "root-ca",
         "identity.json": "identity"}  # fmt: skip


def serialize(gateway):
    """The configuration as the daemon hands it over."""
    lines, section = [], None
    for number, line in enumerate(gateway.configuration.read_text().splitlines(), 1):
        if line.startswith("["):
            section = line[1:-1]
        else:
            key, _, value = line.partition("=")
            lines.append(f"{gateway.configuration}\t{number}\t{section}\t{key}\t{value}\n")
    return "".join(lines)


def memory_file(name, content):
    """A sealed memfd, as both ends send them."""
    import fcntl

    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0xF)
    return fd


class Result:
    """What a job has ended with: fields like RESULT, files by their role. Both empty: without a word."""

    def __init__(self):
        self.fields, self.files = {}, {}
        self.steps, self.notes, self.told = [], [], []

    @property
    def done(self):
        return self.fields.get("RESULT") == "done"

    def __str__(self):
        return f"{self.fields} after {self.steps}, {self.notes}"


class Worker:
    """Runs jobs for one gateway. keep: called with the text of each checkpoint before the worker goes on; what it returns
    false for is a power cut at that moment."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.generation = 0

    def job(self, verb, files=None, keep=None, **fields):
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.settimeout(2 * DEADLINE)
        with here, open(self.gateway.log, "ab") as log:
            with there:
                process = subprocess.Popen(
                    [built("enrolld-worker")],
                    env=self.gateway.environment(),
                    stderr=log,
                    pass_fds=[FD],
                    preexec_fn=lambda: os.dup2(there.fileno(), FD, inheritable=True),
                )
            try:
                self.send_job(here, verb, files or {}, fields)
                result = self.converse(here, keep)
            finally:
                process.kill()
                process.wait()
        return result

    def send_job(self, channel, verb, files, fields):
        self.generation += 1
        fields = {"VERB": verb, "GENERATION": self.generation, "SYNCHRONISED": "yes"} | fields
        files = {"configuration": serialize(self.gateway)} | files
        descriptors = [memory_file(role, text) for role, text in files.items()]
        lines = ["VERSION=1", "TYPE=job", f"FILES={' '.join(files)}"]
        lines += [f"{key}={value}" for key, value in fields.items()]
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        channel.sendmsg([("\n".join(lines) + "\n").encode()], [rights])
        for fd in descriptors:
            os.close(fd)

    @staticmethod
    def receive(channel):
        """Fields and files of a message; None at the end."""
        text, descriptors, _, _ = socket.recv_fds(channel, 8192, 16)
        if not text:
            return None
        fields = dict(line.split("=", 1) for line in text.decode().splitlines())
        contents = []
        for fd in descriptors:
            with open(fd) as file:
                file.seek(0)
                contents.append(file.read())
        return fields, dict(zip(fields.get("FILES", "").split(), contents))

    def converse(self, channel, keep):
        result = Result()
        while (message := self.receive(channel)) is not None:
            fields, files = message
            if fields["TYPE"] == "progress":
                if "OLD" in fields:
                    result.told.append(fields["OLD"])
                elif "NOTE" in fields or "MESSAGE" in fields:
                    result.notes.append(fields.get("NOTE") or fields["MESSAGE"])
                elif fields["STEP"] not in result.steps[-1:]:
                    result.steps.append(fields["STEP"])
            elif fields["TYPE"] == "checkpoint":
                if keep is not None and not keep(files["checkpoint"]):
                    return result
                channel.send(b"VERSION=1\nTYPE=continue\n")
            else:
                result.fields, result.files = fields, files
        return result


def files_of(result):
    """The identity that a job has made, as the next job gets it."""
    return {role: result.files[role] for role in FILES.values()}


def identity_of(result):
    return json.loads(result.files["identity"])
