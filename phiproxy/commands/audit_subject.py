"""``phiproxy audit subject``: who has seen, searched and changed one person's data (accounting of disclosures, 45 CFR 164.528)."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phiproxy.audit.sealed_subjects import SubjectSeals, is_open_ended, sealed_in
from phiproxy.audit.search import Record, Wanted, found, in_words
from phiproxy.audit_root import audit_keys
from phiproxy.commands.audit import write_records
from phiproxy.commands.command_context import load
from phiproxy.errors import ConfigError
from phiproxy.policy.subject_columns import SubjectKind, spelled_subject

# How a value that is looked for may be meant: a record has it as its column's type spells it.
_KINDS: Final[tuple[SubjectKind, ...]] = ("text", "integer", "uuid")


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose records are wanted: those of one person, in the records of ``wanted``, by one subject column or by all."""

    value: str
    label: str | None
    wanted: Wanted


async def subject(config: Path, directory: Path | None, asked: Asked, form: str) -> int:
    """Write the records that are about somebody, as text or as ``export`` does; 1 when there is none. ConfigError, ProviderError.

    On standard error it says how many records may be about anybody, since it is not known whom their rows were about.
    """
    configuration = load(config)
    directory = directory or configuration.settings.audit.directory
    if directory is None:
        raise ConfigError("the log has no files", hint="set audit.directory, or name the directory")
    seals = SubjectSeals(await audit_keys(configuration.settings, configuration.policies))
    about, open_ended = _about(directory, asked, seals)
    if form == "text":
        for record in about:
            sys.stdout.write(in_words(record) + "\n")
    else:
        write_records(about, form, subject=asked.value)
    if open_ended:
        text = f"phiproxy: {open_ended} records more may be about anybody: `phiproxy audit search --open-ended` shows them\n"
        sys.stderr.write(text)
    if not about:
        sys.stderr.write("phiproxy: no record is about that subject\n")
    return 0 if about else 1


def _about(directory: Path, asked: Asked, seals: SubjectSeals) -> tuple[list[Record], int]:
    """Return the records about somebody, without the first halves of those of which the last is there too; and how many may be."""
    spelled = dict.fromkeys(spelled_subject(kind, asked.value.encode()) for kind in _KINDS)
    sealed = {seals.seal(value) for value in spelled if value is not None}
    about: list[Record] = []
    open_ended: list[Record] = []
    for record in _in_range(directory, asked.wanted):
        if not sealed.isdisjoint(sealed_in(record, asked.label)):
            about.append(record)
        elif is_open_ended(record, asked.label):
            open_ended.append(record)
    return _last_halves(about), len(_last_halves(open_ended))


def _in_range(directory: Path, wanted: Wanted) -> Iterator[Record]:
    return (record for record in found(directory, wanted) if record.get("kind") == "execution")


def _last_halves(records: list[Record]) -> list[Record]:
    ended = {_execution(record) for record in records if record.get("phase") == "ends"}
    return [record for record in records if record.get("phase") != "begins" or _execution(record) not in ended]


def _execution(record: Record) -> tuple[object, ...]:
    return record.get("proxy"), record.get("writer"), record.get("session"), record.get("execution")
