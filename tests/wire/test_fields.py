"""The hot functions against what they mean: rows mapped by position, Bind taken apart and put together."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import KeyNeeded, MalformedMessage, SealError, WireError
from phiproxy.long_values import LONG_VALUE
from phiproxy.wire.fields import Bind, SpanFunction, bind_names, bind_parts, compile_rows, decode_bind, encode_bind, expand_formats
from tests.session.frames import data_row, values

FUNCTIONS: list[Callable[[bytes], bytes]] = [lambda v: v[::-1], lambda _v: b"", lambda v: v + v, lambda v: v]
fields = st.one_of(st.none(), st.binary(max_size=12))


@st.composite
def rows_and_ops(draw: st.DrawFn) -> tuple[list[bytes | None], list[tuple[int, Callable[[bytes], bytes]]]]:
    row = draw(st.lists(fields, max_size=8))
    positions = draw(st.lists(st.sampled_from(range(len(row))), unique=True)) if row else []
    return row, [(position, draw(st.sampled_from(FUNCTIONS))) for position in positions]


def reference(frame: bytes, ops: list[tuple[int, Callable[[bytes], bytes]]]) -> bytes:
    """Decode, map, encode."""
    mapped = values(frame)
    for position, function in ops:
        value = mapped[position]
        mapped[position] = None if value is None else function(value)
    return data_row(*mapped)


def spanned(function: Callable[[bytes], bytes]) -> SpanFunction:
    return lambda data, begin, end: function(data[begin:end])


@given(rows_and_ops(), st.binary(max_size=9), st.binary(max_size=9))
def test_a_compiled_row_is_the_reference(
    case: tuple[list[bytes | None], list[tuple[int, Callable[[bytes], bytes]]]], before: bytes, behind: bytes
) -> None:
    row, ops = case
    frame = data_row(*row)
    spans = [(position, spanned(function)) for position, function in ops]
    shown: list[bytes] = []
    end = len(before) + len(frame)
    assert compile_rows(spans, len(row))(before + frame + behind, len(before), end, shown) == end
    assert b"".join(shown) == reference(frame, ops)


@given(st.lists(rows_and_ops(), min_size=1, max_size=4), st.integers(0, 20))
def test_a_run_of_rows_ends_where_what_is_no_whole_row_begins(
    cases: list[tuple[list[bytes | None], list[tuple[int, Callable[[bytes], bytes]]]]], cut: int
) -> None:
    width, ops = len(cases[0][0]), cases[0][1]
    frames = [data_row(*row) for row, _ in cases if len(row) == width]
    whole, spans = b"".join(frames), [(position, spanned(function)) for position, function in ops]
    rows = compile_rows(spans, width)
    for behind in (b"", b"C\0\0\0\x0dSELECT 1\0", frames[0][: min(cut, len(frames[0]) - 1)]):
        shown: list[bytes] = []
        assert rows(whole + behind, 0, len(whole + behind), shown) == len(whole)
        assert b"".join(shown) == b"".join(reference(frame, ops) for frame in frames)


def test_null_is_given_to_no_function_and_empty_is_not_null() -> None:
    seen: list[bytes] = []

    def see(data: bytes, begin: int, end: int) -> bytes:
        seen.append(data[begin:end])
        return b"seen"

    frame = data_row(None, b"", b"x")
    shown: list[bytes] = []
    compile_rows([(0, see), (1, see)], 3)(frame, 0, len(frame), shown)
    assert b"".join(shown) == data_row(None, b"seen", b"x")
    assert seen == [b""]


@pytest.mark.parametrize("columns", [0, 1, 3])
def test_a_row_of_another_width_than_planned(columns: int) -> None:
    frame = data_row(b"a", b"b")
    with pytest.raises(WireError):
        compile_rows([], columns)(frame, 0, len(frame), [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\0\2",
        b"\0\2\0\0\0\1a",
        b"\0\2\0\0\0\1a\0\0\0",
        b"\0\2\0\0\0\1a\0\0\0\2b",
        b"\0\2\0\0\0\xffa\0\0\0\1b",
        b"\0\2\x7f\xff\xff\xffa\0\0\0\1b",
    ],
)
@pytest.mark.parametrize("next_frame", [b"", data_row(b"the next row", b"is not read") * 9, b"\xff" * 300])
def test_a_row_whose_lengths_lie_up_to_the_last_touched_field(body: bytes, next_frame: bytes) -> None:
    frame = b"D" + pack("!I", len(body) + 4) + body
    rows = compile_rows([(1, spanned(lambda v: v))], 2)
    if len(body) < 2 and not next_frame:
        assert rows(frame, 0, len(frame), []) == 0  # not even the number of its fields is there
        return
    with pytest.raises(WireError):
        rows(frame + next_frame, 0, len(frame + next_frame), [])


@pytest.mark.parametrize("failure", [SealError("broken"), KeyNeeded(())])
def test_what_a_field_function_raises_passes(failure: Exception) -> None:
    def fails(_data: bytes, _begin: int, _end: int) -> bytes:
        raise failure

    frame = data_row(b"a")
    with pytest.raises(type(failure)):
        compile_rows([(0, fails)], 1)(frame, 0, len(frame), [])


# -- Bind ----------------------------------------------------------------------------------------------------------------------

names = st.binary(max_size=6).map(lambda b: b.replace(b"\0", b""))
codes = st.integers(0, 65535)


@st.composite
def binds(draw: st.DrawFn) -> Bind:
    sent = draw(st.lists(fields, max_size=6))
    formats = draw(st.lists(codes, max_size=6))
    return Bind(draw(names), draw(names), tuple(formats), sent, tuple(draw(st.lists(codes, max_size=6))))


@given(binds(), st.binary(max_size=9), st.binary(max_size=9))
def test_bind_is_taken_apart_as_it_was_put_together(bind: Bind, before: bytes, behind: bytes) -> None:
    frame = encode_bind(bind)
    start, end = len(before) + 5, len(before) + len(frame)
    assert decode_bind(before + frame + behind, start, end) == bind
    portal, statement, pos = bind_names(before + frame + behind, start, end)
    assert (portal, statement) == (bind.portal, bind.statement)
    assert pos == start + len(portal) + len(statement) + 2


@given(binds(), st.data())
def test_a_bind_that_is_cut_or_grown_is_a_broken_protocol(bind: Bind, data: st.DataObject) -> None:
    frame = encode_bind(bind)
    end = data.draw(st.integers(5, len(frame) - 1))
    for tail in (b"", b"\0" * 40, b"\xff" * 40):
        with pytest.raises(WireError):
            decode_bind(frame[:end] + tail, 5, end)
    with pytest.raises(WireError):
        decode_bind(frame + b"\0", 5, len(frame) + 1)


@given(st.binary(max_size=60))
def test_garbage_is_a_bind_or_a_broken_protocol(data: bytes) -> None:
    try:
        bind = decode_bind(data, 0, len(data))
    except WireError:
        return
    assert decode_bind(encode_bind(bind), 5, len(encode_bind(bind))) == bind


@pytest.mark.parametrize("size", [-2, -0x80000000, 0x7FFFFFFF])
def test_a_parameter_whose_length_lies(size: int) -> None:
    body = b"\0\0" + pack("!HHi", 0, 1, size) + b"\0\0"
    with pytest.raises(WireError):
        decode_bind(body, 0, len(body))


@pytest.mark.parametrize(
    ("sent", "n", "expanded"),
    [((), 3, (0, 0, 0)), ((1,), 3, (1, 1, 1)), ((0, 1, 0), 3, (0, 1, 0)), ((), 0, ()), ((1,), 0, ()), ((1,), 1, (1,))],
)
def test_none_one_or_all_formats(sent: tuple[int, ...], n: int, expanded: tuple[int, ...]) -> None:
    assert expand_formats(sent, n) == expanded


@given(binds())
def test_what_cannot_be_read_is_told_from_what_breaks_the_framing(bind: Bind) -> None:
    frame = encode_bind(bind)
    with pytest.raises(MalformedMessage):
        decode_bind(frame, 5, len(frame) - 1)


def test_a_long_value_of_a_bind_is_a_part_of_its_own_and_not_copied() -> None:
    long = b"x" * (LONG_VALUE + 1)
    bind = Bind(b"", b"s", (1,), [b"short", long, None], ())
    parts = bind_parts(bind)
    assert any(part is long for part in parts)
    assert b"".join(parts) == encode_bind(bind)
    assert decode_bind(encode_bind(bind), 5, len(encode_bind(bind))) == bind
    assert len(bind_parts(bind._replace(values=[b"short"]))) == 1
    many = bind._replace(values=[b"x" * 100] * (LONG_VALUE // 100 + 100))
    assert [len(part) > LONG_VALUE // 2 for part in bind_parts(many)] == [True, False]
    assert b"".join(bind_parts(many)) == encode_bind(many)
