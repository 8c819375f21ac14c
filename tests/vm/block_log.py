"""What a disk behind qemu's blklogwrites driver was told: writes and flushes, in order; and what may be on it after a power
cut. The log's format is that of the kernel's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): a
superblock, then for each request a header and its data, each from a sector on.
"""

import random
import struct

MAGIC = 0x6A736677736872
SUPERBLOCK = struct.Struct("<QQQL")  # magic, version, requests up to the last flush, size of a sector
HEADER = struct.Struct("<QQQQ")  # sector, number of sectors, flags, unused here
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
BLOCK = 4096  # is written as a whole or not at all; of the writes of several ones each may be missing


def read_superblock(log):
    """How many requests, and the size of a sector."""
    data = log.read(SUPERBLOCK.size)
    if not any(data):
        return 0, 512  # nothing was flushed
    magic, version, count, sector = SUPERBLOCK.unpack(data)
    if magic != MAGIC or version != 1:
        raise AssertionError(f"this is no log of a disk's writes: {data.hex()}")
    return count, sector


def count_requests(path):
    """Up to the last flush; also while the machine runs."""
    with path.open("rb") as log:
        return read_superblock(log)[0]


def count_flushes(path):
    return sum(request is None for request in read_requests(path))


def read_requests(path):
    """(offset, data) for each write, None for each flush."""
    with path.open("rb") as log:
        count, sector = read_superblock(log)
        position = sector
        for _ in range(count):
            log.seek(position)
            start, length, flags, _ = HEADER.unpack(log.read(HEADER.size))
            if flags & ~FLUSH:
                raise AssertionError(f"a request with flags {flags:#x}")
            log.seek(position + sector)
            if length > 0:
                yield start * sector, log.read(length * sector)
            if flags & FLUSH:
                yield None
            position += sector + length * sector


def blocks_of(offset, data):
    """In pieces that do not cross the boundary of a block."""
    while data:
        size = BLOCK - offset % BLOCK
        yield offset, data[:size]
        offset, data = offset + size, data[size:]


class Log:
    """rounds: what was written between two flushes, block by block. ends: how many requests there were when each ended."""

    def __init__(self, path):
        self.rounds = [[]]
        self.ends = []
        number = 0
        for number, request in enumerate(read_requests(path), 1):
            if request is None:
                self.rounds.append([])
                self.ends.append(number)
            else:
                self.rounds[-1] += blocks_of(*request)
        self.ends.append(number)

    def cuts(self, seed, halves):
        """Yields (number of rounds that are on the disk, positions in the next one that are there, too), each state of the
        disk once: nothing of the next round, and some random halves of it. All of it is the next flush's nothing."""
        for whole, pending in enumerate(self.rounds):
            yield whole, ()
            chance = random.Random(f"{seed} {whole}")
            size = len(pending) // 2
            some = {tuple(sorted(chance.sample(range(len(pending)), size))) for _ in range(halves)}
            yield from ((whole, chosen) for chosen in sorted(some) if chosen)
        if self.rounds[-1]:
            yield len(self.rounds), ()


class Disk:
    """Goes through the log: from state to state only forwards."""

    def __init__(self, begin, log):
        self.data = bytearray(begin)
        self.log = log
        self.rounds = 0

    def write(self, offset, data):
        self.data[offset : offset + len(data)] = data

    def state(self, whole, chosen):
        while self.rounds < whole:
            for offset, data in self.log.rounds[self.rounds]:
                self.write(offset, data)
            self.rounds += 1
        if not chosen:
            return self.data
        before = self.data
        self.data = bytearray(before)
        for number in chosen:
            self.write(*self.log.rounds[whole][number])
        after, self.data = self.data, before
        return after
