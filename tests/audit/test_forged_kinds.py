"""A record of each kind, as whoever holds no key would write it: in place of another, between two, behind the end."""

import random
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from phiproxy.audit.checkpoints import Checkpoint, Signer, opened
from phiproxy.audit.log_files import head
from phiproxy.audit.merkle_hash_tree import leaf_hash, root_of
from phiproxy.audit.open_log_file import CHECKPOINTS, HASHES, RECORDS
from phiproxy.audit.reading import record_of
from phiproxy.audit.records import Kind, canonical, line_of, numbered
from tests.audit.test_verify import BEGAN, SIGNER, Clock, log, only, verified, write

DOCS: Final = Path(__file__).parents[2] / "docs/audit.md"
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
EVERY: Final = 7
SESSION: Final = {
    "application": "psql", "client": "10.0.0.7:53412", "database": "clinic", "login": "nurse", "proxy": "proxy-1", "role": "nurse",
    "session": "0-1", "tenant": "", "writer": "0",
}  # fmt: skip
SHAPE: Final = {"fingerprint": "82a1f0d6a5b8c3e4", "text": "SELECT ssn FROM patients WHERE id = ?"}
FIELDS: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "execution": {
        **SESSION, "columns": {"public.patients.ssn": {"opened": 1}}, "execution": None, "keys": {"5fc3a911": "used"},
        "outcome": "00000", "phase": "whole", "rows": 1, "statement": SHAPE,
    },
    "refused": {
        **SESSION, "columns": {"public.patients.ssn": {"denied": True}}, "outcome": "42501", "statement": SHAPE,
        "why": "AccessDenied",
    },
    "login": {**SESSION, "outcome": "00000"},
    "break_glass": {**SESSION, "glass": "9c41f20ab3d7", "reason": "ambulance", "seconds": 3600},
    "break_glass.reviewed": {
        "by": "officer", "database": "clinic", "glass": "9c41f20ab3d7", "note": "in order", "os_user": "root",
        "proxy": "proxy-1", "writer": "review",
    },
    "key": {
        "at": "2026-11-27T12:00:00+00:00", "database": "clinic", "event": 7, "from": "active", "login": "phiproxy",
        "os_user": "root", "proxy": "proxy-1", "subject": "5fc3a911", "to": "compromised", "what": "compromise", "writer": "0",
    },
    "policy.loaded": {"policies": {"clinic": "00" * 32}, "proxy": "proxy-1", "writer": "0"},
    "proxy.started": {"policies": {"clinic": "00" * 32}, "proxy": "proxy-1", "version": "1.0", "writer": "0"},
    "proxy.stopped": {"proxy": "proxy-1", "writer": "0"},
    "log.opened": {
        "checkpoint_seconds": 86_400, "events": {"clinic": 7}, "key": SIGNER.verifier.text, "previous": None, "proxy": "proxy-1",
        "writer": "0",
    },
    "log.closed": {"next": None, "proxy": "proxy-1"},
    "log.heads": {"heads": [], "proxy": "proxy-1", "writer": "0"},
    "log.gap": {"lost": 3},
}  # fmt: skip


def of_kind(kind: Kind, sequence: int, **other: Any) -> bytes:
    """Return a record as a proxy would have spelled it."""
    line = numbered(line_of(kind, {**FIELDS[kind], **other}), sequence)
    assert record_of(line) is not None
    return line


Attack = Callable[[Kind, list[bytes], int], list[bytes]]
"""Puts a record of a kind into lines, so that the first that is wrong is the one at this index."""


def instead(kind: Kind, lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], of_kind(kind, at + 1), *lines[at + 1 :]]


def between(kind: Kind, lines: list[bytes], at: int) -> list[bytes]:
    """With the numbers of all that follow made to fit."""
    number = b'"sequence":%d,'
    behind = [line.replace(number % (i + 1), number % (i + 2)) for i, line in enumerate(lines)]
    return [*lines[:at], of_kind(kind, at + 1), *behind[at:]]


def at_the_end_of_a_part(kind: Kind, lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], of_kind(kind, at + 1)]


ATTACKS: Final[tuple[Attack, ...]] = (instead, between, at_the_end_of_a_part)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log with a genuine record of each kind that a process writes between its first and its last one."""
    directory = tmp_path_factory.mktemp("log")
    files = log(directory, Clock())
    files.append([line_of(kind, FIELDS[kind]) for kind in KINDS if kind not in ("log.opened", "log.closed", "log.heads")])
    write(files, 40, checkpoint_every=EVERY)
    files.close()
    assert not verified(directory).faults
    return directory


def attacked(whole: Path, copy: Path, change: Callable[[list[bytes]], list[bytes]]) -> list[bytes]:
    """Write other records into a copy of a log; returns them."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    path = only(copy, RECORDS)
    lines = change(path.read_bytes().splitlines())
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return lines


