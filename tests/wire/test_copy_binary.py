"""The binary format: header, rows, trailer; a stream cut anywhere says the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.wire.copy_binary import SIGNATURE, BinaryCodec
from phiproxy.wire.copy_rows import CopyFormat, RowTooLong
from tests.wire.copies import LIMIT, Values, chunks, rows, take, values

BINARY = CopyFormat("binary")
HEAD = SIGNATURE + bytes(8)
ROW = b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"
END = b"\xff\xff"


@given(rows, st.lists(st.integers(0, 999)), st.binary(max_size=5))
def test_decode_of_encode_and_any_cut(wanted: Values, cuts: list[int], extension: bytes) -> None:
    head = SIGNATURE + bytes(4) + len(extension).to_bytes(4, "big") + extension
    writer = BinaryCodec(BINARY, LIMIT)
    data = head + writer.join([[*row] for row in wanted]) + END
    codec = BinaryCodec(BINARY, LIMIT)
    sent = bytearray()
    found: Values = []
    for piece in chunks(data, cuts):
        some = codec.feed(piece)
        found += values(codec, some)
        sent += codec.join(some)
    assert codec.finish() == []
    assert codec.error is None
    assert found == wanted
    assert bytes(sent) == data


@pytest.mark.parametrize(
    ("data", "count", "error"),
    [
        (b"PGCOPX\n\xff\r\n\0" + bytes(8), 0, "COPY file signature not recognized"),
        (b"PG", 0, "COPY file signature not recognized"),
        (SIGNATURE + b"\0\x01" + bytes(6), 0, "unrecognized critical flags in COPY file header"),
        (SIGNATURE + bytes(4) + b"\xff" * 4, 0, "invalid COPY file header (missing length)"),
        (HEAD + ROW + ROW[:-1], 1, "unexpected EOF in COPY data"),
        (HEAD + ROW + END + b"x", 1, "received copy data after EOF marker"),
        (HEAD + b"\0\x01\xff\xff\xff\xfe", 0, "invalid field size"),
        (HEAD + ROW, 1, ""),
        (HEAD + END, 0, ""),
    ],
)
def test_streams(data: bytes, count: int, error: str) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        found, failure = take(BinaryCodec(BINARY, LIMIT), iter(pieces))
        assert len(found) == count
        assert (failure.message if failure else "") == error


def test_a_row_that_claims_too_much_is_refused_before_it_comes() -> None:
    with pytest.raises(RowTooLong):
        BinaryCodec(BINARY, 1000).feed(HEAD + b"\0\x01\0\0\x10\0")


def test_fields_are_values() -> None:
    codec = BinaryCodec(BINARY, LIMIT)
    assert codec.write(b"x", 0) == codec.write_bytea(b"x") == codec.read(b"x", 0) == b"x"
    assert codec.poison() == b""
    assert codec.line(codec.feed(HEAD + ROW + ROW), 1) == 2
    assert codec.line(codec.feed(ROW), 0) == 3
