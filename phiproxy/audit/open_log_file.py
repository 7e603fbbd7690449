"""One open file of the log: its records, written and synced, and the tree over those that are durable. Blocking.

Records may be written while those before them are synced: ``write`` is for one thread, ``sync`` for one thread a slot, and what is
``confirmed`` is what counts, in the order in which it was written.
"""

import gzip
import os
import shutil
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from phiproxy.audit.checkpoints import Checkpoint, Signer
from phiproxy.audit.lease import Lease
from phiproxy.audit.merkle_hash_tree import Tree

RECORDS, COMPRESSED, HASHES, CHECKPOINTS = ".jsonl", ".jsonl.gz", ".hashes", ".checkpoints"
SYNCS: Final = 2
"""How many syncs of one file may be under way. Each has a descriptor of its own: an error is told once to each."""
_MODE: Final = 0o640
_FLAGS: Final = os.O_CREAT | os.O_EXCL
# A file is filled with zeros so far ahead: what is written over them needs no change of the file's length to be synced with it,
# which takes as long again, and now and then ten times as long.
ROOM: Final = 1 << 20


class Written(NamedTuple):
    """Records that are written and not durable yet, and how long the file is with them."""

    lines: list[bytes]
    end: int


class OpenFile:
    """One file and its tree; ``size`` in bytes, with what is not durable yet."""

    def __init__(self, directory: Path, stem: str, now: datetime) -> None:
        self.stem, self.day = stem, now.date()
        self._paths = [directory / (stem + suffix) for suffix in (RECORDS, HASHES, CHECKPOINTS)]
        self._tree, self.size, self._durable, self._room = Tree(), 0, 0, 0
        self.unconfirmed = 0
        """How many records are written and not durable."""
        self._unhashed: list[bytes] = []
        self._unsigned: list[bytes] = []
        self._descriptors: list[int] = []
        try:
            for path in self._paths:
                flags = _FLAGS | (os.O_RDWR if path.suffix == RECORDS else os.O_WRONLY | os.O_APPEND)
                self._descriptors.append(os.open(path, flags, _MODE))
            self._descriptors += [os.open(self._paths[0], os.O_WRONLY) for _ in range(1, SYNCS)]
            _sync_directory(directory)
        except OSError:
            self.close()
            self.remove()
            raise

    def append(self, lines: list[bytes]) -> None:
        """Write records, and have them synced; OSError."""
        written = self.write(lines)
        self.sync(0)
        self.confirm(written)

    def write(self, lines: list[bytes]) -> Written:
        """Write records behind those that are there; OSError, and then they are not."""
        data = b"\n".join([*lines, b""])
        end = self.size + len(data)
        if end > self._room:
            self._make_room(end)
        _write_at(self._descriptors[0], data, self.size)
        self.size = end
        self.unconfirmed += len(lines)
        return Written(lines, end)

    def sync(self, slot: int) -> None:
        """Have all that is written now synced; OSError."""
        os.fdatasync(self._descriptors[slot and len(self._paths) - 1 + slot])

    def confirm(self, written: Written) -> None:
        """Take note that the oldest records that were written are durable."""
        self._durable = written.end
        self.unconfirmed -= len(written.lines)
        self._unhashed += written.lines

    @property
    def tree(self) -> Tree:
        """The tree over all records that are durable."""
        self.settle()
        return self._tree

    def settle(self) -> None:
        """Hash what is durable since: nobody who waits for a record waits for that."""
        lines = self._unhashed
        if lines:
            self._unhashed = []
            leaves = [sha256(b"\0" + line).digest() for line in lines]
            self._tree.extend(leaves)
            self._unsigned += leaves

    def lend(self, sequence: int, limit: int) -> Lease:
        """Let another process write behind the records, up to byte ``limit`` at most; ``sequence`` is the next number. OSError."""
        if self._room - self.size < ROOM:
            self._make_room(self.size + ROOM)
        return Lease(str(self._paths[0]), self.size, min(self._room, limit), sequence)

    def take_back(self, end: int | None) -> int:
        """Take note of the records that another process has written and synced up to ``end``; returns how many. OSError.

        None: it is not known where they end, which is behind the last whole record before the zeros.
        """
        data = os.pread(self._descriptors[0], (self._room if end is None else end) - self.size, self.size)
        lines = data.partition(b"\0")[0].split(b"\n")[:-1]
        self.size = self._durable = self.size + sum(map(len, lines)) + len(lines)
        self._unhashed += lines
        return len(lines)

    def _make_room(self, size: int) -> None:
        room = (size // ROOM + 1) * ROOM
        zeros = bytes(ROOM)
        for at in range(self._room, room, ROOM):
            _write_at(self._descriptors[0], zeros, at)
        os.fsync(self._descriptors[0])
        self._room = room

    def checkpoint(self, signer: Signer, now: datetime) -> bytes:
        """Sign the tree and write that; returns the checkpoint. OSError."""
        tree = self.tree
        checkpoint = Checkpoint(f"{signer.name}/{self.stem}", tree.size, tree.root(), now)
        hashes, checkpoints = self._descriptors[1:3]
        before = os.fstat(hashes).st_size, os.fstat(checkpoints).st_size
        try:
            _write(hashes, b"".join(self._unsigned))
            os.fdatasync(hashes)
            note = signer.note(checkpoint)
            _write(checkpoints, note + b"\n\n")
            os.fdatasync(checkpoints)
        except OSError:
            os.ftruncate(hashes, before[0])
            os.ftruncate(checkpoints, before[1])
            raise
        self._unsigned.clear()
        return note

    def close(self) -> None:
        """Close the files, the records without what is behind the last that is durable."""
        if self._descriptors and self._room:
            os.ftruncate(self._descriptors[0], self._durable)
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def remove(self) -> None:
        """Take away the files, in which nothing is."""
        for path in self._paths:
            path.unlink(missing_ok=True)


def append_line(path: Path, line: bytes) -> None:
    """Write a line at the end of a file and sync it; OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE)
    try:
        _write(descriptor, line + b"\n")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_at(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def compress(path: Path) -> None:
    """Replace a closed file of records by its compressed form; the file stays where that cannot be written."""
    target, partial = path.with_name(path.stem + COMPRESSED), path.with_name(path.stem + COMPRESSED + ".partial")
    try:
        with path.open("rb") as read, gzip.open(partial, "wb", compresslevel=6) as written:
            shutil.copyfileobj(read, written, 1 << 20)
        with partial.open("rb") as whole:
            os.fsync(whole.fileno())
        partial.rename(target)
        _sync_directory(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)
        return
    if not path.exists():  # pruned meanwhile
        target.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
