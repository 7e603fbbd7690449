"""What a job must know of a table before it goes through it: its parts, what names a row, its owner, what would fire."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.policy.identifiers import quote_ident

Connection = psycopg.AsyncConnection[Any]
TableName = tuple[str, str]


class Identifier(sql.Identifier):
    """An identifier as a part of a query with parameters: psycopg would take a ``%`` in it for the begin of one."""

    def as_bytes(self, context: Any = None) -> bytes:
        """Return it as SQL, with each ``%`` twice."""
        return super().as_bytes(context).replace(b"%", b"%%")


def as_part(text: str) -> sql.SQL:
    """Return SQL without parameters, such as PostgreSQL has printed, as a part of a query with parameters."""
    return sql.SQL(text.replace("%", "%%"))


class KeyPart(NamedTuple):
    """A part of what names a row: an SQL expression over the table's columns, and its type, both as PostgreSQL prints them."""

    expression: str
    type_name: str
    columns: tuple[str, ...]
    """The columns that it is of."""


@dataclass(frozen=True, slots=True)
class Part:
    """A relation that has rows of its own: a table, a partition, a child by inheritance. ``rows`` is the planner's estimate.

    ``key`` is its primary key, else another unique key that is never NULL; empty where there is none. ``hidden``: row-level
    security hides rows from the role that asks. ``stores``: a partitioned table has no rows of its own. ``indexed`` are columns of
    its indexes that a row which is rewritten may be given anew as they are (``Scan.write``).
    """

    name: TableName
    oid: int
    owner: str
    rows: int
    key: tuple[KeyPart, ...]
    hidden: bool
    stores: bool = True
    indexed: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """``schema.table``, quoted where PostgreSQL would."""
        return ".".join(map(quote_ident, self.name))

    def is_named_by(self, columns: Collection[str]) -> bool:
        """Tell whether its rows are named by values of one of these columns; a tag is none."""
        return any(not key.expression.endswith(")") and not set(key.columns).isdisjoint(columns) for key in self.key)


# Not where that would do more than to store the row: compute a generated column, or fire a trigger of a single column.
_INDEXED: Final = """
ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
       WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attidentity <> 'a'
         AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'UPDATE')
         AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND (a.attnum = ANY (i.indkey) OR EXISTS (
               SELECT FROM pg_catalog.pg_depend p WHERE p.classid = 1259 AND p.objid = i.indexrelid
                  AND p.refclassid = 1259 AND p.refobjid = c.oid AND p.refobjsubid = a.attnum)))
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute g WHERE g.attrelid = c.oid AND g.attgenerated <> '')
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgattr <> '')
       ORDER BY a.attnum)
"""
_PARTS: Final = f"""
WITH RECURSIVE part(oid) AS (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = %s AND c.relname = %s
  UNION
  SELECT i.inhrelid FROM part JOIN pg_catalog.pg_inherits i ON i.inhparent = part.oid
)
SELECT n.nspname, c.relname, c.oid::int8, pg_catalog.pg_get_userbyid(c.relowner), greatest(c.reltuples, 0)::int8,
       pg_catalog.row_security_active(c.oid), c.relkind = 'r', {_INDEXED}
  FROM part JOIN pg_catalog.pg_class c ON c.oid = part.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') ORDER BY 1, 2
"""

# A unique index that is checked at once, over all rows, of columns that are never NULL. Of an expression over a column, none but a
# tag's (substring) is sure to be as rarely NULL as the column.
_KEYS: Final = """
SELECT i.indisprimary,
       ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, n, false)
               FROM pg_catalog.generate_series(1, i.indnkeyatts) n ORDER BY n),
       ARRAY(SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = i.indexrelid AND a.attnum <= i.indnkeyatts ORDER BY a.attnum),
       ARRAY(SELECT CASE WHEN k.attnum = 0 THEN '' ELSE a.attname::text END
               FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
               LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
              WHERE k.n <= i.indnkeyatts ORDER BY k.n),
       ARRAY(SELECT DISTINCT a.attname::text FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = i.indrelid AND a.attnum = p.refobjsubid
              WHERE p.classid = 1259 AND p.objid = i.indexrelid AND p.refclassid = 1259 AND p.refobjid = i.indrelid
                AND a.attnum > 0),
       NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = i.indrelid AND NOT a.attnotnull AND a.attnum > 0 AND (a.attnum = ANY (i.indkey) OR EXISTS (
                      SELECT FROM pg_catalog.pg_depend p WHERE p.classid = 1259 AND p.objid = i.indexrelid
                         AND p.refclassid = 1259 AND p.refobjid = i.indrelid AND p.refobjsubid = a.attnum)))
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = %s::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
 ORDER BY i.indisprimary DESC, i.indnkeyatts, c.relname
"""


