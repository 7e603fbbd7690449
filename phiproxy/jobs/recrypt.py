"""``recrypt``: values that are under some data keys are sealed anew under the keys that write now, where they stand.

Nothing else of a row changes, tags neither: they are of the index keys. Of a document with sealed fields each leaf is a value by
itself, and the rest of it stays. An envelope names its key, so what is left is a count, and
nothing is done twice. Constants in a table's definition (a DEFAULT, a sealed condition) are under data keys too, and follow.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from psycopg import sql

from phiproxy.crypto.seal import Record
from phiproxy.documents.field_paths import spell_path
from phiproxy.documents.stored_leaves import stored_leaves, with_leaves
from phiproxy.errors import ConfigError, SealError
from phiproxy.index.spelling import IDENTITY
from phiproxy.jobs.records import Progress
from phiproxy.jobs.relations import Identifier, Part, family_of
from phiproxy.jobs.resealed_definitions import reseal_definitions
from phiproxy.jobs.row_sql import Done, Read, Row, Scan
from phiproxy.jobs.running import JobSite, Run, Undone
from phiproxy.jobs.sealed_values import SealedValues, key_id_of
from phiproxy.jobs.sight import Sight
from phiproxy.jobs.stored_columns import Stored, StoredColumn, of_scopes, stored_columns
from phiproxy.keys.key_rows import DataKeyRow, RootRow
from phiproxy.keys.registry import Registry
from phiproxy.keys.root_cache import unwrap_root
from phiproxy.keys.rotation import roll_data_key
from phiproxy.keys.tenant_keks import kek_of
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.registry_layout import Layout
from phiproxy.types.json_types import canonical, parse

PHASE: Final = "sealing anew"
ENDED: Final = ("retired", "destroyed")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which data keys: by id, or compromised ones, or those that are older (seconds); none of these: all that write no more.

    ``scope`` and ``tenant`` leave out those of others.
    """

    keys: tuple[int, ...] = ()
    compromised: bool = False
    older: float | None = None
    scope: str | None = None
    tenant: str | None = None

    def takes(self, row: DataKeyRow, root: RootRow) -> bool:
        """Tell whether a key is meant."""
        if row.state in ENDED or self.scope not in (None, root.scope) or self.tenant not in (None, root.tenant):
            return False
        if self.keys:
            return row.id in self.keys
        if self.compromised or self.older is not None:
            is_compromised = "compromised" in (row.state, root.state)
            return (self.compromised and is_compromised) or (self.older is not None and row.age > self.older)
        return row.state != "active" or root.state != "active"


async def chosen_keys(registry: Registry, choice: Choice) -> dict[int, tuple[DataKeyRow, RootRow]]:
    """Return the data keys that a choice means; ConfigError where a key that it names is not there or has ended."""
    keys: dict[int, tuple[DataKeyRow, RootRow]] = {}
    for root in await registry.all_roots():
        if root.purpose == "data":
            for row in await registry.keys_of(root.id):
                if choice.takes(row, root):
                    keys[row.id] = row, root
    missing = [key for key in choice.keys if key not in keys]
    if missing:
        raise ConfigError(
            f"data key {missing[0]:08x} is not in the registry, has ended, or is of another scope or tenant",
            hint="phiproxy keys list shows them",
        )
    return keys


async def prepare(site: JobSite, choice: Choice) -> dict[str, list[str]]:
    """Return the options of a job for this choice: keys and their scopes. A key that still writes is followed by another first."""
    keys = await chosen_keys(site.registry, choice)
    for row, root in keys.values():
        if row.state == "active":
            secret = await unwrap_root(kek_of(site.kek, root.tenant), site.policy.deployment, root)
            await roll_data_key(site.registry, root, secret, site.settings.keys.rotation.data_key.max_uses, row)
    return {"keys": [f"{key:08x}" for key in sorted(keys)], "scopes": sorted({root.scope for _, root in keys.values()})}


async def run(run: Run) -> None:
    """Seal anew what is under the job's keys, until nothing is."""
    await seal_anew(run, frozenset(int(key, 16) for key in run.job.options["keys"]), run.job.options["scopes"])


async def columns_of(sight: Sight, layout: Layout, scopes: Iterable[str]) -> Stored:
    """Return the relations and columns whose values are under data keys of scopes; ConfigError where that cannot be known."""
    if layout.distrusted:
        raise ConfigError("the key registry does not verify, so nobody could say what is under a key", hint="phiproxy check")
    return await stored_columns(sight.conn, sight.site.policy, layout, of_scopes(layout, scopes))


