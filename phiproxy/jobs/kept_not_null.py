"""``NOT NULL`` of columns that are converted, in each relation of a table's family: as it was, by the name that it had.

Since PostgreSQL 18 it is a constraint with a name, a comment, and heirs or none, which may be NOT VALID. Before it is a mark of a
column, which children by inheritance have of themselves, and partitions of the partitioned table or of themselves. In both it is
added without that a row is looked at while somebody waits.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from phiproxy.jobs.local_columns import ANCESTORS
from phiproxy.jobs.relations import Connection, Part, TableName, rows_of
from phiproxy.jobs.short_locks import run_as, with_short_lock
from phiproxy.policy.identifiers import literal, quote_ident, shorten

Q = quote_ident


@dataclass(frozen=True, slots=True)
class NotNull:
    """That a column of a relation is NOT NULL. Without a ``name`` the server gives one, or knows none.

    ``own``: the relation has it of itself, whatever it inherits. ``inherits``: its children have it too. ``valid``: all rows were
    looked at.
    """

    part: Part
    column: str
    name: str = ""
    own: bool = True
    inherits: bool = True
    valid: bool = True
    comment: str | None = None

    @property
    def check(self) -> str:
        """The name of the CHECK that stands for it until all rows were looked at, where it has no name."""
        digest = hashlib.sha256(repr((*self.part.name, self.column)).encode()).hexdigest()[:8]
        return shorten(f"phi_not_null_{self.part.name[1]}_{self.column}", digest)

    @property
    def looked_at(self) -> tuple[str, str, str] | None:
        """Schema, table and name of what is looked at after the switch, where that is a constraint whose rows were looked at."""
        return (*self.part.name, self.name) if self.name and self.valid else None


_NAMED: Final = f"""
SELECT a.attrelid::int8, a.attname::text, k.conname::text,
       k.conislocal OR NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h
         JOIN pg_catalog.pg_attribute b ON b.attrelid = h.inhparent AND b.attname = a.attname
         JOIN pg_catalog.pg_constraint p ON p.conrelid = h.inhparent AND p.contype = 'n' AND p.conkey = ARRAY[b.attnum]
        WHERE h.inhrelid = a.attrelid AND p.conname = k.conname AND NOT p.connoinherit),
       NOT k.connoinherit, k.convalidated, pg_catalog.obj_description(k.oid, 'pg_constraint')
  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]
 WHERE k.contype = 'n' AND a.attrelid = ANY (%s::oid[]) AND a.attname = %s ORDER BY {ANCESTORS} DESC, 1
"""
_MARKED: Final = f"""
SELECT a.attrelid::int8, a.attname::text, '',
       NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class p ON p.oid = h.inhparent AND p.relkind = 'p'
         JOIN pg_catalog.pg_attribute b ON b.attrelid = h.inhparent AND b.attname = a.attname
        WHERE h.inhrelid = a.attrelid AND b.attnotnull),
       c.relkind = 'p', true, NULL
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
 WHERE a.attnotnull AND a.attrelid = ANY (%s::oid[]) AND a.attname = %s ORDER BY {ANCESTORS} DESC, 1
"""


async def not_nulls_of(conn: Connection, family: Sequence[Part], column: str) -> tuple[NotNull, ...]:
    """Return where a column is NOT NULL in a table's family, heirs first; psycopg.Error."""
    by_oid = {part.oid: part for part in family}
    query = _NAMED if conn.info.server_version >= 180000 else _MARKED
    return tuple([NotNull(by_oid[oid], *rest) for oid, *rest in await rows_of(conn, query, list(by_oid), column)])


def made_again(not_nulls: Iterable[NotNull]) -> Iterator[str]:
    """Yield what makes another column of that name NOT NULL, at once but for the rows that are there.

    ``ALTER TABLE patients ADD CONSTRAINT given NOT NULL ssn NOT VALID``, where it has a name; else a CHECK that stands for it.
    """
    for each in not_nulls:
        alter, heirless = f"ALTER TABLE {each.part.label} ADD CONSTRAINT", "" if each.inherits else " NO INHERIT"
        if each.own and each.name:
            yield f"{alter} {Q(each.name)} NOT NULL {Q(each.column)}{heirless} NOT VALID"
        elif each.own:
            yield f"{alter} {Q(each.check)} CHECK ({Q(each.column)} IS NOT NULL){heirless} NOT VALID"
    for each in not_nulls:
        if each.comment is not None:
            yield f"COMMENT ON CONSTRAINT {Q(each.name)} ON {each.part.label} IS {literal(each.comment)}"


def dropped(not_nulls: Sequence[NotNull], column: str) -> Iterator[str]:
    """Yield what lets a column, which was renamed, take NULL; what heirs have of themselves they have until they are asked too."""
    for each in reversed(not_nulls):
        if each.own:
            yield f"ALTER TABLE {each.part.label} ALTER COLUMN {Q(column)} DROP NOT NULL"


_CHECKS: Final = r"""
SELECT n.nspname::text, c.relname::text, a.attname::text, k.conname::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
       k.connoinherit
  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey)
 WHERE k.contype = 'c' AND k.conname LIKE 'phi\_not\_null\_%%' AND k.coninhcount = 0 ORDER BY 1, 2, 4
"""


async def settle_not_null(conn: Connection, columns: Collection[tuple[TableName, str]], told: Callable[[str], None]) -> None:
    """Look at all rows for NULL where a CHECK stands for it, nobody being kept out, and then make the column NOT NULL at once.

    ConfigError where the lock cannot be had; psycopg.Error.
    """
    for schema, name, column, check, owner, heirless in await rows_of(conn, _CHECKS):
        if ((schema, name), column) not in columns:
            continue
        table = f"{Q(schema)}.{Q(name)}"
        await run_as(conn, owner, f"ALTER TABLE {table} VALIDATE CONSTRAINT {Q(check)}")
        only = "ONLY " if heirless else ""
        second = (
            f"ALTER TABLE {only}{table} ALTER COLUMN {Q(column)} SET NOT NULL; ALTER TABLE {table} DROP CONSTRAINT {Q(check)}"
        )
        await with_short_lock(conn, owner, f"NOT NULL of {column}", partial(_execute, second), told=told)


async def _execute(text: str, conn: Connection) -> None:
    await conn.execute(text.encode())
