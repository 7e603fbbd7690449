"""Reading a directory of log files, without trusting any of it: what is there, by writer and in order.

Its writers may go on meanwhile: files are begun, compressed and pruned beside whoever reads them, and nothing is missed for that.
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from phiproxy.audit.log_files import ANCHORS, HASH_SIZE, STEM_TIME, head
from phiproxy.audit.merkle_hash_tree import leaf_hash, root_of
from phiproxy.audit.open_log_file import CHECKPOINTS, COMPRESSED, HASHES, RECORDS
from phiproxy.audit.records import canonical
from phiproxy.errors import ConfigError

_STEM = re.compile(r"(?P<begun>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)\.(?P<proxy>.+)\.(?P<number>[0-9]+|supervisor|review)")
_SUFFIXES = (COMPRESSED, RECORDS, HASHES, CHECKPOINTS, ANCHORS)


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

    def read(self, suffix: str) -> bytes | None:
        """Return the bytes of one of its files as they are now; None where it is not there (any longer)."""
        try:
            return (self.directory / (self.stem + suffix)).read_bytes()
        except FileNotFoundError:
            return None

    def lines(self) -> tuple[list[bytes], bytes]:
        """Return its records, and what stands behind the last whole one; ValueError when it cannot be unpacked.

        They end before the first zero byte: records are synced before others are written behind them. Records that were listed and
        are compressed since are read so; of those that were pruned since there are none.
        """
        data = self.read(RECORDS)
        if data is None:
            packed = self.read(COMPRESSED)
            try:
                data = gzip.decompress(packed) if packed is not None else b""
            except (OSError, EOFError, zlib.error):
                raise ValueError("the compressed file cannot be unpacked") from None
        taken, _, _ = data.partition(b"\0")
        *lines, rest = taken.split(b"\n")
        return lines, rest

    def hashes(self) -> list[bytes]:
        """Return the leaf hashes beside it."""
        data = self.read(HASHES) or b""
        return [data[i : i + HASH_SIZE] for i in range(0, len(data) - HASH_SIZE + 1, HASH_SIZE)]

    def notes(self) -> tuple[list[bytes], bytes]:
        """Return the checkpoints beside it, and what stands behind the last whole one."""
        *whole, rest = (self.read(CHECKPOINTS) or b"").split(b"\n\n\n")
        return [note + b"\n" for note in whole], rest


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
    """Yield every readable record of a log, file by file in the order of time; whether they are genuine, ``verify`` says."""
    for file in sorted(stored_files(directory), key=lambda file: file.begun):
        for line in file.lines()[0]:
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
    lines: list[bytes] = []
    try:
        # Of a process that was killed the last file may be begun, with nothing in it.
        while own and not (lines := own[-1].lines()[0]):
            own.pop()
    except ValueError:
        return LeftBehind(None, {})  # what is wrong with it is for ``verify`` to say
    if not own:
        return LeftBehind(None, {})
    leaves = [leaf_hash(line) for line in lines]
    events: dict[str, int] = {}
    for line in lines:
        if b'"kind":"log.opened"' in line or b'"kind":"key"' in line:
            record = record_of(line) or {}
            events.update(record.get("events", {}))
            if record.get("kind") == "key":
                events[record["database"]] = record["event"]
    return LeftBehind(head(own[-1].stem, len(leaves), root_of(leaves)), events)
