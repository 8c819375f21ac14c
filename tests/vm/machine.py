"""A virtual machine: qemu without acceleration, a TPM behind the kernel's own driver, and a shell in it that runs what
the host sends."""

import base64
import os
import pathlib
import signal
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))

import image
from harness import Process, wait_for
from parts import Tpm

BOOT_DEADLINE = 180  # without acceleration, on a busy machine
COMMAND_DEADLINE = 90
COMMAND_LINE = (
    "root=LABEL=root rw console=ttyS0 quiet loglevel=4 panic=-1 systemd.show_status=no net.ifnames=0 "
    "mitigations=off cryptomgr.notests"
)
# What Debian needs and no more: what wider instructions cost without acceleration is a quarter of the boot.
PROCESSOR = "qemu64,+rdrand,+ssse3,+sse4.1,+sse4.2,+popcnt"


class Failed(AssertionError):
    """A command in the machine that failed."""

    def __init__(self, command, status, output):
        super().__init__(f"`{command}` ends with {status}: {output}")
        self.status = status
        self.output = output


class Shell:
    """The machine's end is guest/usr/local/lib/machine/shell."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        wait_for("qemu listens", lambda: self.connect(path))
        self.buffer = b""

    def connect(self, path):
        try:
            self.socket.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):  # before bind(2), before listen(2)
            return False
        return True

    def close(self):
        self.socket.close()

    def read_line(self, seconds, what):
        end = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f"not within {seconds} s: {what}") from None
            if not data:
                raise AssertionError(f"the machine has ended before: {what}")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def send(self, command, seconds=COMMAND_DEADLINE):
        self.socket.settimeout(seconds)
        self.socket.sendall(base64.b64encode(command.encode()) + b"\n")

    def read_answer(self, command, seconds):
        """Its exit status and its output, both streams in one."""
        status, _, output = self.read_line(seconds, f"`{command}` in the machine").partition(" ")
        return int(status), base64.b64decode(output).decode(errors="replace")

    def run(self, command, seconds):
        self.send(command, seconds)
        return self.read_answer(command, seconds)


class SystemTpm(Tpm):
    """The TPM on the machine's board: between two boots it can be asked directly, as parts.Tpm."""

    def __init__(self, directory):
        self.directory = directory / "tpm"
        (self.directory / "state").mkdir(parents=True)
        self.socket = self.directory / "socket"
        self.control = self.directory / "socket.ctrl"
        self.tcti = f"swtpm:path={self.socket}"
        self.process = None

    def power_on(self):
        """For qemu, which hands swtpm a socket of its own for the commands and initialises it."""
        self.process = Process(
            "swtpm",
            ["swtpm", "socket", "--tpm2", "--ctrl", f"type=unixio,path={self.control}", "--terminate"]
            + ["--tpmstate", f"dir={self.directory / 'state'}"],
            self.directory / "log",
        )
        wait_for("swtpm listens", self.control.exists)

    def clear(self):
        """As the firmware's menu does: new storage seed, same endorsement key."""
        self.start()
        self.tool("tpm2_clear", "-c", "platform")
        self.tool("tpm2_shutdown", "-c")
        self.stop()


