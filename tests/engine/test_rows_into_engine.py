"""Rows on their way: DataRow to CopyData by one byte, to arrays by their fields; counted; refused where they are something else."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.engine.failures import LimitExceeded
from phiproxy.engine.rows_into_engine import COPY_BEGIN, COPY_END, Column, ColumnType, Counted, arrays, copied, table_of, unnested
from phiproxy.errors import WireError
from phiproxy.wire.arrays import array_from_binary
from phiproxy.wire.copy_binary import BinaryCodec
from phiproxy.wire.copy_rows import CopyFormat
from tests.engine.both import compute, data_row

FIELD = st.none() | st.binary(max_size=20)
TEXT = Column(25)
ROWS = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(FIELD, min_size=width, max_size=width), max_size=8))


@given(ROWS)
def test_many_rows_are_copy_binary(rows: list[list[bytes | None]]) -> None:
    messages, count = copied(b"".join(map(data_row, rows)))
    assert count == len(rows)
    codec = BinaryCodec(CopyFormat("binary"), 1 << 20)
    everything, read, at = COPY_BEGIN + messages + COPY_END, [], 0
    while everything[at : at + 1] == b"d":
        end = at + 1 + int.from_bytes(everything[at + 1 : at + 5], "big")
        read += codec.feed(everything[at + 5 : end])
        at = end
    assert everything[at:] == b"c\0\0\0\4"
    assert codec.ended
    assert codec.error is None
    assert read == rows


@given(ROWS)
def test_few_rows_are_arrays(rows: list[list[bytes | None]]) -> None:
    width = len(rows[0]) if rows else 1
    values = arrays([data_row(row) for row in rows], (TEXT,) * width)
    columns = [array_from_binary(value).elements for value in values]
    assert columns == [tuple(row[n] for row in rows) for n in range(width)]


def test_a_source_without_columns_is_a_number_of_rows() -> None:
    assert arrays([data_row([]), data_row([]) * 2], ()) == [pack("!q", 3)]
    assert b"generate_series(1, $4" in unnested((), (), 4)


@pytest.mark.parametrize(
    "data",
    [
        data_row([b"x"])[:-1],
        data_row([b"x"])[:4],
        b"C" + data_row([b"x"])[1:],
        data_row([b"x"]) + b"Z\0\0\0\5I",
    ],
)
def test_what_is_no_row_of_the_source_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        copied(data)
    with pytest.raises(WireError):
        arrays([data], (TEXT,))


def test_a_row_with_another_number_of_fields_is_refused() -> None:
    with pytest.raises(WireError):
        arrays([data_row([b"x", b"y"])], (TEXT,))


def test_a_field_that_is_longer_than_its_row() -> None:
    lying = bytearray(data_row([b"xx"]))
    lying[10] = 9
    with pytest.raises(WireError, match="longer than its row"):
        arrays([bytes(lying)], (TEXT,))


def test_counting() -> None:
    counted = Counted(compute(limits={"rows": 2, "bytes": "10B"}).limits)
    counted.add(2, 10)
    with pytest.raises(LimitExceeded, match=r"more than 2 rows .*compute\.limits\.rows") as refused:
        counted.add(1, 0)
    assert refused.value.hint == "add a condition that an index answers"
    with pytest.raises(LimitExceeded, match=r"more than 10 bytes .*compute\.limits\.bytes"):
        Counted(compute(limits={"bytes": "10B"}).limits, "x").add(1, 11)


def test_the_texts() -> None:
    source = (TEXT, Column(1043, 24), Column(25, -1, '"de_DE"'))
    types = (ColumnType("text", "text[]"), ColumnType("character varying(20)", "character varying[]"), ColumnType("text", "text[]"))
    assert table_of("pg_temp.t", source, types) == (
        b"START TRANSACTION READ WRITE; CREATE TEMPORARY TABLE pg_temp.t"
        b' (c1 text, c2 character varying(20), c3 text COLLATE "de_DE") ON COMMIT DELETE ROWS; COMMIT'
    )
    assert unnested(source, types, 3) == (
        b'(SELECT u.c1, CAST(u.c2 AS character varying(20)) AS c2, CAST(u.c3 AS text) COLLATE "de_DE" AS c3'
        b" FROM ROWS FROM (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::character varying[]),"
        b" pg_catalog.unnest($5::text[])) AS u (c1, c2, c3) OFFSET 0)"
    )
