"""A log as it was at one moment, although its writers go on while it is read.

What speaks of something is read before that: anchors before checkpoints, checkpoints before hashes and records. The first record of
a file says how the one before it ended, and a supervisor's how far the files of its workers go: so files are read from the youngest
to the oldest, and those of supervisors first. Then all that is spoken of is there, and what was written since is at worst not read.
"""

from dataclasses import dataclass, field
from pathlib import Path

from phiproxy.audit.log_files import ANCHORS
from phiproxy.audit.reading import StoredFile, stored_files


@dataclass(slots=True)
class Contents:
    """What was read of one file. ``torn`` and ``torn_note`` are what stands behind the last whole record and checkpoint.

    ``has_records`` is False where they were pruned, also while they were read; ``unreadable`` is why there are none.
    """

    file: StoredFile
    anchors: bytes
    notes: list[bytes]
    torn_note: bytes
    hashes: list[bytes]
    lines: list[bytes] = field(default_factory=list)
    torn: bytes = b""
    unreadable: str | None = None
    has_records: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a log, those of a writer one after the other; and the stems that are there when all of them are read."""

    files: list[Contents]
    stems: frozenset[str]


def snapshot(directory: Path) -> Snapshot:
    """Read all of a log; ConfigError where there is none."""
    listed = stored_files(directory)
    order = sorted(listed, key=lambda file: (file.writer[1] == "supervisor", file.begun), reverse=True)
    read = {file.stem: _contents(file) for file in order}
    # Files are pruned oldest first, so some of those that were read may be older than others that were gone by then.
    now = {file.stem: file for file in stored_files(directory)}
    files: list[Contents] = []
    for file in listed:
        contents = read[file.stem]
        if file.stem not in now:  # begun in vain, and taken away
            continue
        if not now[file.stem].has_records:
            contents = Contents(file, contents.anchors, contents.notes, contents.torn_note, contents.hashes, has_records=False)
        files.append(contents)
    return Snapshot(files, frozenset(now))


def _contents(file: StoredFile) -> Contents:
    contents = _read(file)
    if not contents.notes and len(contents.lines) > 1:
        # Begun between both: its first record is signed before there is another.
        contents = _read(file)
    return contents


def _read(file: StoredFile) -> Contents:
    anchors = file.read(ANCHORS) or b""
    notes, torn_note = file.notes()
    contents = Contents(file, anchors, notes, torn_note, file.hashes())
    try:
        contents.lines, contents.torn = file.lines()
    except ValueError as error:
        contents.unreadable = str(error)
    return contents
