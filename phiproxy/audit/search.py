"""Looking into a log: the records that are of some time, person, kind, column or statement."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phiproxy.audit.checkpoints import TIME_FORMAT
from phiproxy.audit.reading import records
from phiproxy.audit.sealed_subjects import is_open_ended

Record = Mapping[str, Any]
_OF_THE_LOG = frozenset({"log.opened", "log.closed", "log.heads"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for; None and empty: whatever it is. ``column`` may be a table too, ``who`` is a login, a role or an end user.

    ``before`` is the first moment that is too late. ``open_ended`` are records that may be about anybody (``sealed_subjects``).
    """

    since: datetime | None = None
    before: datetime | None = None
    who: str | None = None
    column: str | None = None
    kinds: frozenset[str] = frozenset()
    fingerprint: str | None = None
    outcome: str | None = None
    open_ended: bool = False

    def takes(self, record: Record) -> bool:
        """Tell whether a record is wanted."""
        kind, time = record.get("kind"), record.get("time", "")
        if (kind in _OF_THE_LOG and kind not in self.kinds) or (self.kinds and kind not in self.kinds):
            return False
        if (self.since is not None and time < spelled(self.since)) or (self.before is not None and time >= spelled(self.before)):
            return False
        if self.who is not None and self.who not in (record.get("login"), record.get("role"), end_user(record)):
            return False
        if self.column is not None and not any(_is_of(self.column, name) for name in record.get("columns", ())):
            return False
        if self.fingerprint is not None and record.get("statement", {}).get("fingerprint") != self.fingerprint:
            return False
        if self.open_ended and not is_open_ended(record):
            return False
        return self.outcome is None or str(record.get("outcome") or "").startswith(self.outcome)


def spelled(time: datetime) -> str:
    """Return a time with its zone as records spell it."""
    return time.astimezone(UTC).strftime(TIME_FORMAT)


def end_user(record: Record) -> str | None:
    """Return the end user behind a role, whom the application has asserted."""
    user = record.get("user")
    return user.get("name") if isinstance(user, dict) else None


def _is_of(wanted: str, column: str) -> bool:
    """Tell whether a column is the wanted one, or of the wanted table; ``doc$.name.family`` is of ``doc`` and of ``doc$.name``."""
    steps, own = _steps(wanted), _steps(column)
    return own.startswith(steps) or own.endswith("." + steps) or ("$" in column and "." + steps in own)


def _steps(name: str) -> str:
    return name.replace("$.", ".$.").replace("$[", ".$[").replace("[*]", ".[*]") + "."


def found(directory: Path, wanted: Wanted) -> Iterator[Record]:
    """Yield the records of a log that are wanted, file by file in the order of time; ConfigError."""
    return (record for record in records(directory) if wanted.takes(record))


def counts(record: Record) -> str:
    """Return in words what was done with which column."""
    said = []
    for column, done in record.get("columns", {}).items():
        what = [name if value is True else f"{name} {value}" for name, value in done.items()]
        said.append(f"{column} ({', '.join(what)})")
    return "; ".join(said)


def in_words(record: Record) -> str:
    """Return a record as a line for people."""
    who = f"{record.get('login') or record.get('os_user') or ''}"
    if end_user(record) is not None:
        who = f"{end_user(record)} as {who}"
    said = [
        record["time"][:19].replace("T", " "), record["kind"], who, record.get("client") or "", record.get("database") or "",
        counts(record), record.get("statement", {}).get("text") or record.get("what") or "", str(record.get("outcome") or ""),
    ]  # fmt: skip
    return "  ".join(word for word in said if word)
