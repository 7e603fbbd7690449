"""What tables hold already, counted and never read: values of another registry, values without a tag, rows in plaintext."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from phiproxy.policy.catalog import Catalog
from phiproxy.policy.guards import lacks_tag
from phiproxy.policy.layout import Layout
from phiproxy.policy.model import Policy
from phiproxy.policy.names import quote_ident
from phiproxy.policy.types import BYTEA_OID

Connection = psycopg.AsyncConnection[Any]
Name = tuple[str, str, str]

RESTORE = (
    "new keys would open none of them. Bring their registry back: `phiproxy keys import FILE` (a file of `keys export`), or its"
    " schema out of the backup that the tables are from; see docs/restore-the-registry.md"
)


class Counted(NamedTuple):
    """Values of a column: ``values`` in all, ``lacking`` of them without a tag in some slot."""

    lacking: int
    values: int


async def foreign_values(conn: Connection, policy: Policy, layout: Layout | None, catalog: Catalog, schema: str) -> list[str]:
    """Say which columns that are not registered hold values of another registry: new keys would open none of them.

    A value belongs to this registry, ``layout``, where it has the data key. Raises psycopg.Error.
    """
    query = sql.SQL(
        "SELECT pg_catalog.count(*) FROM {table} WHERE pg_catalog.substring({name}, 1, 3) = '\\xf55001'"
        " AND pg_catalog.octet_length({name}) > 12 AND {unknown}"
    )
    found = []
    for column in policy.columns():
        place = (column.schema, column.table, column.name)
        if type_of(place, catalog) != BYTEA_OID or (layout is not None and place in layout.columns):
            continue
        name = sql.Identifier(column.name)
        key = sql.SQL("('x' || pg_catalog.encode(pg_catalog.substring({}, 6, 4), 'hex'))::bit(32)::int8").format(name)
        known = sql.SQL("NOT EXISTS (SELECT FROM {} d WHERE d.id = {})").format(sql.Identifier(schema, "data_key"), key)
        text = query.format(
            table=sql.Identifier(column.schema, column.table), name=name, unknown=sql.SQL("true") if layout is None else known
        )
        if (count := await _number(conn, text)) > 0:
            found.append(f"{column.at}: {column.label} holds {count} values that were sealed under keys of another registry")
    return found


async def lacking_tag(conn: Connection, names: Iterable[Name], slot: int, catalog: Catalog) -> Counted | None:
    """Count the values of columns, one identity's, that have no tag in a slot: all of those in plaintext.

    None where the service role does not see every row. Raises psycopg.Error.
    """
    lacking = values = 0
    for name in names:
        oid = type_of(name, catalog)
        if oid is None:
            continue
        column = sql.Identifier(name[2])
        here = sql.SQL(lacks_tag(name[2], slot) if oid == BYTEA_OID else "true")
        query = sql.SQL(
            "SELECT pg_catalog.row_security_active({place}::text), pg_catalog.count(*) FILTER (WHERE {here}), pg_catalog.count(*)"
            " FROM {table} WHERE {column} IS NOT NULL"
        ).format(
            place=sql.Literal(f"{quote_ident(name[0])}.{quote_ident(name[1])}"),
            here=here,
            table=sql.Identifier(*name[:2]),
            column=column,
        )
        async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(query)
            row = await cursor.fetchone()
        assert row is not None
        if row[0]:
            return None
        lacking, values = lacking + row[1], values + row[2]
    return Counted(lacking, values)


async def rows_of(conn: Connection, place: tuple[str, str]) -> int:
    """Count the rows of a table. Raises psycopg.Error."""
    return await _number(conn, sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(sql.Identifier(*place)))


def unfinished(label: str, shown: str, counted: Counted | None) -> str:
    """Say of an index that was added to a filled column what it takes until it answers something."""
    if counted is None:
        return f"{label}: index {shown} answers nothing yet: values that were stored before it have no tag in it"
    if not counted.lacking:
        return (
            f"{label}: index {shown} answers nothing yet, and no value lacks its tag: run `phiproxy keys init`, which activates it"
        )
    return (
        f"{label}: index {shown} answers nothing yet: {counted.lacking} of {counted.values} stored values have no tag in it and"
        " must be rewritten, which is not possible in this version (once the column is empty, `keys init` activates it)"
    )


def type_of(name: Name, catalog: Catalog) -> int | None:
    """Return the type OID of a column, None where there is none of this name."""
    relation = catalog.by_name.get(name[:2])
    found = relation.column(name[2]) if relation is not None else None
    return None if found is None else found.type_oid


async def _number(conn: Connection, query: sql.Composed) -> int:
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(query)
        row = await cursor.fetchone()
    assert row is not None  # an aggregate without GROUP BY has one row
    return int(row[0])
