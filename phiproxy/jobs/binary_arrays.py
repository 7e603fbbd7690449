"""Arrays as parameters in PostgreSQL's binary form: a value costs a fraction of what it costs in one of psycopg's."""

from collections.abc import Sequence
from struct import Struct
from typing import Final, cast

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from phiproxy.wire.oids import BYTEA_OID, TEXT_OID

# Number of dimensions, whether there are NULLs, the type of the elements, their number, and the number of the first.
_HEAD: Final = Struct("!iiIii").pack
# Of what psycopg has no types for (src/include/catalog/pg_type.dat).
_TID, _TID_ARRAY, _XID, _XID_ARRAY = 27, 1010, 28, 1011
_length: Final = Struct("!i").pack
_NULL: Final = _length(-1)


class BinaryArray:
    """An array with one dimension, as the server reads it."""

    def __init__(self, element: int, values: Sequence[bytes | None]) -> None:
        nulls = None in values
        head = _HEAD(1, int(nulls), element, len(values), 1)
        if nulls:
            self.data = head + b"".join([_NULL if value is None else _length(len(value)) + value for value in values])
            return
        given = cast("Sequence[bytes]", values)
        lengths = {*map(len, given)}
        if len(lengths) == 1:
            length = _length(*lengths)
            self.data = head + length + length.join(given)
            return
        pieces = [b""] * (2 * len(given))
        pieces[::2], pieces[1::2] = map(_length, map(len, given)), given
        self.data = head + b"".join(pieces)


class ByteaArray(BinaryArray):
    """A ``bytea[]``."""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        super().__init__(BYTEA_OID, values)


class TidArray(BinaryArray):
    """A ``tid[]``, of positions as the server sends them."""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        super().__init__(_TID, values)


class XidArray(BinaryArray):
    """An ``xid[]``, of numbers of transactions as the server sends them."""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        super().__init__(_XID, values)


class TextArray(BinaryArray):
    """A ``text[]``."""

    def __init__(self, values: Sequence[str | None]) -> None:
        super().__init__(TEXT_OID, [None if value is None else value.encode() for value in values])


class _Dumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: BinaryArray) -> bytes:
        return obj.data


class _ByteaArrayDumper(_Dumper):
    oid = psycopg.adapters.types["bytea"].array_oid


class _TextArrayDumper(_Dumper):
    oid = psycopg.adapters.types["text"].array_oid


class _TidArrayDumper(_Dumper):
    oid = _TID_ARRAY


class _XidArrayDumper(_Dumper):
    oid = _XID_ARRAY


psycopg.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
psycopg.adapters.register_dumper(TidArray, _TidArrayDumper)
psycopg.adapters.register_dumper(XidArray, _XidArrayDumper)
psycopg.adapters.register_dumper(TextArray, _TextArrayDumper)
