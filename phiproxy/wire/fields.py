"""The hot path: lists of length-prefixed fields — DataRow and the parameters of Bind — rewritten by position.

A rewriter walks lengths only as far as the last touched field and copies untouched spans as slices. NULL (length -1) is never
handed to a function. Manual 55.7: DataRow, Bind.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from struct import Struct, pack, unpack_from
from typing import NamedTuple

from phiproxy.errors import MalformedMessage, WireError
from phiproxy.long_values import LONG_VALUE, copied

_I32 = Struct("!i")
_COUNT = Struct("!H")
_HEAD = Struct("!cI")
_DATA_ROW = Struct("!BIH")
ROW = ord("D")
_NULL = b"\xff\xff\xff\xff"
# The lengths that most fields have, as a row spells them: to look one up takes half as long as to pack it.
LENGTHS = tuple(_I32.pack(length) for length in range(256))

FieldFunction = Callable[[bytes], bytes]
SpanFunction = Callable[[bytes, int, int], bytes]
"""Takes data and where in it a field begins and ends, so that it need not be cut out first."""
FieldFunctionOrNull = Callable[[bytes, int, int], bytes | None]
"""Takes the same; None makes the field NULL."""
RowsFunction = Callable[[bytes, int, int, list[bytes]], int]
"""Takes data, where in it a run of whole DataRows may begin and must end, and where the pieces of what is shown are put.

Returns where that run ends: at the end, or at what is not a whole DataRow.
"""


def compile_rows(  # noqa: C901 - another function for each row would cost what is saved
    ops: Sequence[tuple[int, FieldFunctionOrNull]], columns: int, tally: list[int] | None = None
) -> RowsFunction:
    """Return what maps the fields at the given positions in a run of rows; the one number of ``tally`` grows by their count.

    It raises WireError when a row does not have ``columns`` fields or its lengths lie, and lets whatever a field function raises
    pass; what it has put into ``shown`` then is not whole.
    """
    functions, tally = _by_position(ops), tally if tally is not None else [0]
    length_at, pack_length, head_at, pack_head = _I32.unpack_from, _I32.pack, _DATA_ROW.unpack_from, _HEAD.pack
    header, lengths, short = _DATA_ROW.size, LENGTHS, len(LENGTHS)

    def rows(data: bytes, at: int, stop: int, shown: list[bytes]) -> int:  # noqa: C901 - likewise
        add, whole = shown.append, 0
        try:
            while stop - at >= header:
                tag, size, count = head_at(data, at)
                end = at + 1 + size
                if tag != ROW or end > stop:
                    break
                if count != columns:
                    raise WireError("a row does not have the number of columns that was planned")
                copied, pos, head = at + 5, at + 7, len(shown)
                add(b"")
                for function in functions:
                    (length,) = length_at(data, pos)
                    if length < 0:
                        pos += 4
                        continue
                    begin = pos + 4
                    behind = begin + length
                    if function is not None:
                        if behind > end:
                            raise WireError("a field is longer than its row")
                        value = function(data, begin, behind)
                        if copied < pos:
                            add(data[copied:pos])
                        if value is None:
                            add(_NULL)
                            size -= length
                        else:
                            shown_length = len(value)
                            add(lengths[shown_length] if shown_length < short else pack_length(shown_length))
                            add(value)
                            size += shown_length - length
                        copied = behind
                    pos = behind
                if pos > end:
                    raise WireError("a field is longer than its row")
                shown[head] = pack_head(b"D", size)
                add(data[copied:end])
                at = end
                whole += 1
        except struct.error:
            raise WireError("a row is shorter than its fields") from None
        tally[0] += whole
        return at

    return rows


def _by_position(ops: Sequence[tuple[int, FieldFunctionOrNull]]) -> tuple[FieldFunctionOrNull | None, ...]:
    functions = dict(ops)
    return tuple(functions.get(position) for position in range(max(functions, default=-1) + 1))


class Bind(NamedTuple):
    """Bind (F). ``formats`` and ``result_formats`` are as sent: none, one or n codes, whatever they are."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    values: list[bytes | None]
    result_formats: tuple[int, ...]


def bind_names(data: bytes, pos: int, end: int) -> tuple[bytes, bytes, int]:
    """Return (portal, statement, position after both) of a Bind payload, without reading values."""
    stop = data.find(0, pos, end)
    second = data.find(0, stop + 1, end)
    if stop < 0 or second < 0:
        raise MalformedMessage("a string in a message has no end")
    return data[pos:stop], data[stop + 1 : second], second + 1


def decode_bind(data: bytes, pos: int, end: int) -> Bind:
    """Decode a Bind payload; MalformedMessage for lengths that lie or trailing bytes."""
    portal, statement, pos = bind_names(data, pos, end)
    try:
        (count,) = unpack_from("!H", data, pos)
        codes = unpack_from(f"!{count}H", data, pos + 2)
        pos += 2 + 2 * count
        (n,) = unpack_from("!H", data, pos)
        pos += 2
        values: list[bytes | None] = []
        for _ in range(n):
            (size,) = _I32.unpack_from(data, pos)
            pos += 4
            if size == -1:
                values.append(None)
                continue
            if size < 0 or pos + size > end:
                raise MalformedMessage("a parameter is longer than its message")
            values.append(data[pos : pos + size] if size <= LONG_VALUE else copied(data, pos, pos + size))
            pos += size
        (count,) = unpack_from("!H", data, pos)
        results = unpack_from(f"!{count}H", data, pos + 2)
    except struct.error:
        raise MalformedMessage("Bind is too short") from None
    if pos + 2 + 2 * count != end:
        raise MalformedMessage("a message has trailing bytes")
    return Bind(portal, statement, codes, values, results)


def expand_formats(codes: Sequence[int], n: int) -> tuple[int, ...]:
    """Return one format code per field from none, one or n codes (manual: Bind)."""
    if not codes:
        return (0,) * n
    if len(codes) == 1:
        return (codes[0],) * n
    assert len(codes) == n
    return tuple(codes)


def encode_bind(bind: Bind) -> bytes:
    """Return a Bind message."""
    return b"".join(bind_parts(bind))


def bind_parts(bind: Bind) -> list[bytes]:
    """Return a Bind message in parts: a long value is one of them, and none of the others is longer."""
    values = bind.values
    parts = [bind.portal, b"\0", bind.statement, b"\0", encode_codes(bind.formats), _COUNT.pack(len(values))]
    append, pack_length = parts.append, _I32.pack
    for value in values:
        if value is None:
            append(b"\xff\xff\xff\xff")
        else:
            append(pack_length(len(value)))
            append(value)
    append(encode_codes(bind.result_formats))
    size = sum(map(len, parts))
    parts = [b"B", pack_length(size + 4), *parts]
    return [*_gathered(parts)] if size > LONG_VALUE else [b"".join(parts)]


def _gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join what is short."""
    run: list[bytes] = []
    size = 0
    for part in parts:
        if run and size + len(part) > LONG_VALUE:
            yield b"".join(run)
            run, size = [], 0
        run.append(part)
        size += len(part)
    yield b"".join(run)


@lru_cache(maxsize=512)
def encode_codes(formats: tuple[int, ...]) -> bytes:
    """Return format codes as Bind has them, behind their number; the same few come again and again."""
    return pack(f"!H{len(formats)}H", len(formats), *formats)
