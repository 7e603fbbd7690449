"""Columns that children by inheritance have of themselves too: the server leaves them where they are, when the parent's go."""

from collections.abc import Sequence
from typing import Final

from phiproxy.jobs.relations import Connection, Part, rows_of

ANCESTORS: Final = """
(WITH RECURSIVE above (oid) AS (SELECT a.attrelid UNION SELECT h.inhparent FROM above JOIN pg_catalog.pg_inherits h
                                                          ON h.inhrelid = above.oid) SELECT pg_catalog.count(*) FROM above)"""
"""Of an attribute ``a``: how many relations its own inherits from, directly or not. Who inherits has more than what it is from."""
_LOCAL: Final = f"""
SELECT a.attrelid::int8 FROM pg_catalog.pg_attribute a
 WHERE a.attislocal AND a.attinhcount > 0 AND a.attrelid = ANY (%s::oid[]) AND a.attname = %s ORDER BY {ANCESTORS}, 1
"""


async def local_children(conn: Connection, family: Sequence[Part], column: str) -> tuple[Part, ...]:
    """Return which of a table's family inherit a column and have it of themselves, parents first; psycopg.Error.

    Such are those that were made with it, or made heirs later: ``ALTER TABLE child INHERIT parent``.
    """
    by_oid = {part.oid: part for part in family}
    return tuple([by_oid[oid] for (oid,) in await rows_of(conn, _LOCAL, list(by_oid), column)])
