"""Transactions that are open at a moment, and whether they have ended: what they have read before may be written behind a count.

A REPEATABLE READ transaction sees rows as they were when it began, with the keys that they were under then, and copies them so. No
count sees that before it is done. Who else waits so is ``CREATE INDEX CONCURRENTLY``. All are waited for, whatever their level:
that, and whether they have a snapshot, the server shows members of ``pg_read_all_stats`` only.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from phiproxy.keys.authenticated_tables import Connection

STEP: Final = 0.1
TOLD_AFTER: Final = 10

# A transaction has the virtual xid that it is named by locked until its end. Autovacuum has no user, and writes no row.
_OPEN: Final = """
SELECT l.virtualtransaction FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'virtualxid' AND l.granted AND l.virtualxid = l.virtualtransaction AND a.usesysid IS NOT NULL
   AND a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
"""


async def nothing_more() -> None:
    """Do nothing between two looks."""


async def older_have_ended(
    conn: Connection, told: Callable[[str], None], goes_on: Callable[[], Awaitable[None]] = nothing_more
) -> None:
    """Return when each transaction of this database that is open now has ended. ``conn`` is in autocommit mode; psycopg.Error.

    ``told`` is why it waits, where that takes more than a moment, and "" at the end of that; ``goes_on`` may raise.
    """
    before, steps = await _open(conn), 0
    while before:
        if steps == TOLD_AFTER:
            told(f"{len(before)} transactions are open that have begun before; pg_stat_activity shows whose they are")
        await goes_on()
        await asyncio.sleep(STEP)
        before &= await _open(conn)
        steps += 1
    if steps > TOLD_AFTER:
        told("")


async def _open(conn: Connection) -> set[str]:
    return {name for (name,) in await (await conn.execute(_OPEN)).fetchall()}