class Machine:
    """One gateway: disks, TPM, and whether it runs. files: what its maker puts beside the image, see put_files()."""

    def __init__(self, directory, golden, files, options=(), command_line=""):
        self.directory = directory
        self.golden = golden
        self.options = list(options)
        self.command_line = command_line
        self.boots = 0
        self.process = self.shell = None
        directory.mkdir()
        self.root = directory / "root.img"
        self.state = directory / "state.img"
        self.scene = directory / "scene.img"  # the cloud, and what a test brings along
        self.console = directory / "console"
        self.tpm = SystemTpm(directory)
        self.state_log = None
        image.command("cp", "--sparse=always", golden.root, self.root)  # most of it is empty
        image.put_files(self.root, files)
        image.make_file_system(self.state, "32M", "state")

    # Power.

    def boot(self, more="", wait=True):
        """more: for the kernel's command line. Returns when the shell answers and, if wait, all jobs of the boot are
        done; then how systemd sees itself: running, degraded."""
        self.boots += 1
        self.tpm.power_on()
        path = self.directory / "shell"
        path.unlink(missing_ok=True)
        self.process = Process("qemu", self.words(path, more), self.directory / "qemu.log")
        self.shell = Shell(path)
        self.shell.read_line(BOOT_DEADLINE, f"a shell in the machine, boot {self.boots}")
        return self.wait_booted() if wait else None

    def words(self, shell, more):
        return [
            *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", PROCESSOR, "-smp", "2", "-m", "512"),
            *("-nodefaults", "-display", "none", "-no-reboot", "-nic", "none"),
            *("-kernel", self.golden.kernel, "-initrd", self.golden.initrd),
            *("-append", f"{COMMAND_LINE} {self.command_line} {more}"),
            *("-drive", f"file={self.root},format=raw,if=virtio,cache=unsafe"),
            *self.state_drive(),
            *("-drive", f"file={self.scene},format=raw,if=virtio,cache=writeback"),
            *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=shell,path={shell},server=on,wait=off"),
            *("-device", "virtserialport,chardev=shell,name=machine.shell"),
            *("-qmp", f"unix:{self.directory / 'monitor'},server=on,wait=off"),
            *("-chardev", f"socket,id=tpm,path={self.tpm.control}", "-tpmdev", "emulator,id=tpm,chardev=tpm"),
            *("-device", "tpm-tis,tpmdev=tpm", "-object", "rng-random,id=random,filename=/dev/urandom"),
            *("-device", "virtio-rng-pci,rng=random"),
            *self.options,
        ]

    def log_state(self):
        """From the next boot on all that is written to the state disk is recorded: see block_log.py."""
        self.state_log = self.directory / "state.log"
        self.state_log.write_bytes(b"")

    def state_drive(self):
        if self.state_log is None:
            return ["-drive", f"file={self.state},format=raw,if=virtio,cache=writeback"]
        files = f"file.driver=file,file.filename={self.state},log.driver=file,log.filename={self.state_log}"
        # Without zeroing, which qemu before 8.2.1 logs wrongly beside other requests.
        device = "virtio-blk-pci,drive=state,write-cache=on,discard=off,write-zeroes=off"
        return ["-blockdev", f"driver=blklogwrites,node-name=state,{files}", "-device", device]

    def wait_booted(self):
        status, text = self.shell.run("systemctl is-system-running --wait", BOOT_DEADLINE)
        del status  # not zero when degraded
        return text.strip()

    def processor_seconds(self):
        """That qemu has used since power on: what it takes does not depend on what else runs on the host."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc(5)

    def power_off(self):
        """As an operator does it."""
        self.shell.send("systemctl --no-block poweroff")
        self.process.wait(COMMAND_DEADLINE)
        self.power_is_off()

    def cut(self):
        """The power cut: what the machine has not written is gone."""
        self.process.stop(signal.SIGKILL)
        self.power_is_off()

    def power_is_off(self):
        if self.shell is not None:
            self.shell.close()
        self.tpm.stop()
        self.process = self.shell = None

    def end(self):
        if self.process is not None:
            self.cut()

    # Inside.

    def run(self, command, seconds=COMMAND_DEADLINE):
        """Its output; fails if it does."""
        status, output = self.shell.run(command, seconds)
        if status != 0:
            raise Failed(command, status, output)
        return output

    def succeeds(self, command):
        return self.shell.run(command, COMMAND_DEADLINE)[0] == 0

    def wait(self, command, seconds=COMMAND_DEADLINE):
        """Until the command succeeds."""
        last = []

        def done():
            last[:] = self.shell.run(command, COMMAND_DEADLINE)
            return last[0] == 0

        wait_for(lambda: f"`{command}`, last {last}", done, seconds)
        return last[1]

    def describe(self):
        """What a person would look at first, after a failure."""
        parts = {"console": self.console.read_text(errors="replace")[-8000:] if self.console.exists() else ""}
        parts["qemu"] = (self.directory / "qemu.log").read_text() if (self.directory / "qemu.log").exists() else ""
        if self.process is not None and self.process.running() and self.shell is not None:
            for command in (
                "systemctl list-units --failed --no-legend",
                "systemctl list-jobs --no-legend",
                "journalctl -b -o short-monotonic --no-hostname | tail -n 150",
            ):
                try:
                    parts[command] = self.shell.run(command, 30)[1]
                except (AssertionError, OSError, ValueError) as error:
                    parts[command] = str(error)
        return "\n".join(f"---- {name}:\n{text}" for name, text in parts.items())
