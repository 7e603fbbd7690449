"""What the server says of tables that are about to be switched: what refers to them, and whose transactions have touched them."""

from collections.abc import Collection
from typing import Any, Final

import psycopg

# A row that refers to another, or is referred to, is looked for when it is written: the other table is touched too. A row that is
# deleted or changed far above takes those below with it, one after the other.
_NEIGHBOURS: Final = """
WITH RECURSIVE above (oid) AS (
  SELECT f.confrelid FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class c ON c.oid = f.conrelid
   WHERE f.contype = 'f' AND c.relname = ANY (%s)
  UNION SELECT f.confrelid FROM above JOIN pg_catalog.pg_constraint f ON f.conrelid = above.oid
   WHERE f.contype = 'f' AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))
)
SELECT c.relname::text FROM above JOIN pg_catalog.pg_class c ON c.oid = above.oid
 UNION
SELECT b.relname::text FROM pg_catalog.pg_constraint f
  JOIN pg_catalog.pg_class c ON c.oid = f.confrelid JOIN pg_catalog.pg_class b ON b.oid = f.conrelid
 WHERE f.contype = 'f' AND c.relname = ANY (%s)
"""
# A lock on a table lasts until the end of the transaction. Of a session of another server, a standby, it is not known here.
_UNTOUCHING: Final = """
SELECT a.pid FROM pg_catalog.pg_stat_activity a
 WHERE a.datname = pg_catalog.current_database() AND a.pid = ANY (%s) AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
   WHERE l.database = a.datid AND l.pid = a.pid AND c.relname = ANY (%s))
"""


async def with_neighbours(conn: psycopg.AsyncConnection[Any], names: Collection[str]) -> frozenset[str]:
    """Return names, with those of the tables that foreign keys join to tables of these, also by cascades. psycopg.Error."""
    rows = await (await conn.execute(_NEIGHBOURS, [list(names), list(names)])).fetchall()
    return frozenset(names).union(name for (name,) in rows)


async def without_touching(conn: psycopg.AsyncConnection[Any], names: Collection[str], pids: Collection[int]) -> frozenset[int]:
    """Return those of these process ids whose sessions this server has, in transactions that have touched no table of these names.

    psycopg.Error.
    """
    rows = await (await conn.execute(_UNTOUCHING, [list(pids), list(names)])).fetchall()
    return frozenset(pid for (pid,) in rows)


async def is_there(conn: psycopg.AsyncConnection[Any], pids: Collection[int]) -> bool:
    """Tell whether the server has a session of this database with one of these process ids. psycopg.Error."""
    query = "SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datname = pg_catalog.current_database() AND a.pid = ANY (%s) LIMIT 1"
    return await (await conn.execute(query, [list(pids)])).fetchone() is not None
