"""The common case of ``convert_values``, compiled: each value is a text that is stored, searched or sent as it is.

Anything else, arrays, casts, literals, formulas, conditions, and rows of which a protected value is NULL, is for ``convert_steps``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from phiproxy.crypto.seal import Record
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.field_ciphers import RowStoreFunction
from phiproxy.sql.result import Source
from phiproxy.sql.values.uses import Plain, Search, Store, Use

_length_at, _pack_length = Struct("!i").unpack_from, Struct("!i").pack

Output = tuple[Use, int, Source]
# The scope and number of a row that is stored.
RowKey = tuple[str, int]
# The client's parameter, and how it is searched, or how it is stored: with which of the keys, and in which of the rows.
Step = tuple[int, Callable[[bytes], bytes] | None, RowStoreFunction | None, int, int]
Conversion = Callable[[Sequence[bytes | None]], list[bytes | None] | None]
"""Takes the client's values and returns the server's, or None where ``convert_steps`` must; raises what that raises."""

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


def compile_conversion(outputs: Sequence[Output], ciphers: Ciphers) -> Conversion | None:
    """Return the function for these outputs, or None where one of them is not simple."""
    if not all(_simple(use, literal) for use, _, literal in outputs):
        return None
    stores = [(use, n) for use, n, _ in outputs if isinstance(use, Store)]
    rows = sorted({(use.column.scope, use.row) for use, _ in stores})
    scopes = tuple(Counter(scope for scope, _ in rows).items())
    stored, macs_now = tuple(n for _, n in stores), ciphers.macs_of([use.column for use, _ in stores])
    steps = tuple(_steps(outputs, ciphers, rows))

    def conversion(values: Sequence[bytes | None]) -> list[bytes | None] | None:
        for n in stored:
            if values[n] is None:
                return None  # it may be that its row stores nothing, and then takes no use of a key
        macs = macs_now() if stored else ()
        records: list[Record] = []
        for scope, drawn in scopes:
            records += ciphers.draw(scope, drawn)
        result: list[bytes | None] = []
        for n, search, store, at, row in steps:
            value = values[n]
            if value is not None:
                if search is not None:
                    value = search(value)
                elif store is not None:
                    value = store(value, records[row], macs[at])
            result.append(value)
        return result

    return conversion


def _steps(outputs: Sequence[Output], ciphers: Ciphers, rows: Sequence[RowKey]) -> Iterator[Step]:
    at, place = count(), {row: i for i, row in enumerate(rows)}
    for use, number, _ in outputs:
        if isinstance(use, Search):
            yield number, ciphers.search(use.column, use.slot, use.type), None, 0, 0
        elif isinstance(use, Store):
            yield number, None, ciphers.row_store(use.column), next(at), place[use.column.scope, use.row]
        else:
            yield number, None, None, 0, 0


def _simple(use: Use, literal: Source) -> bool:
    if literal is not None:
        return False
    # Nothing but these: whatever else a use may come to say is not simple.
    if isinstance(use, Store):
        return use == Store(use.column, use.row, certain=use.certain)
    if isinstance(use, Search):
        return use == Search(use.column, use.slot, use.type)
    return isinstance(use, Plain)