async def seal_anew(run: Run, keys: frozenset[int], scopes: Iterable[str]) -> None:
    """Seal anew what is under data keys of these scopes, until nothing is; Undone when all else is."""
    site = run.site
    layout = await site.registry.layout()
    await run.acknowledged()  # no proxy goes on writing under a key that was active a moment ago
    tables = await columns_of(run, layout, scopes)
    stored = [(part, columns) for part, columns in tables if part.stores]
    await run.lock_tables(part.name for part, _ in stored)
    rows, left = await count_by_key(run, stored, keys)
    values = SealedValues(site, layout)
    works = [Recrypting(values, columns, keys) for _, columns in stored]

    def noted(progress: Progress) -> None:
        moved = sum((work.moved for work in works), Counter[int]())
        progress.counts.update({f"left {key:08x}": max(0, left[key] - moved[key]) for key in keys})

    tasks = [(_scan(part, columns, keys), work) for (part, columns), work in zip(stored, works, strict=True)]

    async def passed(total: int) -> Undone | None:
        try:
            await run.go_through(PHASE, tasks, total=total, noted=noted)
        except Undone as error:
            return error
        return None

    undone, written = await passed(rows), -1
    await reseal_definitions(run, values, tables, keys)
    while written != run.progress.counts.get("written", 0):
        written = run.progress.counts.get("written", 0)
        await run.older_ended()
        undone = await passed(0)  # what they have copied, and what a DEFAULT has given until then
    if undone is not None:
        raise undone


async def count_by_key(sight: Sight, stored: Stored, keys: Collection[int]) -> tuple[int, Counter[int]]:
    """Return how many rows have values under these keys, and how many values are under each."""
    rows, values = 0, Counter[int]()
    for part, columns in stored:
        for found, count in await under_keys(sight, part, columns, keys):
            rows += count
            for key in found:
                if key is not None:  # of some columns it may be the same
                    values[key] += count
    return rows, values


async def under_keys(
    sight: Sight, part: Part, columns: Sequence[StoredColumn], keys: Collection[int]
) -> list[tuple[list[int | None], int]]:
    """Return how many rows of a relation have values under these keys, by what is under which: a key, or None, for each column."""
    ids = sql.SQL(", ").join(_key_of(column, keys) for column in columns)
    query = sql.SQL("SELECT ARRAY[{ids}], pg_catalog.count(*) FROM ONLY {table} t WHERE {wanted} GROUP BY 1").format(
        ids=ids, table=Identifier(*part.name), wanted=_under(columns, keys)
    )
    found = [([None if n is None else int.from_bytes(n) for n in numbers], rows) for numbers, rows in await sight.see(part, query)]
    return [([number if number in keys else None for number in numbers], rows) for numbers, rows in found]


