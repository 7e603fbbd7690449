"""Letting go of old files: their records and hashes, never the signed heads of their trees."""

from datetime import UTC, datetime
from pathlib import Path

from phiproxy.audit.checkpoints import TIME_FORMAT
from phiproxy.audit.open_log_file import COMPRESSED, HASHES, RECORDS
from phiproxy.audit.reading import StoredFile, record_of, stored_files


def prunable(directory: Path, before: datetime) -> list[StoredFile]:
    """Return the files that were closed before a time, of each writer without a gap from its first; ConfigError."""
    limit, chosen, stopped = before.astimezone(UTC).strftime(TIME_FORMAT), list[StoredFile](), set[tuple[str, str]]()
    for file in stored_files(directory):
        if file.writer in stopped or not file.has_records:
            continue
        lines = file.lines()[0]
        last = record_of(lines[-1]) if lines else None
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
