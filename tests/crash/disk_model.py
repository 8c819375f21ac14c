"""What may be on the disk after a power cut, as far as POSIX promises something: the data of a file is there as it was
at its last fsync, a name as it was at the last fsync of its directory; what came later may be there, may be missing,
and of data any part. A rename is atomic: it has happened or not. See fsync(2), "Calling fsync() does not necessarily
ensure that the entry in the directory containing the file has also reached disk".
"""

import dataclasses
import os
import random
import shutil
import stat


@dataclasses.dataclass
class Inode:
    kind: str  # directory, file, link
    mode: int = 0
    data: bytes = b""  # of a file; the target of a link
    durable_mode: int = 0
    durable_data: bytes = b""


@dataclasses.dataclass
class Change:
    """Of names: all removed, then all added, at once. A name is (directory, name)."""

    removed: list
    added: list  # of (name, inode)
    durable: bool = False

    def names(self):
        return {*self.removed, *(name for name, _ in self.added)}


class Disk:
    """The state directory, from call to call. Paths are tuples of names; () is the directory itself."""

    def __init__(self, mode, tree):
        """tree: what is there, and durable."""
        self.inodes = [Inode("directory", mode, durable_mode=mode)]
        self.changes = []
        for path, (kind, inode_mode, data) in sorted(tree.items()):
            self.make(path, Inode(kind, inode_mode, data, inode_mode, data))
            self.changes[-1].durable = True

    # Reading the names that a set of changes leaves.

    @staticmethod
    def names_after(changes):
        names = {}
        for change in changes:
            # What it stands on is missing: such a set is never asked for, but see closure().
            for name in change.removed:
                del names[name]
            for name, inode in change.added:
                names[name] = inode
        return names

    def find(self, path):
        names = self.names_after(self.changes)
        inode = 0
        for name in path:
            inode = names[inode, name]
        return inode

    def at(self, path):
        return self.find(path[:-1]), path[-1]

    # The calls.

    def make(self, path, inode):
        self.inodes.append(inode)
        self.changes.append(Change([], [(self.at(path), len(self.inodes) - 1)]))

    def make_directory(self, path, mode):
        self.make(path, Inode("directory", mode, durable_mode=mode))

    def make_file(self, path, mode):
        self.make(path, Inode("file", mode, durable_mode=mode))

    def make_link(self, path, target):
        self.make(path, Inode("link", data=target, durable_data=target))

    def write(self, path, data):
        self.inodes[self.find(path)].data += data

    def set_mode(self, path, mode):
        self.inodes[self.find(path)].mode = mode

    def rename(self, old, new):
        inode = self.find(old)
        self.changes.append(Change([self.at(old)], [(self.at(new), inode)]))

    def remove(self, path):
        self.changes.append(Change([self.at(path)], []))

    def sync(self, path):
        number = self.find(path)
        inode = self.inodes[number]
        inode.durable_mode, inode.durable_data = inode.mode, inode.data
        touching = [at for at, change in enumerate(self.changes) if any(name[0] == number for name in change.names())]
        for at in self.closure(touching):
            self.changes[at].durable = True

    def closure(self, chosen):
        """With all earlier changes of the same names, without which these cannot be."""
        chosen = set(chosen)
        for at in range(len(self.changes) - 1, -1, -1):
            later = [self.changes[other] for other in chosen if other > at]
            if any(change.names() & self.changes[at].names() for change in later):
                chosen.add(at)
        return chosen

    # What a power cut may leave.

    def states(self, seed):
        """Yields (name, tree); a tree is {path: (kind, mode, data)}."""
        durable = [at for at, change in enumerate(self.changes) if change.durable]
        pending = [at for at, change in enumerate(self.changes) if not change.durable]
        everything = durable + pending
        yield "all written", self.tree(everything, lambda inode: inode.data, new_modes=True)
        yield "only what is durable", self.tree(durable, lambda inode: inode.durable_data)
        yield "data missing", self.tree(everything, lambda inode: inode.durable_data)
        yield "half of the data", self.tree(everything, half)
        yield "data zero", self.tree(everything, zero)
        for at in pending:
            yield f"only change {at}", self.tree([*durable, at], lambda inode: inode.data)
            yield f"only change {at}, no data", self.tree([*durable, at], lambda inode: inode.durable_data)
            yield f"all but change {at}", self.tree(self.without(at), lambda inode: inode.data, new_modes=True)
        for number in range(2):
            chance = random.Random(f"{seed} {number}")
            some = [at for at in pending if chance.random() < 0.5]
            parts = [lambda inode: inode.data, lambda inode: inode.durable_data, half]
            yield f"random {number}", self.tree(durable + some, lambda inode: chance.choice(parts)(inode))

    def without(self, missing):
        """All changes but one and those that stand on it."""
        return [at for at in range(len(self.changes)) if missing not in self.closure([at])]

    def tree(self, chosen, data_of, new_modes=False):
        names = self.names_after(self.changes[at] for at in sorted(self.closure(chosen)))
        tree = {}

        def add(directory, path):
            for (parent, name), number in sorted(names.items()):
                if parent == directory:
                    inode = self.inodes[number]
                    mode = inode.mode if new_modes else inode.durable_mode
                    data = data_of(inode) if inode.kind == "file" else inode.data
                    tree[(*path, name)] = (inode.kind, mode, data)
                    add(number, (*path, name))

        add(0, ())
        return tree


def half(inode):
    """Of what was written since the last fsync."""
    kept = len(inode.durable_data)
    return inode.data[: kept + (len(inode.data) - kept) // 2]


def zero(inode):
    """The size is on disk, the data is not (xfs, ext4 with data=writeback)."""
    kept = len(inode.durable_data)
    return inode.data[:kept] + bytes(len(inode.data) - kept)


def read(directory):
    """The tree of a real directory."""
    tree = {}
    for path in directory.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        kind = "link" if path.is_symlink() else "directory" if path.is_dir() else "file"
        data = os.readlink(path).encode() if kind == "link" else path.read_bytes() if kind == "file" else b""
        tree[path.relative_to(directory).parts] = (kind, mode, data)
    return tree


def materialise(tree, directory, mode):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for path, (kind, _, data) in sorted(tree.items()):
        place = directory.joinpath(*path)
        if kind == "directory":
            place.mkdir()
        elif kind == "file":
            place.write_bytes(data)
        else:
            place.symlink_to(data.decode())
    for path, (kind, file_mode, _) in tree.items():
        if kind != "link":
            directory.joinpath(*path).chmod(file_mode)
    directory.chmod(mode)
