"""Which rows of a relation a job goes through, and the statements by which it does: no value of a row is in their text."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

from psycopg import sql
from psycopg.types.numeric import Int8

from phiproxy.errors import ConfigError, SealError
from phiproxy.jobs.batch_size import MOST_BYTES
from phiproxy.jobs.binary_arrays import BinaryArray, ByteaArray, TextArray, TidArray, XidArray
from phiproxy.jobs.bytes_of_text import array_of, bytes_of, from_bytes, has_no_encoding, is_utf8, shown, text_of, to_bytes
from phiproxy.jobs.relations import Connection, Identifier, KeyPart, Part, as_part

Statement = tuple[sql.Composed, list[Any]]
"""A query and its parameters."""


class Read(NamedTuple):
    """What is read of a row ``t``: an SQL expression, and its type.

    ``same``: a row is written only where this is as it was read; of another type than those of ``RAW`` it comes as text. It goes
    back to the server for that: no plaintext may. A row of which the ``VERSION`` is read is found by that, not by its key.
    ``what`` it is, in messages.
    """

    expression: str
    type_name: str
    same: bool = True
    what: str = ""


_FILE: Final = "pg_catalog.oidsend(pg_catalog.pg_relation_filenode(t.tableoid))"
VERSION: Final = (Read("t.ctid", "tid"), Read("t.xmin", "xid"), Read(_FILE, "bytea"))
"""What tells that a row is the one that was read, and where it is: no value of it has to go back to the server.

CLUSTER and VACUUM FULL move rows into another file, and those of one transaction have one xmin: so the file tells too.
"""
RAW: Final = ("bytea", "tid", "xid")
"""Types of which values come, and go back, as bytes."""

_SECONDS: Final = "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp())"
"""How long the statement that it is in has taken, once all rows are written: what the job or its machine took is not in it."""


class Row(NamedTuple):
    """A row as it was read: its key as text, and what was read of it."""

    key: tuple[str, ...]
    values: tuple[Any, ...]


Done = Sequence[bytes | str | None] | SealError | None
Work = Callable[[Sequence[Row]], Awaitable[Sequence[Done]]]
"""Takes the rows of a batch and returns for each the new values of ``Scan.sets``, or None where it is to stay as it is.