async def family_of(conn: Connection, table_name: TableName) -> list[Part]:
    """Return a table with its partitions and children, and theirs. Empty without such a table."""
    return [
        Part((schema, name), oid, owner, rows, await _key(conn, oid), hidden, stores, tuple(indexed))
        for schema, name, oid, owner, rows, hidden, stores, indexed in await rows_of(conn, _PARTS, *table_name)
    ]


async def parts_of(conn: Connection, table_name: TableName) -> list[Part]:
    """Return those of a table's family that rows are in."""
    return [part for part in await family_of(conn, table_name) if part.stores]


async def _key(conn: Connection, oid: int) -> tuple[KeyPart, ...]:
    for primary, expressions, types, names, used, never_null in await rows_of(conn, _KEYS, oid):
        if primary or (never_null and all(name or _is_tag(text) for name, text in zip(names, expressions, strict=True))):
            parts = zip(expressions, types, names, strict=True)
            return tuple(KeyPart(text, type_name, (name,) if name else tuple(used)) for text, type_name, name in parts)
    return ()


def _is_tag(expression: str) -> bool:
    """Tell whether an index's expression is a tag that is NULL for no value: ``"substring"(ssn, 13, 16)``."""
    return "substring" in expression and "nullif" not in expression.lower()


# What an UPDATE would fire: in tgtype 16 is UPDATE. A session as a replica fires what is ENABLE REPLICA or ENABLE ALWAYS, another
# one all else but the former.
_FIRING: Final = """
SELECT t.tgname::text, t.tgenabled::text FROM pg_catalog.pg_trigger t
 WHERE t.tgrelid = %(oid)s::oid AND NOT t.tgisinternal AND t.tgtype & 16 <> 0 AND t.tgenabled <> 'D'
   AND t.tgname <> '~phi_stale'
UNION ALL
SELECT r.rulename::text, r.ev_enabled::text FROM pg_catalog.pg_rewrite r
 WHERE r.ev_class = %(oid)s::oid AND r.ev_type = '2' AND r.ev_enabled <> 'D'
 ORDER BY 1
"""


async def fired_by_update(conn: Connection, oid: int, *, as_replica: bool) -> list[str]:
    """Return the names of the triggers and rules that an UPDATE of a relation fires, of a session as a replica or of another."""
    enabled = ("R", "A") if as_replica else ("O", "A")
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(_FIRING, {"oid": oid})
        return [name for name, state in await cursor.fetchall() if state in enabled]


async def may_act_as(conn: Connection, owner: str) -> bool:
    """Say whether the role of this session may become another one."""
    rows = await rows_of(conn, "SELECT pg_catalog.pg_has_role(session_user, %s, 'MEMBER')", owner)
    return bool(rows[0][0])


async def refuse_unless_owner(conn: Connection, parts: list[Part]) -> None:
    """ConfigError, with the GRANT that is missing, where this session may not do what only a table's owner may: indexes, guards."""
    for owner in sorted({part.owner for part in parts}):
        if not await may_act_as(conn, owner):
            ((user,),) = await rows_of(conn, "SELECT session_user")
            raise ConfigError(
                f"the service role may not alter tables of {owner}",
                hint=f"for the time of the job: GRANT {quote_ident(owner)} TO {quote_ident(str(user))}",
            )


async def rows_of(conn: Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query as tuples."""
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()
