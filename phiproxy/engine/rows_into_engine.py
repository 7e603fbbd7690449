"""The opened rows of a split statement on their way into the engine: arrays in ``unnest`` for few, COPY BINARY for many.

They come as DataRow messages whose fields are all in binary form. A DataRow is a CopyData message with a tuple of COPY BINARY in
it, but for its tag: many rows are passed on by changing one byte of each. An array has the same length-prefixed elements as a row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct, pack

from phiproxy.engine.failures import LimitExceeded
from phiproxy.errors import WireError
from phiproxy.policy.settings import ComputeLimits
from phiproxy.wire.copy_binary import SIGNATURE
from phiproxy.wire.messages import message

_HEAD = Struct("!BIH").unpack_from
_SIZE = Struct("!i").unpack_from
_LENGTH = Struct("!I").unpack_from
_ROW, _COPY_DATA = ord("D"), ord("d")
COPY_BEGIN = message(b"d", SIGNATURE + bytes(8))
COPY_END = message(b"d", b"\xff\xff") + message(b"c", b"")
# More rows or bytes are copied. Above, building arrays costs more than the table's being emptied.
FEW_ROWS = 100
FEW_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source: the type that the server says it has (for a domain, the domain), and its collation, as SQL.

    An empty ``collation`` is the type's own.
    """

    type_oid: int
    typmod: int = -1
    collation: str = ""


Source = tuple[Column, ...]
"""The columns of a source. They are called c1, c2 … in the rest."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type as SQL, and that of arrays of it; ``array`` is empty where ``unnest`` would not give its values back."""

    name: str
    array: str = ""


class Counted:
    """Counts what a statement has opened. ``narrowing``: what the client can add so that there are fewer."""

    def __init__(self, limits: ComputeLimits, narrowing: str = "") -> None:
        self._limits = limits
        self._narrowing = narrowing
        self.rows = 0
        self.bytes = 0

    def add(self, rows: int, size: int) -> None:
        """Count rows; LimitExceeded where there are too many, or they are too long."""
        self.rows += rows
        self.bytes += size
        if self.rows > self._limits.rows:
            raise self._too_many(f"more than {self._limits.rows} rows", "rows")
        if self.bytes > self._limits.bytes:
            raise self._too_many(f"more than {self._limits.bytes} bytes of rows", "bytes")

    def _too_many(self, what: str, limit: str) -> LimitExceeded:
        hint = self._narrowing or "add a condition that an index answers"
        return LimitExceeded(f"{what} would be opened for this statement (compute.limits.{limit})", hint=hint)


def spans(rows: bytes, columns: int) -> Iterator[tuple[int, int]]:
    """Yield where each DataRow begins and ends; WireError where one has another number of fields, or what is there is none."""
    at, end = 0, len(rows)
    while at < end:
        if end - at < 7:
            raise WireError("a row is cut")
        tag, size, count = _HEAD(rows, at)
        behind = at + 1 + size
        if tag != _ROW or count != columns or behind > end:
            raise WireError("a row of a source is not as it was planned")
        yield at, behind
        at = behind


def copied(rows: bytes) -> tuple[bytes, int]:
    """Return DataRow messages as CopyData messages, and how many they are; WireError where what is there is something else.

    How many fields a row has the engine sees: of many rows nothing is looked at twice.
    """
    data, at, end, count = bytearray(rows), 0, len(rows), 0
    length_at = _LENGTH
    try:
        while at < end:
            if data[at] != _ROW:
                break
            data[at] = _COPY_DATA
            at += 1 + length_at(data, at + 1)[0]
            count += 1
    except struct.error:
        raise WireError("a row is cut") from None
    if at != end:
        raise WireError("a row of a source is not as it was planned")
    return bytes(data), count


def arrays(rows: Sequence[bytes], source: Source) -> list[bytes]:
    """Return the columns of DataRow messages as arrays in binary form; of no columns the number of rows."""
    if not source:
        return [pack("!q", sum(1 for data in rows for _ in spans(data, 0)))]
    elements: list[list[bytes]] = [[] for _ in source]
    count, nulls = 0, [0] * len(source)
    for data in rows:
        for at, behind in spans(data, len(source)):
            count += 1
            pos = at + 7
            for column in range(len(source)):
                (size,) = _SIZE(data, pos)
                end = pos + 4 + max(size, 0)
                if end > behind:
                    raise WireError("a field is longer than its row")
                elements[column].append(data[pos:end])
                if size < 0:
                    nulls[column] = 1
                pos = end
    head = pack("!ii", count, 1)
    dimensions = 1 if count else 0
    return [
        pack("!iiI", dimensions, null, column.type_oid) + (head if count else b"") + b"".join(values)
        for column, values, null in zip(source, elements, nulls, strict=True)
    ]


def table_of(name: str, source: Source, types: Sequence[ColumnType]) -> bytes:
    """Return the statement that makes the table that holds many rows of a source: empty again at the end of each transaction."""
    columns = (f"c{n} {t.name}{_collate(c)}" for n, (c, t) in enumerate(zip(source, types, strict=True), 1))
    text = f"CREATE TEMPORARY TABLE {name} ({', '.join(columns)}) ON COMMIT DELETE ROWS"
    return f"START TRANSACTION READ WRITE; {text}; COMMIT".encode()


def unnested(source: Source, types: Sequence[ColumnType], first: int) -> bytes:
    """Return the subquery over arrays that is the source of few rows; ``first`` is the number of the first array's parameter.

    Where it casts, it is computed by itself (OFFSET 0). PostgreSQL evaluates conditions in the order of their costs: a cast within
    one would put another before it, which may fail for rows that it is not evaluated for where they are stored.
    """
    if not source:
        return b"(SELECT FROM pg_catalog.generate_series(1, $%d::pg_catalog.int8))" % first
    names = [f"c{n}" for n in range(1, len(source) + 1)]
    calls = (f"pg_catalog.unnest(${first + n}::{t.array})" for n, t in enumerate(types))
    columns = (
        f"CAST(u.{name} AS {t.name}){_collate(c)} AS {name}" if c.typmod >= 0 or c.collation else f"u.{name}"
        for name, c, t in zip(names, source, types, strict=True)
    )
    alone = " OFFSET 0" if any(c.typmod >= 0 or c.collation for c in source) else ""
    return f"(SELECT {', '.join(columns)} FROM ROWS FROM ({', '.join(calls)}) AS u ({', '.join(names)}){alone})".encode()


def _collate(column: Column) -> str:
    return f" COLLATE {column.collation}" if column.collation else ""
