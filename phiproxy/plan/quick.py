"""The common case of ``statement.convert``, compiled: each value is a text that is stored, searched or sent as it is.

Anything else, arrays, casts, literals, formulas, conditions, and rows of which a protected value is NULL, is for ``convert``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from phiproxy.crypto.seal import Record
from phiproxy.plan.ciphers import Ciphers
from phiproxy.sql.meaning import Plain, Search, Source, Store, Use

_length_at, _pack_length = Struct("!i").unpack_from, Struct("!i").pack

Output = tuple[Use, int, Source]
# The scope and number of a row that is stored.
RowKey = tuple[str, int]
_NO_ROW: RowKey = ("", 0)
_NO_RECORDS: dict[RowKey, Record] = {}
# The client's parameter, and how it is searched, or how it is stored and in which row.
Step = tuple[int, Callable[[bytes], bytes] | None, Callable[[bytes, Record], bytes] | None, RowKey]
Quick = Callable[[Sequence[bytes | None]], list[bytes | None] | None]
"""Takes the client's values and returns the server's, or None where ``convert`` must; raises what that raises."""

# What a Bind says of formats: of parameters, how many of these there are, of results.
Forms = tuple[tuple[int, ...], int, tuple[int, ...]]


class Formed(NamedTuple):
    """What follows: the client's formats, one for each parameter and result (None where they do not matter), and the server's."""

    parameters: tuple[int, ...]
    results: tuple[int, ...] | None
    server_parameters: tuple[int, ...]
    server_results: tuple[int, ...]


class BindForm(NamedTuple):
    """A Bind as one client sends it of one statement, but for its values: what stands before and behind these, and for the server.

    ``head`` are the format codes and the number of the parameters, ``tail`` the result formats; ``formed`` says what they mean.
    """

    head: bytes
    inputs: int
    tail: bytes
    formed: Formed
    server_head: bytes
    server_tail: bytes

    def values(self, data: bytes, at: int, end: int) -> list[bytes | None] | None:
        """Return the values of a Bind that ends at ``end`` and whose names end at ``at``; None where it is not of this form."""
        if not data.startswith(self.head, at):
            return None
        pos = at + len(self.head)
        values: list[bytes | None] = []
        try:
            for _ in range(self.inputs):
                (size,) = _length_at(data, pos)
                pos += 4
                if size >= 0:
                    values.append(data[pos : pos + size])
                    pos += size
                elif size == -1:
                    values.append(None)
                else:
                    return None
        except struct_error:
            return None
        return values if data[pos:end] == self.tail and pos + len(self.tail) == end else None

    def written(self, values: Sequence[bytes | None]) -> bytes:
        """Return what comes behind the names in the server's Bind."""
        parts = [self.server_head]
        for value in values:
            if value is None:
                parts.append(b"\xff\xff\xff\xff")
            else:
                parts.append(_pack_length(len(value)))
                parts.append(value)
        parts.append(self.server_tail)
        return b"".join(parts)


def compile_quick(outputs: Sequence[Output], ciphers: Ciphers) -> Quick | None:
    """Return the function for these outputs, or None where one of them is not simple."""
    if not all(_simple(use, literal) for use, _, literal in outputs):
        return None
    stores = [(use, n) for use, n, _ in outputs if isinstance(use, Store)]
    drawn: dict[str, list[RowKey]] = {}
    for key in dict.fromkeys((use.column.scope, use.row) for use, _ in stores):
        drawn.setdefault(key[0], []).append(key)
    columns, stored = {use.column for use, _ in stores}, tuple(n for _, n in stores)
    steps = tuple(_step(ciphers, use, n) for use, n, _ in outputs)

    def records_of(values: Sequence[bytes | None]) -> dict[RowKey, Record] | None:
        for n in stored:
            if values[n] is None:
                return None  # it may be that its row stores nothing, and then takes no use of a key
        ciphers.need_keys(columns)
        records = {}
        for scope, keys in drawn.items():
            draw = ciphers.reserve(scope, len(keys))
            for key in keys:
                records[key] = draw()
        return records

    return _converter(steps, records_of if stored else None)


def _converter(steps: Sequence[Step], records_of: Callable[[Sequence[bytes | None]], dict[RowKey, Record] | None] | None) -> Quick:
    def quick(values: Sequence[bytes | None]) -> list[bytes | None] | None:
        records = records_of(values) if records_of is not None else _NO_RECORDS
        if records is None:
            return None
        result: list[bytes | None] = []
        for n, search, store, key in steps:
            value = values[n]
            if value is not None:
                if search is not None:
                    value = search(value)
                elif store is not None:
                    value = store(value, records[key])
            result.append(value)
        return result

    return quick


def _step(ciphers: Ciphers, use: Use, number: int) -> Step:
    if isinstance(use, Search):
        return number, ciphers.search(use.column, use.slot, use.type), None, _NO_ROW
    if isinstance(use, Store):
        return number, None, ciphers.store(use.column), (use.column.scope, use.row)
    return number, None, None, _NO_ROW


def _simple(use: Use, literal: Source) -> bool:
    if literal is not None:
        return False
    # Nothing but these: whatever else a use may come to say is not simple.
    if isinstance(use, Store):
        return use == Store(use.column, use.row)
    if isinstance(use, Search):
        return use == Search(use.column, use.slot, use.type)
    return isinstance(use, Plain)
