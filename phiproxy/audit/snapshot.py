"""A log as it was at one moment, although its writers go on while it is read.

What speaks of something is read before that: anchors before checkpoints, checkpoints before hashes and records. The first record of
a file says how the one before it ended, and a supervisor's how far the files of its workers go: so files are read from the youngest
to the oldest, and those of supervisors first. Then all that is spoken of is there, and what was written since is at worst not read.
"""

from dataclasses import dataclass
from pathlib import Path

from phiproxy.audit.looked_at import Look, Looked
from phiproxy.audit.reading import stored_files


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a log, those of a writer one after the other; and the stems that are there when all of them are read."""

    files: list[Looked]
    stems: frozenset[str]


def snapshot(directory: Path, look: Look) -> Snapshot:
    """Look at all files of a log; ConfigError where there is none."""
    listed, read = stored_files(directory), dict[str, Looked]()
    for file in sorted(listed, key=lambda file: (file.writer[1] == "supervisor", file.begun), reverse=True):
        looked = look(file)
        if not looked.has_notes and looked.size > 1:
            # Begun between both: its first record is signed before there is another.
            looked = look(file)
        read[file.stem] = looked
    # Files are pruned oldest first, so some of those that were read may be older than others that were gone by then.
    now = {file.stem: file for file in stored_files(directory)}
    files: list[Looked] = []
    for file in listed:
        if file.stem in now:  # one that is not was begun in vain, and taken away
            looked = read[file.stem]
            files.append(looked if now[file.stem].has_records else looked.without_records())
    return Snapshot(files, frozenset(now))
