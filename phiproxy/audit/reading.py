"""Reading a directory of log files, without trusting any of it: what is there, by writer and in order.

Its writers may go on meanwhile: files are begun, compressed and pruned beside whoever reads them, and nothing is missed for that.
"""

import gzip
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from phiproxy.audit.log_files import ANCHORS, HASH_SIZE, STEM_TIME, head
from phiproxy.audit.merkle_hash_tree import Tree, leaf_hash
from phiproxy.audit.open_log_file import CHECKPOINTS, COMPRESSED, HASHES, RECORDS
from phiproxy.audit.records import canonical
from phiproxy.errors import ConfigError

_STEM = re.compile(r"(?P<begun>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)\.(?P<proxy>.+)\.(?P<number>[0-9]+|supervisor|review)")
LONGEST: Final = 8 << 20
"""No record has more bytes; what is longer is hashed and not held."""
LARGEST: Final = 256 << 20
"""No file beside records has more bytes."""
_CHUNK = 1 << 20
_SUFFIXES = (COMPRESSED, RECORDS, HASHES, CHECKPOINTS, ANCHORS)


class Unreadable(ConfigError):
    """A file that cannot be read as what its name says, and ``why``."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be read: {why}")
        self.why = why


class Entry(NamedTuple):
    """A record as it is stored, without its line end, and its leaf hash; no hash where it is not whole.

    Of one that is longer than any record can be (``LONGEST``) the line is empty, which is no record.
    """

    line: bytes
    leaf: bytes

    @property
    def is_whole(self) -> bool:
        """Whether its line end is there."""
        return bool(self.leaf)


@dataclass(slots=True)
class StoredFile:
    """One file of the log as it lies there. ``writer`` is (proxy, number), ``begun`` the time in its name."""

    directory: Path
    stem: str
    writer: tuple[str, str]
    begun: str
    suffixes: set[str] = field(default_factory=set)

    @property
    def has_records(self) -> bool:
        """Whether its records were there when the directory was listed, compressed or not."""
        return RECORDS in self.suffixes or COMPRESSED in self.suffixes

    @property
    def begun_at(self) -> datetime:
        """The time in its name, which anybody can have written."""
        return datetime.strptime(self.begun, STEM_TIME).replace(tzinfo=UTC)

    def _path(self, suffix: str) -> Path:
        return self.directory / (self.stem + suffix)

    def open(self, suffix: str) -> BinaryIO | None:
        """Open one of its files as it is now; None where it is not there (any longer). OSError; Unreadable where it is no file."""
        path = self._path(suffix)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            os.close(descriptor)
            raise Unreadable(path, "it is a directory" if stat.S_ISDIR(kind) else "it is no regular file")
        return os.fdopen(descriptor, "rb")

    def read(self, suffix: str) -> bytes:
        """Return what is in one of the files beside its records, nothing where there is none; OSError, Unreadable."""
        stream = self.open(suffix)
        if stream is None:
            return b""
        with stream:
            data = stream.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise Unreadable(self._path(suffix), f"it is larger than {LARGEST >> 20} MiB")
        return data

    def entries(self) -> Iterator[Entry]:
        """Yield its records one by one, and last what stands behind the last whole one; OSError, Unreadable.

        They end before the first zero byte: records are synced before others are written behind them. Records that were listed and
        are compressed since are read so; of those that were pruned since there are none. Held is a part of the file at a time.
        """
        stream = self.open(RECORDS)
        if stream is not None:
            with stream:
                yield from _entries(stream)
        elif (packed := self.open(COMPRESSED)) is not None:
            with packed, gzip.open(packed) as unpacked:
                try:
                    yield from _entries(unpacked)
                except (gzip.BadGzipFile, EOFError, zlib.error):
                    raise Unreadable(self._path(COMPRESSED), "it cannot be unpacked") from None

    def lines(self) -> Iterator[bytes]:
        """Yield its whole records, as ``entries`` does."""
        return (entry.line for entry in self.entries() if entry.is_whole)

    def hashes(self, count: int) -> list[bytes]:
        """Return the leaf hashes beside it, so many of them at most; OSError, Unreadable."""
        stream = self.open(HASHES)
        if stream is None:
            return []
        with stream:
            data = stream.read(count * HASH_SIZE)
        return [data[i : i + HASH_SIZE] for i in range(0, len(data) - HASH_SIZE + 1, HASH_SIZE)]

    def notes(self) -> tuple[list[bytes], bytes]:
        """Return the checkpoints beside it, and what stands behind the last whole one; OSError, Unreadable."""
        *whole, rest = self.read(CHECKPOINTS).split(b"\n\n\n")
        return [note + b"\n" for note in whole], rest


def _entries(stream: BinaryIO | gzip.GzipFile) -> Iterator[Entry]:
    rest, zero, long = b"", b"", None
    while not zero and (data := stream.read(_CHUNK)):
        data, zero, _ = data.partition(b"\0")
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            if long is not None:
                long.update(line)
                yield Entry(b"", long.digest())
                long = None
            else:
                yield Entry(line if len(line) <= LONGEST else b"", leaf_hash(line))
        if long is not None:
            long.update(rest)
            rest = b""
        elif len(rest) > LONGEST:
            long, rest = sha256(b"\0" + rest), b""
    if rest or long is not None:
        yield Entry(rest, b"")


def stored_files(directory: Path) -> list[StoredFile]:
    """Return the files of a log, those of a writer one after the other in the order of their names; ConfigError."""
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a directory")
    files = _files(directory)
    if not files:
        raise ConfigError(f"{directory} holds no file of an audit log")
    return files


def _names(directory: Path) -> set[str]:
    """Return the names in a directory at one moment: those that it is listed with twice.

    A single listing takes time. While a file is compressed, or pruned with the next one, it may show neither of two names of which
    one was always there.
    """
    names = set(os.listdir(directory))
    while (again := set(os.listdir(directory))) != names:
        names = again
    return names


def _files(directory: Path) -> list[StoredFile]:
    files: dict[str, StoredFile] = {}
    for name in _names(directory):
        suffix = next((s for s in _SUFFIXES if name.endswith(s)), "")
        stem = name.removesuffix(suffix)
        match = _STEM.fullmatch(stem)
        if suffix and match is not None and _is_time(match["begun"]):
            file = files.setdefault(stem, StoredFile(directory, stem, (match["proxy"], match["number"]), match["begun"]))
            file.suffixes.add(suffix)
    return sorted(files.values(), key=lambda file: (file.writer, file.begun))


def _is_time(begun: str) -> bool:
    try:
        return bool(datetime.strptime(begun, STEM_TIME).replace(tzinfo=UTC))
    except ValueError:
        return False


def record_of(line: bytes) -> dict[str, Any] | None:
    """Return a line as a record; None for what is not canonical JSON of one with a kind, a time and a number."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict) or type(record.get("sequence")) is not int or canonical(record) != line:
            return None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record.get("kind"), str) and isinstance(record.get("time"), str) else None


