"""What the protected tables look like on disk: types, guards, indexes, whatever hangs on a column; and what they should be."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from phiproxy.policy.model import PolicyColumn
from phiproxy.policy.physical_columns import hidden_name, tag
from phiproxy.policy.plaintext_guards import guard, guard_name
from phiproxy.policy.protection import ProtectedColumn, Slot

_BLANKS = re.compile(r"[\s()]+")


@dataclass(frozen=True, slots=True)
class PhysicalColumn:
    """One column: its type in words, pg_attribute.attstorage, its DEFAULT, what ALTER TYPE would trip over, and its collation."""

    name: str
    type_name: str
    storage: str
    default: str | None
    dependents: tuple[str, ...]
    nondeterministic: bool = False
    not_null: bool = False


@dataclass(frozen=True, slots=True)
class PhysicalIndex:
    """One index: its key expressions as the server prints them, and the columns that it touches anywhere.

    ``simple``: a valid btree without predicate, INCLUDE, NULLS NOT DISTINCT or deferred checking. ``attached``: a part of the index
    of a partitioned table, and dropped with it.
    """

    name: str
    keys: tuple[str, ...]
    columns: frozenset[str]
    unique: bool
    primary: bool
    constraint: bool
    simple: bool
    attached: bool = False


@dataclass(frozen=True, slots=True)
class PhysicalCheck:
    """One CHECK constraint as the server prints it."""

    name: str
    definition: str
    columns: frozenset[str]
    validated: bool
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class PhysicalTable:
    """One table with at least one protected column."""

    schema: str
    name: str
    has_rows: bool
    columns: Mapping[str, PhysicalColumn]
    indexes: tuple[PhysicalIndex, ...]
    checks: tuple[PhysicalCheck, ...]


Physical = Mapping[tuple[str, str], PhysicalTable]


def same_sql(one: str, other: str) -> bool:
    """Compare an expression of ours with the server's printing of it, which adds parentheses, blanks and quotes."""
    return _bare(one) == _bare(other)


def _bare(text: str) -> str:
    return _BLANKS.sub("", text.lower().replace("pg_catalog.", "").replace('"substring"', "substring"))


def has_guard(table: PhysicalTable, column: ProtectedColumn) -> bool:
    """Say whether the right guard is there and validated."""
    return any(c.name == guard_name(column.name) and c.validated and same_sql(c.definition, guard(column)) for c in table.checks)


def is_tag_index(index: PhysicalIndex, column: ProtectedColumn, slot: Slot) -> bool:
    """Say whether this index answers equality on this slot."""
    return index.simple and len(index.keys) == 1 and same_sql(index.keys[0], tag(column, slot))


def missing_tags(table: PhysicalTable, wanted: PolicyColumn, column: ProtectedColumn) -> list[Slot]:
    """Return the slots that lack a generated column with their tags, of a table that needs such: under row-level security."""
    slots = [s for s in column.slots if s.expression in wanted.expressions and s.state != "dropped"]
    return [s for s in slots if hidden_name(column, s.number) not in table.columns]


_COLUMNS = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attstorage::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid),
       ARRAY(SELECT DISTINCT pg_catalog.pg_describe_object(p.classid, p.objid, 0) FROM pg_catalog.pg_depend p
              WHERE p.refclassid = 1259 AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum
                AND (p.classid IN (2618, 2620, 3256) OR p.classid = 2604 AND p.objid IS DISTINCT FROM d.oid)
              ORDER BY 1),
       EXISTS (SELECT FROM pg_catalog.pg_collation k WHERE k.oid = a.attcollation AND NOT k.collisdeterministic), a.attnotnull
  FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
"""
_INDEXES = """
SELECT c.relname,
       ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, n, true) FROM pg_catalog.generate_series(1, i.indnkeyatts) n),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = i.indrelid AND (a.attnum = ANY (i.indkey) OR EXISTS (
                SELECT FROM pg_catalog.pg_depend p WHERE p.classid = 1259 AND p.objid = i.indexrelid
                   AND p.refclassid = 1259 AND p.refobjid = i.indrelid AND p.refobjsubid = a.attnum)) AND a.attnum > 0),
       i.indisunique, i.indisprimary, EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid
                                                AND k.conrelid = i.indrelid AND k.contype IN ('u', 'p', 'x')),
       i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indnatts = i.indnkeyatts AND m.amname = 'btree'
         AND NOT i.indisexclusion AND pg_catalog.pg_get_indexdef(i.indexrelid) NOT LIKE '%% NULLS NOT DISTINCT%%',
       c.relispartition
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam
 WHERE i.indrelid = %s ORDER BY c.relname
"""
_CHECKS = """
SELECT k.conname, pg_catalog.pg_get_constraintdef(k.oid), k.convalidated, pg_catalog.obj_description(k.oid, 'pg_constraint'),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))
  FROM pg_catalog.pg_constraint k WHERE k.conrelid = %s AND k.contype = 'c' ORDER BY k.conname
"""
_OID = """
SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s
"""


async def read_physical(
    conn: psycopg.AsyncConnection[Any], tables: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], PhysicalTable]:
    """Read the tables, (schema, name) each; one that does not exist is left out. Raises psycopg.Error, e.g. without SELECT."""
    by_name = {}
    for schema, name in dict.fromkeys(tables):
        oids = await _rows(conn, _OID, schema, name)
        if oids:
            by_name[schema, name] = await _read_table(conn, schema, name, oids[0][0])
    return by_name


async def _read_table(conn: psycopg.AsyncConnection[Any], schema: str, name: str, oid: int) -> PhysicalTable:
    # Where rows may be hidden from this role there may be some.
    exists = sql.SQL("SELECT pg_catalog.row_security_active({}) OR EXISTS (SELECT FROM {})").format(
        sql.Literal(oid), sql.Identifier(schema, name)
    )
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(exists)
        row = await cursor.fetchone()
    columns = {n: PhysicalColumn(n, t, s, d, tuple(o), k, m) for n, t, s, d, o, k, m in await _rows(conn, _COLUMNS, oid)}
    indexes = tuple(
        PhysicalIndex(n, tuple(k), frozenset(c), unique, primary, constraint, simple, attached)
        for n, k, c, unique, primary, constraint, simple, attached in await _rows(conn, _INDEXES, oid)
    )
    checks = tuple(PhysicalCheck(n, d, frozenset(c), *rest) for n, d, *rest, c in await _rows(conn, _CHECKS, oid))
    return PhysicalTable(schema, name, bool(row and row[0]), columns, indexes, checks)


async def _rows(conn: psycopg.AsyncConnection[Any], query: str, *values: object) -> list[tuple[Any, ...]]:
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()
