"""Letting go of old files: their records and hashes, never the signed heads of their trees."""

from collections import deque
from datetime import UTC, datetime
from pathlib import Path

from phiproxy.audit.checkpoints import TIME_FORMAT
from phiproxy.audit.open_log_file import COMPRESSED, HASHES, RECORDS
from phiproxy.audit.reading import StoredFile, record_of, stored_files


def prunable(directory: Path, before: datetime) -> list[StoredFile]:
    """Return the files that were closed before a time, of each writer without a gap from its first; ConfigError.

    The last one of each that is signed stays, however old it is: so who takes all of a writer's away has not pruned.
    """
    limit, chosen, stopped = before.astimezone(UTC).strftime(TIME_FORMAT), list[StoredFile](), set[tuple[str, str]]()
    files = [file for file in stored_files(directory) if file.has_records]
    youngest = {file.writer: file for file in files if file.notes()[0]}
    for file in files:
        if file.writer in stopped or file is youngest.get(file.writer):
            continue
        last = next((record_of(line) for line in deque(file.lines(), maxlen=1)), None)
        if last is not None and last["kind"] == "log.closed" and last["time"] < limit:
            chosen.append(file)
        else:
            stopped.add(file.writer)
    return chosen


def prune(files: list[StoredFile]) -> None:
    """Remove the records and the hashes of files."""
    for file in files:
        for suffix in (RECORDS, COMPRESSED, HASHES):
            (file.directory / (file.stem + suffix)).unlink(missing_ok=True)