An error: it cannot be done, and stays as it is; the job says so at its end.
"""
Changed = tuple[Row, Sequence[bytes | str | None]]
"""A row, and the new values of its columns ``Scan.sets``."""


@dataclass(frozen=True)
class Scan:
    """The rows of one relation for which ``wanted``, a condition over ``t``, holds; ``sets`` are columns of bytea that are written.

    ``set_types``: their types where they are not of bytea; new values are given as texts then.

    ``remembered``: the key of a row may be in the registry, and in messages; it may not where it is of a column that is to be
    protected.

    ``as_bytes``: the database's texts are of no encoding.
    """

    part: Part
    reads: tuple[Read, ...]
    sets: tuple[str, ...]
    wanted: sql.Composable
    remembered: bool = True
    set_types: tuple[str, ...] = ()
    as_bytes: bool = False

    def over(self, conn: Connection) -> "Scan":
        """Return it for the database of a connection."""
        return replace(self, as_bytes=has_no_encoding(conn))

    def rows(self, tuples: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Return what the server has sent as rows."""
        width = len(self.key)
        if self.as_bytes:
            texts = [True] * width + [read.type_name not in RAW for read in self.reads]
            tuples = [tuple([text_of(v) if text else v for v, text in zip(row, texts, strict=True)]) for row in tuples]
        return [Row(row[:width], row[width:]) for row in tuples]

    async def work(self, rows: Sequence[Row], work: Work) -> Sequence[Done]:
        """Return what becomes of each row, of one with a text that is not UTF-8 that it cannot be done."""
        if not self.as_bytes:
            return await work(rows)
        done: list[Done] = [self._wrong(row) for row in rows]
        right = [at for at, wrong in enumerate(done) if wrong is None]
        for at, new in zip(right, await work([rows[at] for at in right]), strict=True):
            done[at] = new
        return done

    def _wrong(self, row: Row) -> SealError | None:
        for read, value in zip(self.reads, row.values, strict=True):
            if isinstance(value, str) and not is_utf8(value):
                return SealError(f"{read.what}: its bytes are not UTF-8")
        return None

    def recorded(self, cursor: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return a key as the registry may have it; None where it may not, or its texts cannot be there."""
        return cursor if self.remembered and all(map(is_utf8, cursor)) else None

    @property
    def key(self) -> tuple[KeyPart, ...]:
        """What names a row; ConfigError where nothing does."""
        if not self.part.key:
            raise ConfigError(
                f"{self.part.label} has no primary key, nor another unique key that is never NULL: its rows cannot be named",
                hint=f"ALTER TABLE {self.part.label} ADD COLUMN … GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            )
        return self.part.key

    def spelled(self, row: Row) -> str:
        """Return how messages name a row: ``id 5``; of a tag, which says nothing, its beginning.

        Where its key is of a column that is to be protected by where it is, ``ctid (0,5)``, if that is read.
        """
        if not self.remembered and VERSION[0] not in self.reads:
            return "a row whose key is to be protected"
        if not self.remembered:
            tid = row.values[self.reads.index(VERSION[0])]
            return f"ctid ({int.from_bytes(tid[:4])},{int.from_bytes(tid[4:])})"
        return ", ".join(f"{part.expression} {shown(value[:40])}" for part, value in zip(self.key, row.key, strict=True))

    def read(self, after: tuple[str, ...] | None, rows: int) -> Statement:
        """Return the query for at most so many wanted rows behind a key (None: from the first one), in the order of the key.

        Of more than a batch's bytes as many rows as have less, but one at least.
        """
        keys = sql.SQL(", ").join(as_part(f"({part.expression})") for part in self.key)
        behind: sql.Composable = sql.SQL("true")
        if after is not None:
            one = sql.SQL(from_bytes("%s") if self.as_bytes else "%s")
            given = sql.SQL(", ").join(one + as_part(f"::{part.type_name}") for part in self.key)
            behind = sql.SQL("ROW({}) > ROW({})").format(keys, given)
        query = sql.SQL(
            "SELECT {columns} FROM (SELECT {selected}, {length} AS _phi_length, pg_catalog.sum({length})"
            " OVER (ORDER BY {keys} ROWS UNBOUNDED PRECEDING) AS _phi_bytes FROM ONLY {table} t"
            " WHERE {behind} AND ({wanted}) ORDER BY {keys} LIMIT {limit}) b"
            " WHERE _phi_bytes <= {most} OR _phi_bytes = _phi_length"
        ).format(
            columns=self._columns, selected=self._selected, length=self._length, keys=keys, behind=behind, table=self._table,
            wanted=self.wanted, limit=sql.Literal(rows), most=sql.Literal(MOST_BYTES),
        )  # fmt: skip
        return query, [bytes_of(value) if self.as_bytes else value for value in after or ()]

    def again(self, rows: Sequence[Row]) -> Statement:
        """Return the query for those of these rows, by their keys, that are still wanted."""
        query = sql.SQL(
            "SELECT {columns} FROM (SELECT {selected}, v._phi_i FROM {given} JOIN ONLY {table} t ON {joined} WHERE {wanted}) b"
            " ORDER BY _phi_i"
        ).format(
            columns=self._columns, selected=self._selected, given=self._given, table=self._table, joined=self._joined,
            wanted=self.wanted,
        )  # fmt: skip
        return query, [*self._keys(rows), Int8(len(rows))]

    def write(self, changes: Sequence[Changed], *, waiting: bool = False) -> Statement:
        """Return the UPDATE of rows that are as they were read.

        It passes over those that somebody else has locked, as only what it has locked before is updated, and returns the positions,
        from 1 on, of those that it has written. One that is ``waiting`` for such rows returns how many: it locks none before, which
        takes a quarter of the server's time, and the server looks again whether a row that it has waited for is as it was. Both
        also return for how many seconds the server was at it, which is how long rows are locked.

        Columns of other indexes are set to what they are. Else the server would take each new entry in such an index for one that
        only a new version of the row needs, and look through the index's page and the table for old ones to remove in its place:
        that took half of the server's time in a fill, and left the indexes 1 % smaller. With the index of the key it should.
        """
        rows = [row for row, _ in changes]
        values = self._keys(rows) if self._by_key else []
        values += [self._array(read.type_name, [row.values[n] for row in rows]) for n, read in self._same]
        values += [self._array(self._given_type, [new[n] for _, new in changes]) for n in range(len(self.sets))]
        return self._waiting if waiting else self._passing, [*values, Int8(len(rows))]

    @cached_property
    def _by_key(self) -> bool:
        return VERSION[0] not in self.reads

    @cached_property
    def _same(self) -> list[tuple[int, Read]]:
        return [(n, read) for n, read in enumerate(self.reads) if read.same]

    @property
    def _given_type(self) -> str:
        return "text" if self.set_types else "bytea"

    @cached_property
    def _passing(self) -> sql.Composed:
        return self._update(waiting=False)

    @cached_property
    def _waiting(self) -> sql.Composed:
        return self._update(waiting=True)

    def _update(self, *, waiting: bool) -> sql.Composed:
        names = [*(_name("s", n) for n, _ in self._same), *(_name("v", n) for n in range(len(self.sets)))]
        types = [*(read.type_name for _, read in self._same), *[self._given_type] * len(self.sets)]
        if self._by_key:
            names, types = [*self._key_names, *names], [*(part.type_name for part in self.key), *types]
        sets = [
            sql.SQL("{} = v.{}{}").format(
                Identifier(column), Identifier(_name("v", n)), as_part(f"::{self.set_types[n]}" if self.set_types else "")
            )
            for n, column in enumerate(self.sets)
        ]
        sets += [sql.SQL("{} = t.{}").format(name, name) for name in map(Identifier, self._as_they_are)]
        joined: list[sql.Composable] = [self._joined]
        unchanged: list[sql.Composable] = []
        if self._by_key:
            unchanged = [as_part(f"({read.expression}) IS NOT DISTINCT FROM v.{_name('s', n)}") for n, read in self._same]
        else:
            joined = [as_part(f"{read.expression} = v.{_name('s', n)}") for n, read in self._same]
        given, on = self._unnested(names, types), sql.SQL(" AND ").join(joined)
        locked, told, source = sql.Composed([]), "pg_catalog.count(*)", given
        if not waiting:
            lock = "v AS MATERIALIZED (SELECT v.* FROM {} JOIN ONLY {} t ON {} FOR NO KEY UPDATE OF t SKIP LOCKED), "
            locked, told = sql.SQL(lock).format(given, self._table, on), "coalesce(pg_catalog.array_agg(_phi_i), '{}')"
            source = sql.Composed([as_part("v")])
        return sql.SQL(
            "WITH {locked}w AS (UPDATE ONLY {table} t SET {sets} FROM {source} WHERE {where} RETURNING v._phi_i)"
            " SELECT {told}, {seconds} FROM w"
        ).format(
            locked=locked,
            table=self._table,
            sets=sql.SQL(", ").join(sets),
            source=source,
            where=sql.SQL(" AND ").join([*joined, *unchanged]),
            told=as_part(told),
            seconds=as_part(_SECONDS),
        )

    def tidy(self, rows: Sequence[Row]) -> Statement | None:
        """Return a query at which the server frees, in the pages of these rows, the room of those that were moved out of them.

        None where the pages are not known, as that happens by itself where rows are found by an index, or are far apart.
        """
        if VERSION[0] not in self.reads:
            return None
        at = self.reads.index(VERSION[0])
        tids = [row.values[at] for row in rows]  # the number of the page, and in it: both from the highest byte on
        first, last = (int.from_bytes(tid[:4]) for tid in (min(tids), max(tids)))
        if last - first > len(rows):
            return None
        query = sql.SQL("SELECT pg_catalog.count(*) FROM ONLY {} t WHERE t.ctid >= {} AND t.ctid < {}")
        return query.format(self._table, sql.Literal(f"({first},0)"), sql.Literal(f"({last + 1},0)")), []

    @cached_property
    def _as_they_are(self) -> list[str]:
        """The columns that are set to what they are."""
        of_key = {column for part in self.part.key for column in part.columns}
        return [name for name in self.part.indexed if name not in of_key and name not in self.sets]

    @property
    def _table(self) -> Identifier:
        return Identifier(*self.part.name)

    @property
    def _key_names(self) -> list[str]:
        return [_name("k", n) for n in range(len(self.key))]

    def _keys(self, rows: Sequence[Row]) -> list[Any]:
        return [self._array("text", [row.key[n] for row in rows]) for n in range(len(self.key))]

    @cached_property
    def _given(self) -> sql.Composed:
        return self._unnested(self._key_names, [part.type_name for part in self.key])

    @cached_property
    def _joined(self) -> sql.Composed:
        return sql.SQL(" AND ").join([as_part(f"({part.expression}) = v.{_name('k', n)}") for n, part in enumerate(self.key)])

    @cached_property
    def _selected(self) -> sql.Composed:
        sent = to_bytes if self.as_bytes else str
        keys = [as_part(f"{sent(f'({part.expression})::text')} AS {_name('k', n)}") for n, part in enumerate(self.key)]
        reads = [
            as_part(f"{_shown(read) if read.type_name in RAW else sent(_shown(read))} AS {_name('r', n)}")
            for n, read in enumerate(self.reads)
        ]
        return sql.SQL(", ").join([*keys, *reads])

    @cached_property
    def _columns(self) -> sql.Composed:
        return sql.SQL(", ").join(map(Identifier, [*self._key_names, *(_name("r", n) for n in range(len(self.reads)))]))

    @cached_property
    def _length(self) -> sql.Composable:
        """What says how much is read of a row."""
        long = [read for read in self.reads if read.type_name in ("bytea", "text", "jsonb")]
        lengths = [as_part(f"coalesce(pg_catalog.octet_length({_shown(read)}), 0)") for read in long]
        return sql.SQL(" + ").join(lengths) if lengths else sql.SQL("0")

    def _array(self, type_name: str, values: list[Any]) -> BinaryArray:
        """Return values as they were read: of another type than those of ``RAW`` they are texts."""
        return _ARRAYS.get(type_name, array_of if self.as_bytes else TextArray)(values)

    def _unnested(self, names: Sequence[str], types: Sequence[str]) -> sql.Composed:
        """Return ``(SELECT unnest(%b::text[]::int4[]) AS …, generate_series(1, %b) AS _phi_i) AS v``: a row for each element.

        Of ``ROWS FROM (…) WITH ORDINALITY`` the server would store all rows before it takes the first.
        """
        columns = sql.SQL(", ").join(
            [sql.SQL(self._one_of(type_name)) + as_part(f" AS {name}") for name, type_name in zip(names, types, strict=True)]
        )
        return sql.SQL("(SELECT {}, pg_catalog.generate_series(1, %b) AS _phi_i) AS v").format(columns)

    def _one_of(self, type_name: str) -> str:
        doubled = type_name.replace("%", "%%")
        if type_name in RAW:
            return f"pg_catalog.unnest(%b::{type_name}[])"
        if self.as_bytes:
            return f"{from_bytes('pg_catalog.unnest(%b::bytea[])')}::{doubled}"
        return f"pg_catalog.unnest(%b::text[]::{doubled}[])"


def _name(kind: str, number: int) -> str:
    """Return a name that no column of a table has: what a key's expressions are of they name without the table."""
    return f"_phi_{kind}{number}"


def _shown(read: Read) -> str:
    """Return the expression for what is read, as it comes."""
    return f"({read.expression}){'::text' if read.same and read.type_name not in RAW else ''}"


_ARRAYS: Final[dict[str, Callable[[list[Any]], BinaryArray]]] = {"bytea": ByteaArray, "tid": TidArray, "xid": XidArray}
