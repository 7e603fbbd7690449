"""Which data keys stored values are under, by a bounded look at a column: the id stands in clear in each envelope.

Small tables are looked through whole; of larger ones a sample of pages, and the last ones, where the newest values are.
"""

from typing import Any, Final

import psycopg
from psycopg import sql

# Pages of 8 kB: what is looked at of one table at most, but for its last ones.
MOST_PAGES: Final = 4096
LAST_PAGES: Final = 64

_PARTS: Final = """
SELECT n.nspname, c.relname, pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int8
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND (c.oid = pg_catalog.to_regclass(%(name)s) OR c.oid IN
       (SELECT relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass(%(name)s))))
"""
_IDS: Final = """
SELECT DISTINCT pg_catalog.substring({column}, 6, 4) FROM {table} {sample}
 WHERE pg_catalog.substring({column}, 1, 3) = '\\xf55001'::bytea AND pg_catalog.octet_length({column}) >= 56 {where}
"""


async def key_ids(conn: psycopg.AsyncConnection[Any], schema: str, table: str, column: str) -> set[int] | None:
    """Return the data key ids in a bytea column's envelopes; None when the service role does not see its rows. psycopg.Error."""
    ids: set[int] = set()
    name = sql.Identifier(schema, table)
    try:
        async with conn.transaction(), conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute("SET LOCAL row_security TO off")  # a row that is hidden is an error then
            await cursor.execute(_PARTS, {"name": name.as_string(conn)})
            for part_schema, part, pages in await cursor.fetchall():
                for sample, where in _looks(int(pages)):
                    names = {"column": sql.Identifier(column), "table": sql.Identifier(part_schema, part)}
                    await cursor.execute(sql.SQL(_IDS).format(**names, sample=sql.SQL(sample), where=sql.SQL(where)))
                    ids.update(int.from_bytes(key_id) for (key_id,) in await cursor.fetchall())
    except psycopg.errors.InsufficientPrivilege:
        return None
    return ids


def _looks(pages: int) -> list[tuple[str, str]]:
    """Return the TABLESAMPLE clauses and conditions that a table of so many pages is looked at by."""
    if pages <= MOST_PAGES:
        return [("", "")]
    return [(f"TABLESAMPLE SYSTEM ({100 * MOST_PAGES / pages:.6f})", ""), ("", f"AND ctid >= '({pages - LAST_PAGES},0)'::tid")]