def first_named(copy: Path) -> int:
    return next(fault.record for fault in verified(copy).faults if fault.record is not None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_forged_record_is_the_first_that_is_named(whole: Path, tmp_path: Path, attack: Attack, kind: Kind) -> None:
    chance = random.Random(f"{kind} {attack.__name__}")
    count = len(only(whole, RECORDS).read_bytes().splitlines())
    for at in (0, count - 1, *(chance.randrange(count) for _ in range(6))):
        attacked(whole, tmp_path / "copy", lambda lines, at=at: attack(kind, lines, at))  # type: ignore[misc]
        assert first_named(tmp_path / "copy") == at + 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_with_its_hash_and_a_head_it_is_named_within_what_a_genuine_head_covers(
    whole: Path, tmp_path: Path, attack: Attack, kind: Kind
) -> None:
    """The tree is made anew over what is forged, and its head signed with another key: of the real heads none covers it."""
    chance, copy = random.Random(f"{kind} {attack.__name__}"), tmp_path / "copy"
    notes = only(whole, CHECKPOINTS).read_bytes().removesuffix(b"\n\n\n").split(b"\n\n\n")
    heads = [opened(note + b"\n", [SIGNER.verifier]) for note in notes]
    for at in (0, *(chance.randrange(heads[-1].size) for _ in range(6))):
        lines = attacked(whole, copy, lambda lines, at=at: attack(kind, lines, at))  # type: ignore[misc]
        leaves = [leaf_hash(line) for line in lines]
        only(copy, HASHES).write_bytes(b"".join(leaves))
        forged_head = Checkpoint(heads[0].origin, len(leaves), root_of(leaves), heads[-1].time)
        with only(copy, CHECKPOINTS).open("ab") as checkpoints:
            checkpoints.write(Signer(SIGNER.name, bytes(32)).note(forged_head) + b"\n\n")
        before = max((one.size for one in heads if one.size <= at), default=0)
        assert before < first_named(copy) <= at + 1, at


@pytest.mark.parametrize("kind", KINDS)
def test_behind_the_end_it_is_named(whole: Path, tmp_path: Path, kind: Kind) -> None:
    """With its hash and without."""
    for hashed in False, True:
        lines = attacked(whole, tmp_path / "copy", lambda lines: [*lines, of_kind(kind, len(lines) + 1)])
        if hashed:
            only(tmp_path / "copy", HASHES).write_bytes(b"".join(map(leaf_hash, lines)))
        assert first_named(tmp_path / "copy") == len(lines)


@pytest.mark.parametrize("kind", KINDS)
def test_behind_the_last_head_of_an_open_log_it_is_said_not_to_be_signed(tmp_path: Path, kind: Kind) -> None:
    """It looks like what the proxy will sign with its next head; it proves nothing, and takes nothing from what is said else."""
    files, late = log(tmp_path, Clock()), BEGAN + timedelta(hours=1)
    write(files, 3 * EVERY, checkpoint_every=EVERY)
    path = only(tmp_path, RECORDS)
    lines = path.read_bytes().rstrip(b"\0").splitlines()
    before = verified(tmp_path, late)
    assert [fault.unknown for fault in before.faults] == [True]
    heads = [head(path.stem, len(lines), root_of([leaf_hash(line) for line in lines]))]
    forged = of_kind(kind, len(lines) + 1, **({"heads": heads} if kind == "log.heads" else {}))
    path.write_bytes(b"".join(line + b"\n" for line in (*lines, forged)))
    after = verified(tmp_path, late)
    assert [(fault.file, fault.unknown) for fault in after.faults] == [(fault.file, fault.unknown) for fault in before.faults]
    assert after.proven == before.proven == len(lines)
    assert [(note.record, note.text) for note in after.notes] == [
        (len(lines) + 1, "1 records behind the last checkpoint are not signed yet")
    ]


ODD: Final[tuple[object, ...]] = (
    None, True, -1, 10**40, 1.5, "", "x", [], [[]], [{}], {}, {"file": [], "root": None, "size": 10**40},
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_any_kind_break_nothing(tmp_path: Path, kind: Kind) -> None:
    """Records that nothing has signed are said to be so whatever stands in them: behind an end, and in the only file."""
    write(log(tmp_path, Clock()), EVERY, checkpoint_every=EVERY)
    path = only(tmp_path, RECORDS)
    lines = path.read_bytes().rstrip(b"\0").splitlines()
    behind, alone = path.with_name(path.name.replace("20261127", "20261128")), tmp_path / "alone" / path.name
    alone.parent.mkdir()
    for field in (*FIELDS[kind], "kind", "time"):
        for odd in ODD:
            forged, another = (numbered(line_of(kind, {**FIELDS[kind], field: odd}), len(lines) + 1 + i) for i in range(2))
            path.write_bytes(b"".join(line + b"\n" for line in (*lines, forged)))
            for unsigned in behind, alone:
                unsigned.write_bytes(forged + b"\n" + another + b"\n")
                faults = [(fault.file, fault.text) for fault in verified(unsigned.parent).faults]
                assert (unsigned.stem, "no genuine checkpoint: nothing of this file is proven") in faults


@pytest.mark.parametrize(
    "line", [b"[" * 200_000, b'{"a":' * 200_000, b'{"sequence":%s}' % (b"9" * 5000), b"\xff\xfe{\x00", canonical("x")], ids=len
)
def test_what_is_no_record_is_none(line: bytes) -> None:
    assert record_of(line) is None


def test_the_docs_name_every_kind() -> None:
    assert set(KINDS) <= set(re.findall(r"`([a-z_.]+)`", DOCS.read_text()))
    assert set(FIELDS) == set(KINDS)