async def count_by_column(sight: Sight, tables: Stored, keys: Collection[int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many values of each column are under these keys, by relation and column; and how many rows have one."""
    counted, rows_of_parts = dict[str, int](), dict[str, int]()
    for part, columns in tables:
        if part.stores:
            found = await under_keys(sight, part, columns, keys)
            rows_of_parts[part.label] = sum(rows for _, rows in found)
            for n, column in enumerate(columns):
                counted[f"{part.label}.{quote_ident(column.name)}"] = sum(rows for under, rows in found if under[n] is not None)
    return counted, rows_of_parts


async def count_subjects(sight: Sight, layout: Layout, tables: Stored, keys: Iterable[int]) -> dict[str, int]:
    """Return how many subjects rows with values under these keys are about, by relation and the column that says it.

    Of a table without ``subject`` in the policy that is not known, nor where that column is sealed and no index tells its values.
    """
    counted: dict[str, int] = {}
    wanted = list(keys)
    for name, subject in sorted(sight.site.policy.subjects().items()):
        family = {part.name for part in await family_of(sight.conn, name)}
        registered = [(*name, subject)] if (*name, subject) in layout.columns else []
        stored = await stored_columns(sight.conn, sight.site.policy, layout, registered)
        sealed = {part.name: column for part, own in stored for column in own if column.name == subject}
        for part, columns in tables:
            by = _tag_of(sealed[part.name]) if part.name in sealed else sql.SQL("t.{}").format(Identifier(subject))
            if part.name in family and part.stores and by is not None:
                query = sql.SQL("SELECT pg_catalog.count(DISTINCT {}) FROM ONLY {} t WHERE {}").format(
                    by, Identifier(*part.name), _under(columns, wanted)
                )
                ((counted[f"{part.label}, by {quote_ident(subject)}"],),) = await sight.see(part, query)
    return counted


def _tag_of(column: StoredColumn) -> sql.Composed | None:
    """Return the tag that tells the values of a column from each other; None where it has no index over them."""
    slot = next((s for s in column.identity.slots if s.state == "active" and s.expression == IDENTITY), None)
    if slot is None:
        return None
    return sql.SQL("pg_catalog.substring({}, {}, 16)").format(column.sql, sql.Literal(13 + 16 * slot.number))


class Recrypting:
    """Seals the values of one relation anew that are under ``keys``; ``moved`` counts them by key."""

    def __init__(self, values: SealedValues, columns: Sequence[StoredColumn], keys: frozenset[int]) -> None:
        self._values = values
        self._columns = columns
        self._keys = keys
        self.moved = Counter[int]()

    async def __call__(self, rows: Sequence[Row]) -> list[Done]:
        """Return the new values of each row, or why one of them does not open."""
        done: list[Done] = [None] * len(rows)
        for n, row in enumerate(rows):
            try:
                done[n] = await self._row(row)
            except SealError as error:
                done[n] = error
        return done

    async def _row(self, row: Row) -> list[bytes | str | None]:
        new: list[bytes | str | None] = list(row.values)
        records: dict[tuple[str, str], Record] = {}
        for n, (column, value) in enumerate(zip(self._columns, row.values, strict=True)):
            if value is None:
                continue
            if column.fields:
                new[n] = await self._document(column, value, records)
            elif (key := key_id_of(value)) in self._keys:
                new[n] = await self._anew(column, value, column.identity.scope, records)
                self.moved[key] += 1
        # Beside a document all new values are given as texts.
        return [as_text(value) for value in new] if any(column.fields for column in self._columns) else new

    async def _anew(self, column: StoredColumn, value: bytes, scope: str, records: dict[tuple[str, str], Record]) -> bytes:
        own = await self._values.of_key(key_id_of(value))
        record = records.get((own.tenant, scope)) or records.setdefault((own.tenant, scope), await own.record(scope))
        return await own.reseal(column, value, record)

    async def _document(self, column: StoredColumn, text: str, records: dict[tuple[str, str], Record]) -> str:
        """Return a document with its leaves sealed anew that are under the keys; each is opened as the field that it names."""
        document = parse(text.encode())
        fields = {(field.identity.number, field.path): field for field in column.fields}
        new: dict[bytes, bytes] = {}
        moved = set[int]()
        for path, envelope in stored_leaves(document):
            if (key := key_id_of(envelope)) not in self._keys:
                continue
            number, spelled = int.from_bytes(envelope[9:11]), spell_path(path)
            other = replace(column, fields=(), path=spelled) if number == column.identity.number else None
            field = fields.get((number, spelled), other)
            if field is not None:
                new[envelope] = await self._anew(field, envelope, column.identity.scope, records)
                moved.add(key)
        self.moved.update(moved)
        return canonical(with_leaves(document, new)).decode()


def as_text(value: bytes | str | None) -> str | None:
    """Return a value of bytea as the server reads it from a text."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value


def _scan(part: Part, columns: Sequence[StoredColumn], keys: Iterable[int]) -> Scan:
    reads = tuple(Read(f"t.{quote_ident(c.name, always=True)}", "jsonb" if c.fields else "bytea", what=c.name) for c in columns)
    types = tuple(read.type_name for read in reads) if any(c.fields for c in columns) else ()
    return Scan(part, reads, tuple(c.name for c in columns), _under(columns, keys), set_types=types)


def _key_of(column: StoredColumn, keys: Iterable[int]) -> sql.Composed:
    """Return the four bytes of a value that name its data key; of a document those of the first of its leaves under these keys."""
    if column.fields:
        query = sql.SQL("pg_catalog.decode(pg_catalog.substring({}::text, {}), 'hex')")
        return query.format(column.sql, sql.Literal(_pattern(keys)))
    return sql.SQL("pg_catalog.substring({}, 6, 4)").format(column.sql)


def _pattern(keys: Iterable[int]) -> str:
    """Return the regular expression of a document with a leaf under one of these keys, and of the key's id in it."""
    return '"phi1:f5500101[0-9a-f]{2}(' + "|".join(f"{key:08x}" for key in sorted(keys)) + ")"


def _under(columns: Sequence[StoredColumn], keys: Iterable[int]) -> sql.Composed:
    """Return the condition that a value of a row is an envelope under one of these keys."""
    ids = sql.SQL(", ").join(sql.SQL(f"'\\x{key:08x}'::pg_catalog.bytea") for key in sorted(keys))
    under = [
        sql.SQL("({}::text ~ {})").format(c.sql, sql.Literal(_pattern(keys)))
        if c.fields
        else sql.SQL("(pg_catalog.substring({}, 1, 3) = '\\xf55001'::pg_catalog.bytea AND {} IN ({}))").format(
            c.sql, _key_of(c, keys), ids
        )
        for c in columns
    ]
    return sql.SQL(" OR ").join(under) if keys else sql.SQL("false").format()
