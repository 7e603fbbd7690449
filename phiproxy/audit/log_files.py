"""The files of one writer of an audit log: records, the hashes of their leaves, and signed checkpoints. Blocking; for one thread.

    STEM.jsonl         one record a line, and zeros behind the last while it is open; compressed (STEM.jsonl.gz) once it is closed
    STEM.hashes        the leaf hash of each record, 32 bytes each, up to the last checkpoint
    STEM.checkpoints   signed notes, two empty lines between two of them
    STEM.anchors       what somebody else says of some of them (``anchors``)

A stem is the time at which the file was begun, the proxy and the number of its writer: ``20261127T184500.123456Z.proxy-1.0``. The
first record of a file says how the file before it ended. The last one says how the next is called, which is there by then. So none
can be taken away from between them unnoticed. What is written is synced before ``append`` returns, once for all records of a call.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from phiproxy.audit.checkpoints import Signer
from phiproxy.audit.lease import Lease
from phiproxy.audit.open_log_file import RECORDS, OpenFile, Written, compress
from phiproxy.audit.records import Line, line_of, numbered

ANCHORS: Final = ".anchors"
STEM_TIME: Final = "%Y%m%dT%H%M%S.%fZ"
HASH_SIZE: Final = 32
# A lease of fewer bytes is none.
LEAST_LENT: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is closed and the next begun: above ``size`` bytes, and with each day of UTC."""

    size: int
    compress: bool = True


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: the proxy's name, and which of its processes (``supervisor`` or a worker's number)."""

    proxy: str
    number: str

    def stem(self, now: datetime) -> str:
        """Return what the files are called that are begun now."""
        return f"{now.strftime(STEM_TIME)}.{self.proxy}.{self.number}"


def head(file: str, size: int, root: bytes) -> dict[str, Any]:
    """Return what a record says of a file of the log: its stem, how many records it has, and their root."""
    return {"file": file, "root": base64.b64encode(root).decode(), "size": size}


def _numbered(lines: Sequence[Line], first: int) -> list[bytes]:
    return [numbered(line, number) for number, line in enumerate(lines, start=first)]


def _now() -> datetime:
    return datetime.now(UTC)


class LogFiles:
    """The open file of one writer. ``previous`` is the head of the file that an older process of it has left.

    ``facts`` are in the first record of each file, as they are by then. ``signed`` is told of each checkpoint, and in which file
    its anchors stand.
    """

    def __init__(
        self,
        directory: Path,
        writer: Writer,
        signer: Signer,
        rotation: Rotation,
        *,
        now: Callable[[], datetime] = _now,
        facts: Mapping[str, Any] | None = None,
        previous: dict[str, Any] | None = None,
        signed: Callable[[Path, bytes], None] = lambda _path, _note: None,
    ) -> None:
        self._signed = signed
        self._directory, self._writer, self._signer, self._rotation, self._now = directory, writer, signer, rotation, now
        self._facts = facts if facts is not None else {}
        self._sequence = 0
        self._last = previous
        # The file that the last record of another one names: it stays, even where nothing could be written into it.
        self._named: str | None = None
        self._file: OpenFile | None = None
        # The proxy writes into it itself.
        self._lent = False
        # Who waits for a record does not wait until a whole file is compressed.
        self._compressing = ThreadPoolExecutor(1, "audit compression")

    @property
    def head(self) -> dict[str, Any] | None:
        """The head of the open file."""
        return None if self._file is None else head(self._file.stem, self._file.tree.size, self._file.tree.root())

    def append(self, lines: Sequence[Line]) -> range:
        """Write records and have them synced; returns their numbers. OSError when that fails, and then none of them is in the log.

        A file that has failed is left, and the next call begins another one.
        """
        file = self._ready()
        numbers = range(self._sequence + 1, self._sequence + 1 + len(lines))
        try:
            file.append(_numbered(lines, numbers[0]))
        except OSError:
            self.abandon()
            raise
        self._sequence += len(lines)
        return numbers

    def write(self, lines: Sequence[Line]) -> Written | None:
        """Write records, which are in the log when they were synced and confirmed; OSError, and then they are not.

        None where that takes more: there is no open file, or the next is to be begun. ``append`` does it, when all are confirmed.
        """
        file = self._file
        if file is None or self._is_due(file, self._now()):
            return None
        return file.write(_numbered(lines, self._sequence + file.unconfirmed + 1))

    def sync(self, slot: int) -> None:
        """Have synced what was written, in a thread that has this slot; OSError, and then the file is to be abandoned."""
        assert self._file is not None
        self._file.sync(slot)

    def confirm(self, written: Written) -> None:
        """Take note that the oldest records that were written were synced."""
        assert self._file is not None
        self._file.confirm(written)
        self._sequence += len(written.lines)

    def settle(self) -> None:
        """Do what is still to be done of what was written, when nobody waits any longer."""
        if self._file is not None:
            self._file.settle()

    def lend(self) -> Lease | None:
        """Let the proxy itself write into the open file until that is taken back, or further; OSError, and then it may not.

        None where there is no file, or the next is to be begun. What was lent before then still is.
        """
        file = self._file
        if file is None or self._is_due(file, self._now()):
            return None
        lease = file.lend(self._sequence + 1, self._rotation.size)
        if lease.end - lease.at < LEAST_LENT:
            return None
        self._lent = True
        return lease

    def written_by_others(self, end: int | None) -> None:
        """Take note of the records up to there that were written where it was lent (``OpenFile.take_back``). OSError."""
        if self._file is not None and self._lent:
            self._sequence += self._file.take_back(end)

    def take_back(self, end: int | None, *, failed: bool = False) -> None:
        """Lend the file no longer; it is left where writing into it has ``failed``. OSError."""
        try:
            self.written_by_others(end)
        finally:
            lent, self._lent = self._lent, False
        if lent and failed:
            self.abandon()

    def checkpoint(self) -> dict[str, Any]:
        """Sign the head of the open file, whether or not anything was written since; returns it. OSError."""
        file = self._file if self._lent and self._file is not None else self._ready()
        try:
            self._sign(file, self._now())
        except OSError:
            if not self._lent:  # what the proxy writes into, it gives back first
                self.abandon()
            raise
        return head(file.stem, file.tree.size, file.tree.root())

    def close(self) -> None:
        """End the log of this process: a last record says that it was ended and not cut off. OSError."""
        if self._file is not None:
            self._compress(self._end(None))
        self._compressing.shutdown()

    def _ready(self) -> OpenFile:
        now, file = self._now(), self._file
        if file is None:
            self._begin(OpenFile(self._directory, self._writer.stem(now), now), now)
        elif self._is_due(file, now):
            self._rotate(now)
        assert self._file is not None
        return self._file

    def _is_due(self, file: OpenFile, now: datetime) -> bool:
        return file.size >= self._rotation.size or file.day != now.date()

    def _rotate(self, now: datetime) -> None:
        """Close the open file and begin the next, which is there before the last record of the other one names it."""
        following = OpenFile(self._directory, self._writer.stem(now), now)
        try:
            closed = self._end(following.stem)
        except OSError:
            following.close()
            if following.stem != self._named:
                following.remove()
            raise
        self._begin(following, now)
        self._compress(closed)

    def _begin(self, file: OpenFile, now: datetime) -> None:
        self._file = file
        fields = {**self._facts, "proxy": self._writer.proxy, "writer": self._writer.number, "previous": self._last}
        try:
            file.append([numbered(line_of("log.opened", fields), self._sequence + 1)])
            self._sign(file, now)
        except OSError:
            self.abandon()
            raise
        self._sequence += 1

    def _sign(self, file: OpenFile, now: datetime) -> None:
        self._signed(self._directory / (file.stem + ANCHORS), file.checkpoint(self._signer, now))

    def _end(self, following: str | None) -> str:
        """Close the open file, whose last record names the next; returns its stem."""
        file = self._file
        assert file is not None
        try:
            file.append([numbered(line_of("log.closed", {"next": following, "proxy": self._writer.proxy}), self._sequence + 1)])
            self._named = following
            self._sign(file, self._now())
        except OSError:
            self.abandon()
            raise
        self._sequence += 1
        self._last = head(file.stem, file.tree.size, file.tree.root())
        self._file = None
        file.close()
        return file.stem

    def _compress(self, stem: str) -> None:
        if self._rotation.compress:
            self._compressing.submit(compress, self._directory / (stem + RECORDS))

    def abandon(self) -> None:
        """Leave a file that cannot be written to any more: what it holds up to its last sync counts. One that is named stays."""
        file, self._file = self._file, None
        assert file is not None
        if file.tree.size:
            self._last = head(file.stem, file.tree.size, file.tree.root())
        file.close()
        if not file.tree.size and file.stem != self._named:
            file.remove()
