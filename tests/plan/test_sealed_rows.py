"""Rows opened in one loop are those that are opened field by field; what is not ordinary is left to that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.crypto.keyring import DataKey
from phiproxy.crypto.seal import draw_record
from phiproxy.errors import KeyNeeded, PhiproxyError
from phiproxy.long_values import LONG_VALUE
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.sealed_rows import Sealed, compile_sealed_rows
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.wire.fields import FieldFunction, RowsFunction, compile_rows
from tests.clinic_model import PATIENTS
from tests.plan.rings import full_ring
from tests.session import frames as f

SSN, MRN = PATIENTS.columns["ssn"], PATIENTS.columns["mrn"]
PADDED = replace(SSN, pad=32, name="padded")
AT = ((1, SSN), (2, MRN), (4, PADDED))
OTHER = DataKey(77, SSN.scope, "", 1, b"o" * 32, "active")
BY_STATE = DataKey(78, SSN.scope, "", 1, b"c" * 32, "compromised")


def ciphers(notes: list[tuple[str, int]] | None = None) -> Ciphers:
    def noticed(column: str, key: DataKey | None, *, masked: bool) -> Callable[[], object]:
        assert not masked
        assert key is not None
        return lambda: notes.append((column, key.id)) if notes is not None else None

    ring = full_ring()
    for each in (OTHER, BY_STATE):
        ring.put_data_key(each, 1e9)
    return Ciphers(ring, noticed if notes is not None else None)


CIPHERS = ciphers()


def upper(value: bytes) -> bytes:
    return value.upper()


def both(using: Ciphers) -> tuple[RowsFunction, RowsFunction, list[int], list[int]]:
    """Return what opens rows field by field, and in one loop, and what each counts; the padded column is written in capitals."""
    ops, sealed = [], list[Sealed]()
    for position, column in AT:
        opener = using.open_span(column)
        write: FieldFunction | None = upper if column is PADDED else None
        known = using.known_by(opener)
        assert known is not None
        ops.append((position, opener if write is None else lambda data, begin, end, o=opener: upper(o(data, begin, end))))
        sealed.append((position, known, write))
    one, other = [0], [0]
    return compile_rows(ops, 6, one), compile_sealed_rows(sealed, 6, other, compile_rows(ops, 6)), one, other


def envelope(column: ProtectedColumn, value: bytes | None, key: DataKey | None) -> bytes | None:
    if value is None:
        return None
    (macs,) = CIPHERS.macs([column])
    record = CIPHERS.draw(column.scope, 1)[0] if key is None or column is MRN else draw_record(key)
    return CIPHERS.row_store(column)(value, record, macs)


values = st.none() | st.text("ab", max_size=12).map(str.encode)
rows = st.tuples(values, values, values, values, values, values, st.sampled_from([None, None, OTHER, BY_STATE]))


def sealed_row(row: tuple[bytes | None, ...], key: DataKey | None) -> bytes:
    fields = list(row)
    for position, column in AT:
        fields[position] = envelope(column, row[position], key)
    return f.data_row(*fields)


def result(opening: RowsFunction, data: bytes, begin: int = 0) -> tuple[int, bytes] | str:
    shown: list[bytes] = []
    try:
        return opening(data, begin, len(data), shown), b"".join(shown)
    except (PhiproxyError, KeyNeeded) as error:
        return f"{type(error).__name__} {error}"


@given(st.lists(rows, max_size=6), st.sampled_from([b"", b"C\0\0\0\x05x", b"D\0\0\0\x40\0\x06"]))
def test_rows_are_opened_as_field_by_field(drawn: list[tuple[bytes | None, ...]], behind: bytes) -> None:
    notes = list[tuple[str, int]]()
    using = ciphers(notes)
    by_field, at_once, one, other = both(using)
    data = b"T" + b"".join(sealed_row(row[:6], row[6]) for row in drawn) + behind  # type: ignore[arg-type]
    for _ in range(2):
        opened, noted = result(at_once, data, 1), [*notes]
        notes.clear()
        assert opened == result(by_field, data, 1)
        assert noted == notes
        assert one == other
        notes.clear()
        using._memo.forget_headers()


ROW = sealed_row((b"1", b"a", b"b", b"c", b"d", b"e"), None)


@given(st.integers(7, len(ROW) - 1), st.integers(0, 255), st.booleans())
def test_whatever_is_wrong_is_said_as_field_by_field(at: int, byte: int, first: bool) -> None:
    by_field, at_once, *_ = both(CIPHERS)
    wrong = ROW[:at] + bytes([byte]) + ROW[at + 1 :]
    data = wrong + ROW if first else ROW + ROW + wrong
    assert result(at_once, data) == result(by_field, data)


@pytest.mark.parametrize(
    "frame",
    [
        f.data_row(*[b"x"] * 6),
        f.data_row(*[b"x"] * 5),
        f.data_row(b"1", envelope(MRN, b"a", None), None, None, None, None),
        f.data_row(b"1", None, None, None, envelope(SSN, b"a", None), None),
        ROW[:1] + (30).to_bytes(4, "big") + ROW[5:],
        b"D\0\0\0\2\0\6",
        b"D\0\0\0\2",
        f.data_row(b"1", envelope(SSN, b"a" * (LONG_VALUE + 1), None), None, None, None, None),
    ],
)
def test_other_rows_are_left_to_what_opens_field_by_field(frame: bytes) -> None:
    by_field, at_once, one, other = both(CIPHERS)
    for data in (frame, ROW + frame, ROW + frame + ROW, ROW + frame + b"\0" * 9):
        assert result(at_once, data) == result(by_field, data)
        assert one == other


def test_a_key_that_is_dropped_is_asked_for_again() -> None:
    ring = full_ring()
    _, at_once, *_ = both(Ciphers(ring))
    opened = result(at_once, ROW)
    assert isinstance(opened, tuple)
    assert opened[0] == len(ROW)
    ring.clear()
    assert "KeyNeeded" in str(result(at_once, ROW))


def test_each_opening_is_noted_once() -> None:
    notes = list[tuple[str, int]]()
    _, at_once, *_ = both(ciphers(notes))
    result(at_once, ROW * 3 + sealed_row((b"1", b"a", b"b", b"c", b"d", b"e"), OTHER))
    ordinary, other = [column.label for _, column in AT], [label for label, _ in notes[9:]]
    assert [label for label, _ in notes[:9]] == ordinary * 3
    assert other == ordinary


def test_ordinary_rows_are_left_to_nobody() -> None:
    def left(_data: bytes, _at: int, _end: int, _shown: list[bytes]) -> int:
        raise AssertionError("a row is opened field by field")

    own = ciphers()
    openers = [(position, own.open_span(column)) for position, column in AT]
    known = [(position, own.known_by(opener)) for position, opener in openers]
    for _ in range(2):  # a data key that is met for the first time makes all headers be looked at again
        result(compile_rows(openers, 6), ROW)
    at_once = compile_sealed_rows([(n, k, None) for n, k in known if k is not None], 6, [0], left)
    nulls = sealed_row((None,) * 6, None)
    assert result(at_once, ROW + nulls + ROW) == result(compile_rows(openers, 6), ROW + nulls + ROW)
    with pytest.raises(AssertionError, match="field by field"):
        result(at_once, ROW + f.data_row(*[b"x"] * 6))


def test_what_does_more_than_open_is_not_known() -> None:
    assert CIPHERS.known_by(partial(CIPHERS.open_span(SSN))) is None
