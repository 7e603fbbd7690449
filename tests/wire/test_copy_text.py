"""The text format: escapes, ends of lines, the end marker; a stream cut anywhere says the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.wire.copy_rows import CopyFormat
from phiproxy.wire.copy_text import TextCodec, unescape
from tests.wire.copies import LIMIT, Values, chunks, everything_is_long, rows, spelled, take, values

TEXT = CopyFormat()
CORRUPT = "end-of-copy marker corrupt"


def stream(data: bytes, form: CopyFormat = TEXT) -> tuple[Values, str]:
    """Return the values and the error of a stream, which are the same where its rows count as long."""
    codec = TextCodec(form, LIMIT)
    found, error = take(codec, iter([data]))
    read = values(codec, found), "" if error is None else error.message
    with everything_is_long():
        codec = TextCodec(form, LIMIT)
        found, error = take(codec, iter([data]))
        assert (values(codec, found), "" if error is None else error.message) == read
    return read


@given(rows, st.lists(st.integers(0, 999)), st.sampled_from([b"\t", b"|", b","]), st.booleans())
def test_decode_of_encode_and_any_cut(wanted: Values, cuts: list[int], delimiter: bytes, end: bool) -> None:
    form = CopyFormat(delimiter=delimiter)
    server = TextCodec(form, LIMIT, from_server=True)
    data = server.join(spelled(server, wanted, b"\\N"))
    client = TextCodec(form, LIMIT)
    found, error = take(client, chunks(data if end else data[:-1], cuts))
    assert error is None
    assert values(client, found) == wanted
    if end:
        assert client.join(found) == data


@given(rows, st.lists(st.integers(0, 999)), st.sampled_from([b"\t", b"|", b","]), st.booleans())
def test_long_rows_are_taken_in_pieces(wanted: Values, cuts: list[int], delimiter: bytes, end: bool) -> None:
    with everything_is_long():
        test_decode_of_encode_and_any_cut.hypothesis.inner_test(wanted, cuts, delimiter, end)  # type: ignore[attr-defined]


@given(st.lists(st.binary(max_size=9)), st.sampled_from([b"", b"a", b"\\N", b"a\\"]), st.sampled_from([None, b"b", b"\\D"]))
def test_fields_of_bare_rows_are_their_own_values(data: list[bytes], null: bytes, default: bytes | None) -> None:
    codec = TextCodec(CopyFormat(null=null, default=default), LIMIT)
    for piece in (b"a\tb\n", *data, b"\n"):
        found = codec.feed(piece)
        if codec.bare:
            assert values(codec, found) == found


def test_rows_are_told_to_be_ascii_as_a_whole() -> None:
    codec = TextCodec(TEXT, LIMIT)
    told = []
    for data in (b"a\tb\n", b"a\t\xc3\xa9\n", b"a\t\0\n", b"a\t\\N\n", b"a\tc\nd\t\xc3", b"\xa9\ne\tf\n"):
        codec.feed(data)
        told.append(codec.ascii)
    assert told == [True, False, False, False, False, False]


def test_rows_are_bare_where_nothing_is_escaped_or_can_be_null() -> None:
    codec = TextCodec(TEXT, LIMIT)
    for data, bare in ((b"a\tb\n", True), (b"a\t\\N\n", False), (b"a\tc\n", True), (b"\\x\n", False)):
        codec.feed(data)
        assert codec.bare is bare
    named = TextCodec(CopyFormat(null=b"NULL"), LIMIT)
    named.feed(b"a\tNULL\n")
    assert not named.bare


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        (rb"\b\f\n\r\t\v", b"\b\f\n\r\t\v"),
        (rb"\101\x42\x4g\q\\", b"ABg".replace(b"g", b"\x04g") + b"q\\"),
        (rb"\0", b"\0"),
        (rb"\777\400", b"\xff\x00"),
        (b"a\\\nb\\\tc", b"a\nb\tc"),
        (rb"\xg", b"xg"),
        (b"plain", b"plain"),
        (rb"\\x00ff", rb"\x00ff"),
        (rb"\\", b"\\"),
        (rb"\\x00\t\\", b"\\x00\t\\"),
        (rb"\\\x41", rb"\A"),
    ],
)
def test_escapes(spelling: bytes, value: bytes) -> None:
    assert unescape(spelling) == value


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"a\tb\nc\td\n", [[b"a", b"b"], [b"c", b"d"]]),
        (b"a\tb\r\nc\td\r\n", [[b"a", b"b"], [b"c", b"d"]]),
        (b"a\tb\rc\td\r", [[b"a", b"b"], [b"c", b"d"]]),
        (b"a\\\nb\tc\nd\te", [[b"a\nb", b"c"], [b"d", b"e"]]),
        (b"a\\\tb\n", [[b"a\tb"]]),
        (b"a\\\\\tb\n", [[b"a\\", b"b"]]),
        (b"\\N\tN\\N\n", [[None, b"NN"]]),
        (b"a\n\\.\nb\n", [[b"a"]]),
        (b"a\\.\nb\n", [[b"a"]]),
        (b"a\nb\\", [[b"a"], [b"b"]]),
        (b"\n\n", [[b""], [b""]]),
        (b"a\r", [[b"a"]]),
        (b"\\\\.\n", [[b"\\."]]),
        (b"", []),
    ],
)
def test_streams(data: bytes, wanted: Values) -> None:
    assert stream(data) == (wanted, "")
    codec = TextCodec(TEXT, LIMIT)
    found, _ = take(codec, (data[i : i + 1] for i in range(len(data))))
    assert values(codec, found) == wanted


@pytest.mark.parametrize(
    ("data", "wanted", "error"),
    [
        (b"a\nb\rc\n", [[b"a"]], "literal carriage return found in data"),
        (b"a\r\nb\nc\r\n", [[b"a"]], "literal newline found in data"),
        (b"a\rb\nc\r", [[b"a"]], "literal newline found in data"),
        (b"a\r\nb\n", [[b"a"]], "literal newline found in data"),
        (b"a\n\\.b\n", [[b"a"]], CORRUPT),
        (b"a\n\\.", [[b"a"]], CORRUPT),
        (b"a\nb\\.", [[b"a"]], CORRUPT),
        (b"a\n\\.\r\n", [[b"a"]], "end-of-copy marker does not match previous newline style"),
        (b"a\r\n\\.\n", [[b"a"]], "end-of-copy marker does not match previous newline style"),
    ],
)
def test_broken_streams(data: bytes, wanted: Values, error: str) -> None:
    assert stream(data) == (wanted, error)
    newer = "end-of-copy marker is not alone on its line" if error == CORRUPT else error
    assert stream(data, CopyFormat(marker_ends_csv=False)) == (wanted, newer)


def test_newer_servers_take_no_row_before_the_marker() -> None:
    error = "end-of-copy marker is not alone on its line"
    assert stream(b"a\nb\\.\n", CopyFormat(marker_ends_csv=False)) == ([[b"a"]], error)


def test_null_and_default_are_left_alone() -> None:
    codec = TextCodec(CopyFormat(null=b"", default=b"\\D"), LIMIT)
    assert [codec.read(raw, 0) for raw in (b"", b"\\D", b"x")] == [None, None, b"x"]


def test_bytea_and_lines() -> None:
    codec = TextCodec(TEXT, LIMIT)
    assert codec.write_bytea(b"\xf5P") == b"".join(codec.long_bytea(b"\xf5P")) == rb"\\xf550"
    assert codec.read(codec.poison(), 0) == rb"\xz"
    assert codec.line(codec.feed(b"a\nb\n"), 1) == 2
    assert codec.line(codec.feed(b"c\n"), 0) == 3
