"""What opens a masked column: its mask in every format, NULL where that is what it shows, and a note for the audit log."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.access.rules import Masked
from phiproxy.access.shows import DENY, Show, read_show
from phiproxy.errors import ColumnMasked, KeyNeeded, LongWorkNeeded, MaskKeyWant
from phiproxy.long_values import LONG_VALUE
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.copy_sealing import CopyOut
from phiproxy.plan.result_columns import Columns
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.result import ProtectedCopy, Reveal
from phiproxy.types.declared import DeclaredType
from phiproxy.wire.copy_rows import CopyFormat
from tests.clinic_model import PATIENTS, protected
from tests.plan.rings import FAR, full_ring

SSN = PATIENTS.columns["ssn"]
BORN = protected("patients", "born", 9, type_=DeclaredType.builtin("date"), slots=())
NOTES: list[tuple[str, bool, bool]] = []


def noticed(column: str, key: object, *, masked: bool) -> None:
    NOTES.append((column, key is not None, masked))


def as_seen(column: ProtectedColumn, show: Show, role: str = "") -> ProtectedColumn:
    return replace(column, masked=Masked(show, role))


def row_of(value: bytes | None) -> bytes:
    field = b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
    return b"D" + (6 + len(field)).to_bytes(4, "big") + b"\0\1" + field


def shown(column: ProtectedColumn, value: bytes, *, binary: bool = False, ciphers: Ciphers | None = None) -> bytes:
    ciphers = ciphers or Ciphers(full_ring(), noticed)
    bare = replace(column, masked=None)
    envelope = ciphers.stores([bare])[bare](value, ciphers.draw(column.scope, 1)[0])
    opener = Columns((Reveal(column, column.type),)).rows(ciphers, binary=True, formats=(int(binary),))
    pieces: list[bytes] = []
    ciphers.look_at_clock()
    data = row_of(envelope)
    assert opener(data, 0, len(data), pieces) == len(data)
    return b"".join(pieces)


def test_each_format() -> None:
    NOTES.clear()
    assert shown(as_seen(SSN, read_show("last(4)")), b"078-05-1120") == row_of(b"*******1120")
    assert shown(as_seen(SSN, read_show("null")), b"078-05-1120") == row_of(None)
    assert shown(as_seen(SSN, read_show("fixed(?)")), b"078-05-1120") == row_of(b"?")
    assert shown(as_seen(BORN, read_show("year")), b"2000-04-17") == row_of(b"2000-01-01")
    assert shown(as_seen(BORN, read_show("year")), b"2000-04-17", binary=True) == row_of(bytes(4))
    assert shown(SSN, b"x") == row_of(b"x")
    label = "public.patients.ssn"
    assert NOTES[0] == (label, True, True)
    assert NOTES[1:3] == [(label, False, True)] * 2
    assert NOTES[-1] == (label, True, False)


def test_a_pseudonym_needs_the_key_of_its_role() -> None:
    ring, column = full_ring(), as_seen(SSN, read_show("pseudonym"), "research")
    with pytest.raises(KeyNeeded) as needed:
        shown(column, b"1", ciphers=Ciphers(ring))
    assert needed.value.wants == {MaskKeyWant(1, "research")}
    for role, key in (("research", b"k" * 32), ("other", b"l" * 32)):
        ring.put_index_key(1, role, key, 1, FAR)
    same = {shown(column, b"1", ciphers=Ciphers(ring)) for _ in range(2)}
    assert len(same) == 1
    assert same != {shown(column, b"2", ciphers=Ciphers(ring))}
    assert same != {shown(as_seen(SSN, read_show("pseudonym"), "other"), b"1", ciphers=Ciphers(ring))}


def test_a_pseudonym_of_a_long_value_needs_no_key_in_another_thread() -> None:
    ring, column = full_ring(), as_seen(SSN, read_show("pseudonym"), "research")
    ring.put_index_key(1, "research", b"k" * 32, 1, FAR)
    value, expected = b"x" * (LONG_VALUE + 1), shown(column, b"x", ciphers=Ciphers(ring))
    ciphers = Ciphers(ring)
    with ciphers.long_work.given([value]), pytest.raises(LongWorkNeeded) as needed:
        shown(column, value, ciphers=ciphers)
    ring.clear()
    masked = needed.value.work()
    assert isinstance(masked, bytes)
    assert len(row_of(masked)) == len(expected)


def test_what_is_denied_has_no_opener() -> None:
    with pytest.raises(ColumnMasked):
        Columns((Reveal(as_seen(SSN, DENY), SSN.type),))


def test_a_long_value_and_copy() -> None:
    column, ciphers = as_seen(SSN, read_show("last(4)")), Ciphers(full_ring())
    envelope = ciphers.stores([SSN])[SSN](b"078-05-1120", ciphers.draw(SSN.scope, 1)[0])
    form = CopyFormat(format="text", delimiter=b"\t", null=b"\\N", escape=b'"', single=True)
    for show, line in ((column, b"*******1120\n"), (as_seen(SSN, read_show("null")), b"\\N\n")):
        copy = ProtectedCopy("patients", ("ssn",), (Reveal(show, SSN.type),), form, incoming=False, skips_errors=False)
        assert CopyOut(copy, ciphers, 1 << 20).feed(b"\\\\x" + envelope.hex().encode() + b"\n") == line
