"""The layout of the registry: identities, slots and column names, as they are stored or as far as they verify."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from phiproxy.errors import ConfigError, NotAuthentic
from phiproxy.index.collations import Collation
from phiproxy.keys.authenticated_tables import (
    CLEAR_COLUMN,
    COLUMN_NAME,
    IDENTITY,
    META,
    SLOT,
    AuthenticatedTable,
    Connection,
    Read,
    as_number,
    one_row,
    read_rows,
)
from phiproxy.keys.manifest import LAYOUT_GROUP
from phiproxy.keys.registry_checked_on_read import SNAPSHOT, Trust, View
from phiproxy.keys.registry_schema import table
from phiproxy.policy.protection import Slot, SlotState
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity

LAYOUT_TABLES: Final = (META, IDENTITY, COLUMN_NAME, SLOT, CLEAR_COLUMN)
# Asked for beside what is authenticated.
_EXTRA: Final = {"meta": ("t.epoch",)}


async def read_layout(conn: Connection, schema: str = "phiproxy") -> Layout:
    """Read identities, slots and column names as they are stored, verified by nothing: what a proxy goes by is ``verified_layout``.

    Raises ConfigError when there is no registry.
    """
    try:
        if conn.info.transaction_status != TransactionStatus.IDLE:
            return await _read_layout(conn, schema)
        async with conn.transaction():
            await conn.execute(SNAPSHOT)
            return await _read_layout(conn, schema)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise _no_registry(schema) from None


async def _read_layout(conn: Connection, schema: str) -> Layout:
    read = {of.name: await _read_table(conn, schema, of) for of in LAYOUT_TABLES}
    if not read["meta"]:
        raise _no_registry(schema)
    return layout_of(read)


def _no_registry(schema: str) -> ConfigError:
    return ConfigError(
        f"the database has no key registry in schema {schema}",
        hint="run: phiproxy keys init (where tables hold encrypted values already: phiproxy check says what is missing)",
    )


async def _read_table(conn: Connection, schema: str, of: AuthenticatedTable) -> list[Read]:
    return await read_rows(conn, schema, of, sql.SQL("true"), extra=_EXTRA.get(of.name, ()))


async def verified_layout(view: View) -> Layout:
    """Read the layout of a snapshot of the registry; what does not verify is left out, and its columns are ``distrusted``.

    Raises NotAuthentic when ``meta`` does not verify, which all columns depend on.
    """
    read = {of.name: await _read_table(view.conn, view.schema, of) for of in LAYOUT_TABLES}
    layout = await _verified_layout(view, read)
    try:
        async with view.conn.transaction():
            view.trust.verified_layout = await _as_stored(view.conn, view.schema), layout
    except psycopg.errors.UndefinedTable:  # of an older version, which lacks what came later
        view.trust.verified_layout = None
    return layout


async def unchanged_layout(conn: Connection, trust: Trust) -> Layout | None:
    """Return the layout that was verified last where counter and rows are still as they were then: one query; else None.

    None too where that would not be the whole answer: the registry was rolled back, or somebody has seen a later state of it.
    """
    if trust.verified_layout is None or trust.rolled_back:
        return None
    stored, layout = trust.verified_layout
    if layout.counter != trust.watermark.counter:
        return None
    try:
        return layout if await _as_stored(conn, trust.schema) == stored else None
    except psycopg.errors.UndefinedTable:
        return None


async def _as_stored(conn: Connection, schema: str) -> TupleRow:
    """Return the rows of the counter and of each table of the layout, each as one text."""
    rows = "(SELECT pg_catalog.array_agg(t::text ORDER BY t::text)::text FROM {} t)"
    names = ("counter", *(of.name for of in LAYOUT_TABLES))
    query = sql.SQL("SELECT {}").format(sql.SQL(", ").join(sql.SQL(rows).format(table(schema, name)) for name in names))
    return await one_row(conn, query)


async def _verified_layout(view: View, read: Mapping[str, Sequence[Read]]) -> Layout:
    authentic: dict[str, list[Read]] = {}
    faulty: list[tuple[str, tuple[str, ...]]] = []
    for name, reads in read.items():
        rows = await view.verified(reads)
        authentic[name] = [one for one, ok in rows if ok]
        faulty += [(name, one.row.key) for one, ok in rows if not ok]
        faulty += [(name, key) for key in await view.missing(LAYOUT_GROUP, name, (), {one.row.label for one in reads})]
    if any(name == "meta" for name, _ in faulty) or not authentic["meta"]:
        raise NotAuthentic("the key registry's own row (meta) is not authentic")
    numbers = {as_number(key[0]) for name, key in faulty if name in ("identity", "slot")}
    layout = layout_of(authentic)
    unknown = {name for name, number in layout.columns.items() if number in numbers or number not in layout.identities}
    distrusted = {(s, t, c) for name, key in faulty if name == "column_name" for s, t, c in [key]} | unknown
    columns = {name: number for name, number in layout.columns.items() if name not in distrusted}
    return replace(layout, columns=columns, distrusted=frozenset(distrusted), counter=view.counter.value)


def layout_of(read: Mapping[str, Sequence[Read]]) -> Layout:
    """Return the layout that rows say, by table; that of ``meta`` comes with its epoch."""
    slots: dict[int, list[Slot]] = {}
    for (number, slot), (expression, normaliser, family, generation, state) in ((r.row.key, r.row.fields) for r in read["slot"]):
        numbers = int(generation or 0), cast("SlotState", state), int(normaliser or 0)
        slots.setdefault(int(number), []).append(Slot(int(slot), expression or "", *numbers, family=family or ""))
    identities = {}
    for (number,), (identity, scope, type_name) in ((r.row.key, r.row.fields) for r in read["identity"]):
        own = tuple(slots.get(int(number), ()))
        identities[int(number)] = RegisteredIdentity(int(number), identity or "", scope or "", type_name or "", own)
    columns = {(s, t, c): int(r.row.fields[0] or 0) for r in read["column_name"] for s, t, c in [r.row.key]}
    (meta,) = read["meta"]
    _, deployment, collation = meta.row.fields
    epoch = meta.extra[0] if isinstance(meta.extra[0], int) else 0
    clear = frozenset((s, t, c) for r in read["clear_column"] for s, t, c in [r.row.key])
    return Layout(deployment or "", epoch, identities, columns, Collation.load(collation), clear=clear)


async def read_collation(conn: Connection, schema: str) -> Collation | None:
    """Return what is recorded of the database's collation, or None; an older registry has no column for it."""
    (meta,) = await read_rows(conn, schema, META, sql.SQL("true"))
    return Collation.load(meta.row.fields[2])
