"""Rows and Binds: the fast closure equals ten obvious lines, and lengths that lie end in WireError, never in a wrong value."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import WireError
from phiproxy.wire.fields import Bind, bind_names, compile_row, decode_bind, encode_bind, expand_formats
from phiproxy.wire.messages import message

Fields = Sequence[bytes | None]
FIELDS = st.lists(st.none() | st.binary(max_size=40), max_size=12)


def data_row(fields: Fields) -> bytes:
    """Return a DataRow."""
    parts = [struct.pack("!i", -1) if f is None else struct.pack("!i", len(f)) + f for f in fields]
    return message(b"D", struct.pack("!H", len(fields)) + b"".join(parts))


def reference(fields: Fields, ops: Mapping[int, Callable[[bytes], bytes]]) -> bytes:
    """Decode, map, encode: what compile_row must equal."""
    return data_row([ops[i](f) if f is not None and i in ops else f for i, f in enumerate(fields)])


def _reversed(value: bytes) -> bytes:
    return value[::-1]


def _longer(value: bytes) -> bytes:
    return value + value + b"!"


@given(fields=FIELDS, touched=st.sets(st.integers(0, 11)), before=st.binary(max_size=10), behind=st.binary(max_size=10))
def test_the_closure_equals_the_reference(fields: list[bytes | None], touched: set[int], before: bytes, behind: bytes) -> None:
    ops = {i: (_reversed if i % 2 else _longer) for i in touched if i < len(fields)}
    row = compile_row(list(ops.items()), len(fields))
    sent = data_row(fields)
    assert row(before + sent + behind, len(before), len(before) + len(sent)) == reference(fields, ops)


@given(garbage=st.binary(max_size=60), columns=st.integers(0, 6))
def test_garbage_is_a_wire_error_or_a_row_of_the_planned_width(garbage: bytes, columns: int) -> None:
    row = compile_row([(i, _reversed) for i in range(columns)], columns)
    sent = message(b"D", garbage)
    try:
        made = row(sent, 0, len(sent))
    except WireError:
        return
    assert struct.unpack_from("!H", made, 5)[0] == columns


def test_another_number_of_columns_than_planned_is_refused() -> None:
    row = compile_row([(0, _reversed)], 2)
    sent = data_row([b"a"])
    with pytest.raises(WireError):
        row(sent, 0, len(sent))


def test_what_a_field_function_raises_passes() -> None:
    def broken(_value: bytes) -> bytes:
        raise LookupError

    row = compile_row([(0, broken)], 1)
    sent = data_row([b"a"])
    with pytest.raises(LookupError):
        row(sent, 0, len(sent))
    null = data_row([None])
    assert row(null, 0, len(null)) == null


@given(
    portal=st.binary(max_size=8).filter(lambda b: 0 not in b),
    statement=st.binary(max_size=8).filter(lambda b: 0 not in b),
    values=FIELDS,
    results=st.lists(st.integers(0, 1), max_size=4),
)
def test_bind_comes_back_as_it_was(portal: bytes, statement: bytes, values: list[bytes | None], results: list[int]) -> None:
    bind = Bind(portal, statement, tuple(i % 2 for i in range(len(values))), values, tuple(results))
    sent = encode_bind(bind)
    assert decode_bind(sent, 5, len(sent)) == bind
    assert bind_names(sent, 5, len(sent))[:2] == (portal, statement)


@given(garbage=st.binary(max_size=60))
def test_a_broken_bind_is_a_wire_error(garbage: bytes) -> None:
    try:
        bind = decode_bind(garbage, 0, len(garbage))
    except WireError:
        return
    assert len(bind.formats) == len(bind.values)


def test_format_codes_are_none_one_or_all() -> None:
    assert expand_formats((), 3) == (0, 0, 0)
    assert expand_formats((1,), 3) == (1, 1, 1)
    assert expand_formats((0, 1, 0), 3) == (0, 1, 0)
    for codes, n in (((0, 1), 3), ((2,), 1)):
        with pytest.raises(WireError):
            expand_formats(codes, n)
