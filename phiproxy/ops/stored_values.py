"""What tables hold already, counted and never read: values of another registry, values without a tag, rows in plaintext."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from phiproxy.documents.field_paths import ELEMENTS, Path
from phiproxy.errors import ConfigError
from phiproxy.ops.physical_tables import read_physical
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.identifiers import quote_ident, yaml_text
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.physical_columns import lacks_tag
from phiproxy.policy.physical_documents import json_path, lacks_leaf_tag, quoted, reached
from phiproxy.policy.registry_layout import Layout, column_of, field_path
from phiproxy.policy.user_types import resolved
from phiproxy.wire.oids import BYTEA_OID

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
    lines = []
    for column in policy.columns():
        column_name = (column.schema, column.table, column.name)
        if type_of(column_name, catalog) != BYTEA_OID or (layout is not None and column_name in layout.columns):
            continue
        name = sql.Identifier(column.name)
        key = sql.SQL("('x' || pg_catalog.encode(pg_catalog.substring({}, 6, 4), 'hex'))::bit(32)::int8").format(name)
        registered = sql.SQL("NOT EXISTS (SELECT FROM {} d WHERE d.id = {})").format(sql.Identifier(schema, "data_key"), key)
        text = query.format(
            table=sql.Identifier(column.schema, column.table), name=name, unknown=sql.SQL("true") if layout is None else registered
        )
        if (count := await _number(conn, text)) > 0:
            lines.append(f"{column.at}: {column.label} holds {count} values that were sealed under keys of another registry")
    return lines


async def other_types(conn: Connection, columns: Iterable[PolicyColumn], layout: Layout | None, catalog: Catalog) -> list[str]:
    """Say which columns of filled tables, that are not registered yet, are in clear and of another type than the policy says.

    What is registered stays, and ``encrypt`` would refuse them. psycopg.Error.
    """
    lines = []
    for column in columns:
        relation = catalog.by_name.get((column.schema, column.table))
        stored = relation.column(column.name) if relation is not None else None
        known = layout is not None and column.registered_name in layout.columns
        if known or relation is None or stored is None or stored.type_oid == BYTEA_OID or column.name in dict(relation.guards):
            continue
        try:
            wanted = resolved(column.type, catalog.types)
        except ConfigError:
            continue  # of which ``type_complaints`` speaks
        if (stored.type_oid, stored.typmod) == (wanted.oid, wanted.typmod):
            continue
        name = column.schema, column.table
        table = (await read_physical(conn, [name]))[name]
        if not table.has_rows:
            continue
        is_ = table.columns[column.name].type_name
        lines.append(
            f"{column.at}: {column.label} is {is_}, and the policy says {wanted.name}, which stays once it is registered: write"
            f" `type: {yaml_text(is_)}`; where another scheme has encrypted its values, `keys init --clear {column.label}`"
        )
    return lines


async def plain_fields(conn: Connection, policy: Policy, layout: Layout | None, catalog: Catalog) -> list[Name]:
    """Return the fields that are new to documents that are sealed, and have values in them: `phiproxy encrypt` seals these.

    Raises psycopg.Error.
    """
    names = []
    for column in policy.columns():
        if layout is None or column.registered_name not in layout.columns or column.registered_name in layout.clear:
            continue
        for field in column.fields:
            if field.registered_name in layout.columns or type_of(column.registered_name, catalog) is None:
                continue
            query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})").format(
                sql.Identifier(column.schema, column.table), sql.SQL(_has_value(quote_ident(column.name), field.path))
            )
            if (await _row(conn, query))[0]:
                names.append(field.registered_name)
    return names


def _has_value(document: str, path: Path) -> str:
    """Return the condition that something stands at a path of a document that is not null."""
    if ELEMENTS in path:
        return f"pg_catalog.jsonb_path_exists({document}, {quoted(json_path(path) + ' ? (@ != null)')})"
    return f"{reached(document, path, text=True)} IS NOT NULL"


async def lacking_tag(conn: Connection, names: Iterable[Name], slot: int, catalog: Catalog) -> Counted | None:
    """Count the values of columns, one identity's, that have no tag in a slot: all of those in plaintext.

    None where the service role does not see every row. Raises psycopg.Error.
    """
    lacking = values = 0
    for name in names:
        oid = type_of(name, catalog)
        if oid is None:
            continue
        column: sql.Composable = sql.Identifier(column_of(name)[2])
        here = sql.SQL(lacks_tag(name[2], slot) if oid == BYTEA_OID else "true")
        if path := field_path(name):
            here = sql.SQL(lacks_leaf_tag(column_of(name)[2], path, slot))
            column = sql.SQL(reached(quote_ident(column_of(name)[2]), path, text=True))
        query = sql.SQL(
            "SELECT pg_catalog.row_security_active({place}::text), pg_catalog.count(*) FILTER (WHERE {here}), pg_catalog.count(*)"
            " FROM {table} WHERE {column} IS NOT NULL"
        ).format(
            place=sql.Literal(f"{quote_ident(name[0])}.{quote_ident(name[1])}"),
            here=here,
            table=sql.Identifier(*name[:2]),
            column=column,
        )
        hidden, without, stored = await _row(conn, query)
        if hidden:
            return None
        lacking, values = lacking + without, values + stored
    return Counted(lacking, values)


async def rows_of(conn: Connection, table_name: tuple[str, str]) -> int:
    """Count the rows of a table. Raises psycopg.Error."""
    return await _number(conn, sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(sql.Identifier(*table_name)))


def unfinished(label: str, shown: str, counted: Counted | None) -> str:
    """Say of an index that was added to a filled column what it takes until it answers something."""
    if counted is None:
        return f"{label}: index {shown} answers nothing yet: values that were stored before it have no tag in it; {_reindex(label)}"
    if not counted.lacking:
        return (
            f"{label}: index {shown} answers nothing yet, and no value lacks its tag: run `phiproxy keys init`, which activates it"
        )
    return (
        f"{label}: index {shown} answers nothing yet: {counted.lacking} of {counted.values} stored values have no tag in it;"
        f" {_reindex(label)}"
    )


def _reindex(label: str) -> str:
    return f"`phiproxy reindex {label}` gives them theirs while the table is in use"


def type_of(name: Name, catalog: Catalog) -> int | None:
    """Return the type OID of a column, of a field of a document that of the document; None where there is none of this name."""
    relation = catalog.by_name.get(name[:2])
    column = relation.column(column_of(name)[2]) if relation is not None else None
    return None if column is None else column.type_oid


async def _number(conn: Connection, query: sql.Composed) -> int:
    return int((await _row(conn, query))[0])


async def _row(conn: Connection, query: sql.Composed) -> TupleRow:
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(query)
        row = await cursor.fetchone()
    assert row is not None  # an aggregate without GROUP BY has one row
    return row
