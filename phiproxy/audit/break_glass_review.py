"""Break-glass and its review: who has had masks lifted for a reason, and which second person has looked into that.

Both are records of the log. A review is written by the process of whoever reviews, under a writer's name of its own, and signed
like all others; so a list of what is open is made of nothing but the log.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from phiproxy.audit.checkpoints import Signer, Verifier
from phiproxy.audit.log_files import LogFiles, Rotation, Writer
from phiproxy.audit.reading import left_behind, record_of, records
from phiproxy.audit.records import BREAK_GLASS, REVIEWED, line_of
from phiproxy.audit.search import Record, end_user
from phiproxy.audit.verify import signed_lines
from phiproxy.errors import ConfigError

WRITER: Final = "review"


@dataclass(frozen=True, slots=True)
class Glass:
    """One time that somebody has had masks lifted, and the record of its review, or None."""

    record: Record
    review: Record | None = None

    @property
    def name(self) -> str:
        """What it is signed off by."""
        return str(self.record["glass"])

    @property
    def people(self) -> frozenset[str]:
        """Under which names whoever did it is in the record: none of them may review it."""
        names = (self.record.get("login"), self.record.get("role"), end_user(self.record))
        return frozenset(str(name) for name in names if name)

    @property
    def until(self) -> datetime:
        """Until when masks may be lifted by it."""
        return datetime.fromisoformat(str(self.record["time"])) + timedelta(seconds=float(self.record.get("seconds", 0)))


def reviewable(directory: Path, verifiers: Sequence[Verifier]) -> Iterator[Record]:
    """Yield the records of a log, of sign-offs only those that are signed: anybody can write one that is not.

    A signed record that masks were lifted counts instead of any other of its name. ConfigError where it cannot be read; OSError.
    """
    known: set[str] = set()
    for line in signed_lines(directory, verifiers):
        record = record_of(line) if b'"kind":"break_glass' in line else None
        if record is not None and record["kind"] in (BREAK_GLASS, REVIEWED):
            yield record
            known |= {str(record["glass"])} if record["kind"] == BREAK_GLASS else set()
    for each in records(directory):
        if each["kind"] != REVIEWED and not (each["kind"] == BREAK_GLASS and str(each.get("glass")) in known):
            yield each


def glasses(log: Iterable[Record]) -> list[Glass]:
    """Return all of a log, in the order of time."""
    broken: dict[str, Record] = {}
    reviews: dict[str, Record] = {}
    for record in log:
        if record.get("kind") == BREAK_GLASS:
            broken[str(record["glass"])] = record
        elif record.get("kind") == REVIEWED:
            reviews.setdefault(str(record["glass"]), record)
    in_order = sorted(broken.items(), key=lambda item: str(item[1]["time"]))
    return [Glass(record, reviews.get(name)) for name, record in in_order]


def may_review(glass: Glass, reviewer: str) -> None:
    """Go on where a person may sign this off; ConfigError where it is signed off, or his own, or more may be seen by it yet."""
    if glass.review is not None:
        raise ConfigError(f"{glass.name} was signed off by {glass.review.get('by')} at {glass.review['time'][:19]}")
    if reviewer in glass.people:
        raise ConfigError(f"{reviewer} has done it himself", hint="a second person signs it off")
    if glass.until > datetime.now(UTC):
        why = f"{glass.name} may lift masks until {glass.until:%Y-%m-%d %H:%M:%S} (UTC)"
        raise ConfigError(why, hint="sign it off when that is over, and all that was seen by it is known")


def sign_off(directory: Path, proxy: str, signer: Signer, fields: Mapping[str, Any]) -> None:
    """Write a record of a review, signed and closed; OSError."""
    with _lock(directory / f"{proxy}.{WRITER}.lock"):
        previous = left_behind(directory, (proxy, WRITER)).head
        files = LogFiles(directory, Writer(proxy, WRITER), signer, Rotation(1 << 30), previous=previous)
        files.append([line_of(REVIEWED, {**fields, "proxy": proxy, "writer": WRITER})])
        files.close()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
