"""The CSV format: quotes anywhere in a field, ends of lines in them, FORCE_…; a stream cut anywhere says the same."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.wire.copy_csv import CsvCodec
from phiproxy.wire.copy_rows import CopyFormat, RowTooLong
from tests.wire.copies import LIMIT, Values, chunks, everything_is_long, rows, spelled, take, values

CSV = CopyFormat("csv", b",", b"")
BACKSLASH = CopyFormat("csv", b";", b"\\N", b"'", b"\\")
LETTERS = CopyFormat("csv", b"0", b"", b"x", b"x")


def stream(data: bytes, form: CopyFormat = CSV) -> tuple[Values, str]:
    codec = CsvCodec(form, LIMIT)
    found, error = take(codec, iter([data]))
    return values(codec, found), "" if error is None else error.message


@given(rows, st.lists(st.integers(0, 999)), st.sampled_from([CSV, BACKSLASH, LETTERS]), st.booleans())
def test_decode_of_encode_and_any_cut(wanted: Values, cuts: list[int], form: CopyFormat, end: bool) -> None:
    server = CsvCodec(form, LIMIT, from_server=True)
    data = server.join(spelled(server, wanted, form.null))
    client = CsvCodec(form, LIMIT)
    found, error = take(client, chunks(data if end else data[:-1], cuts))
    assert error is None
    assert values(client, found) == wanted
    if end:
        assert client.join(found) == data


@given(rows, st.lists(st.integers(0, 999)), st.sampled_from([CSV, BACKSLASH, LETTERS]), st.booleans())
def test_long_records_are_taken_in_pieces(wanted: Values, cuts: list[int], form: CopyFormat, end: bool) -> None:
    with everything_is_long():
        test_decode_of_encode_and_any_cut.hypothesis.inner_test(wanted, cuts, form, end)  # type: ignore[attr-defined]


@given(
    st.text(st.sampled_from('ab"\\N,'), max_size=5),
    st.sampled_from([frozenset(), frozenset({0})]),
    st.sampled_from([frozenset(), frozenset({0})]),
    st.sampled_from([b"", b"\\N", b"a"]),
    st.sampled_from([None, b"b", b"\\D"]),
)
def test_a_columns_reader_reads_as_read_does(
    text: str, not_null: frozenset[int], null: frozenset[int], spelled: bytes, default: bytes | None
) -> None:
    codec = CsvCodec(CopyFormat("csv", b",", spelled, default=default, force_not_null=not_null, force_null=null), LIMIT)
    assert codec.reader(0)(text.encode()) == codec.read(text.encode(), 0)
    assert codec.reader(0)(None) is None


@given(st.lists(st.lists(st.text(st.sampled_from('ab,"\n '), max_size=6), min_size=2, max_size=3), min_size=1, max_size=4))
def test_as_pythons_own_reader(wanted: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(wanted)
    assert stream(out.getvalue().encode()) == ([[v.encode() for v in row] for row in wanted], "")


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"a,b\nc,d\n", [[b"a", b"b"], [b"c", b"d"]]),
        (b'"a\nb","c""d"\r\ne,f\r\n', [[b"a\nb", b'c"d'], [b"e", b"f"]]),
        (b'a"b,c"d,e\n', [[b"ab,cd", b"e"]]),
        (b'"",,x\n', [[b"", None, b"x"]]),
        (b"a\n\\.\nb\n", [[b"a"]]),
        (b'a\r"b\r"\r', [[b"a"], [b"b\r"]]),
        (b'"a"\r', [[b"a"]]),
        (b'x,"\n\n', []),
    ],
)
def test_streams(data: bytes, wanted: Values) -> None:
    found, error = stream(data)
    assert found == wanted
    assert error == ("unterminated CSV quoted field" if data.endswith(b"\n\n") else "")
    codec = CsvCodec(CSV, LIMIT)
    again, _ = take(codec, (data[i : i + 1] for i in range(len(data))))
    assert values(codec, again) == wanted


def test_a_marker_is_data_from_version_18_on() -> None:
    assert stream(b"a\n\\.\nb\n", CopyFormat("csv", b",", b"", marker_ends_csv=False))[0] == [[b"a"], [b"\\."], [b"b"]]


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"a\nb\rc\n", "unquoted carriage return found in data"), (b"a\r\nb\n\r\n", "unquoted newline found in data")],
)
def test_broken_streams(data: bytes, error: str) -> None:
    assert stream(data) == ([[b"a"]], error)


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        (rb"'a\'b'", b"a'b"),
        (rb"'a\\b'", b"a\\b"),
        (rb"'a\b'", b"a\\b"),
        (rb"a\'b;c'", b"a\\b;c"),
        (rb"\N", None),
        (rb"'\N'", b"\\N"),
    ],
)
def test_an_escape_of_its_own(spelling: bytes, value: bytes | None) -> None:
    assert stream(spelling + b"\n", BACKSLASH) == ([[value]], "")


def test_forced_columns() -> None:
    form = CopyFormat("csv", b",", b"", force_not_null=frozenset({1, 3}), force_null=frozenset({2, 3}), force_quote=frozenset({0}))
    assert stream(b',,"",""\n"",x,"y",z\n', form)[0] == [[None, b"", None, None], [b"", b"x", b"y", b"z"]]
    assert CsvCodec(form, LIMIT).write(b"a", 0) == b'"a"'


def test_what_the_server_would_quote() -> None:
    one = CsvCodec(CopyFormat("csv", b",", b"", single=True), LIMIT)
    many = CsvCodec(CSV, LIMIT)
    assert [many.write(v, 0) for v in (b"", b"a,b", b'a"b', b"\\.", b"a b")] == [b'""', b'"a,b"', b'"a""b"', b"\\.", b"a b"]
    assert one.write(b"\\.", 0) == b'"\\."'


def test_bytea_and_lines() -> None:
    assert CsvCodec(CSV, LIMIT).write_bytea(b"\xf5") == b'"\\xf5"'
    letters = CsvCodec(LETTERS, LIMIT)
    assert letters.read(letters.write_bytea(b"\x0f"), 0) == b"\\x0f"
    assert b"".join(letters.long_bytea(b"\x0f")) == letters.write_bytea(b"\x0f")
    assert letters.read(letters.poison(), 0) == b"\\xz"
    codec = CsvCodec(CSV, LIMIT)
    found = codec.feed(b'a\n"b\nc"\nd\n')
    assert [codec.line(found, i) for i in range(3)] == [1, 3, 4]
    assert codec.line(codec.feed(b"e\n"), 0) == 5


def test_a_quoted_field_without_end_is_refused_at_the_limit() -> None:
    codec = CsvCodec(CSV, 12)
    assert codec.feed(b"a\n") == [[b"a"]]
    assert codec.feed(b'b,"cc\ncc\n') == []
    with pytest.raises(RowTooLong):
        codec.feed(b"cc\n")