def records(directory: Path) -> Iterator[Mapping[str, Any]]:
    """Yield every readable record of a log, file by file in the order of time; whether they are genuine, ``verify`` says.

    ConfigError where there is none, or a file cannot be read (Unreadable); OSError.
    """
    for file in sorted(stored_files(directory), key=lambda file: file.begun):
        for line in file.lines():
            record = record_of(line)
            if record is not None:
                yield record


class LeftBehind(NamedTuple):
    """What a writer has left: the head of its last file (None: there is none), and the registry's events that it recorded last."""

    head: dict[str, Any] | None
    events: dict[str, int]


def left_behind(directory: Path, writer: tuple[str, str]) -> LeftBehind:
    """Return what a writer has left in a directory, over the whole records of its last file as they are now; OSError."""
    own = [file for file in _files(directory) if file.writer == writer and file.has_records]
    tree, events = Tree(), dict[str, int]()
    # Of a process that was killed the last file may be begun, with nothing in it.
    while own and not tree.size:
        file = own.pop()
        try:
            for entry in file.entries():
                if entry.is_whole:
                    tree.extend([entry.leaf])
                    _take_events(entry.line, events)
        except Unreadable:
            return LeftBehind(None, {})  # what is wrong with it is for ``verify`` to say
    return LeftBehind(head(file.stem, tree.size, tree.root()) if tree.size else None, events)


def _take_events(line: bytes, events: dict[str, int]) -> None:
    if b'"kind":"log.opened"' in line or b'"kind":"key"' in line:
        record = record_of(line) or {}
        said = record.get("events")
        pairs = said.items() if isinstance(said, dict) else [(record.get("database"), record.get("event"))]
        events.update((name, number) for name, number in pairs if isinstance(name, str) and type(number) is int)
