"""Reads what strace(1) has seen a daemon do to its state directory."""

import dataclasses
import pathlib
import re

# Calls that change something there, and the one by which the daemon tells systemd that an identity is in use.
# "?": not every architecture has all of them.
CALLS = (
    "?openat,?open,?creat,?write,?writev,?pwrite64,?pwritev,?pwritev2,?ftruncate,?fallocate,?fsync,?fdatasync,?sync,"
    "?syncfs,?sync_file_range,/^rename,/^unlink,?rmdir,/^link,/^symlink,/^mkdir,/^fchmod,?chmod,/^fchown,sendmsg"
)
# All strings in hexadecimal, paths of descriptors, time in microseconds since the epoch.
OPTIONS = ["-qq", "-ttt", "-y", "-xx", "-s", "70000", "-e", f"trace={CALLS}"]
ANNOUNCEMENT = b"STATUS=Provisioned"
HEX = r"((?:\\x[0-9a-f]{2})*)"


@dataclasses.dataclass
class Call:
    microseconds: int
    name: str
    paths: list  # relative to the state directory, as tuples
    data: bytes = b""
    mode: int = 0

    def __str__(self):
        return f"{self.name} {' '.join('/'.join(path) or '.' for path in self.paths)}"

    def apply(self, disk):
        """Does it to a disk of the model."""
        (path, *others) = self.paths or [None]
        match self.name:
            case "mkdir":
                disk.make_directory(path, self.mode)
            case "create":
                disk.make_file(path, self.mode)
            case "symlink":
                disk.make_link(path, self.data)
            case "write":
                disk.write(path, self.data)
            case "chmod":
                disk.set_mode(path, self.mode)
            case "rename":
                disk.rename(path, others[0])
            case "unlink":
                disk.remove(path)
            case "fsync":
                disk.sync(path)


def text_of(hexadecimal):
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


class Reader:
    def __init__(self, state):
        self.state = pathlib.PurePosixPath(state)

    def relative(self, *parts):
        """The path below the state directory, or None."""
        path = pathlib.PurePosixPath(*(text_of(part).decode() if "\\x" in part else part for part in parts))
        return path.relative_to(self.state).parts if path.is_relative_to(self.state) else None

    def read(self, text):
        return [call for line in text.splitlines() if (call := self.read_line(line))]

    def read_line(self, line):
        found = re.match(r"(\d+)\.(\d{6}) (\w+)\((.*)\) += (\d+)", line)
        if not found:
            return None  # failed, a signal, the end
        microseconds = int(found[1]) * 1000000 + int(found[2])
        call = self.read_call(found[3], found[4], int(found[5]))
        if call is not None:
            call.microseconds = microseconds
        return call

    def read_call(self, name, arguments, result):
        """None for what does not change the state directory."""
        descriptor = re.match(r"\d+<([^>]*)>", arguments)
        path = self.relative(descriptor[1]) if descriptor else None
        at = [self.relative(*names) for names in re.findall(rf"\d+<([^>]*)>, \"{HEX}\"", arguments)]
        strings = re.findall(rf"\"{HEX}\"", arguments)
        mode = int(arguments.split(", ")[-1], 8) if re.search(r", 0[0-7]+$", arguments) else 0
        if name == "sendmsg":
            announced = any(text_of(string).startswith(ANNOUNCEMENT) for string in strings)
            return Call(0, "announce", []) if announced else None
        if path is None and not any(found is not None for found in at):
            return self.refuse_unknown(name, strings)
        match name:
            case "openat":
                return Call(0, "create", at, mode=mode) if "O_CREAT" in arguments else None
            case "mkdirat":
                return Call(0, "mkdir", at, mode=mode)
            case "symlinkat":
                return Call(0, "symlink", at, data=text_of(strings[0]))
            case "renameat":
                return Call(0, "rename", at)
            case "unlinkat":
                return Call(0, "unlink", at)
            case "write":
                return Call(0, "write", [path], data=text_of(strings[0])[:result])
            case "fchmod":
                return Call(0, "chmod", [path], mode=mode)
            case "fsync":
                return Call(0, "fsync", [path])
            case "fchown":
                return None  # the model knows no owners
        raise AssertionError(f"a call that the model does not know: {name}({arguments[:200]})")

    def refuse_unknown(self, name, strings):
        """A change by a whole path would escape the model. The directory itself is there before."""
        inside = [string for string in strings[:2] if name != "open" and self.relative(string) not in (None, ())]
        if inside and name not in ("openat", "write"):
            raise AssertionError(f"a call that the model does not know: {name} {inside}")
