"""Short transactions over tables that are in use: a lock is asked for, for moments, and then given up and asked for again.

Whoever waits for a lock that conflicts with all others lets everybody wait behind itself. So each attempt is short, and the pauses
between them grow. It is shorter than deadlock_timeout (1 s), after which the server would end the transaction of somebody who waits
for the job, while that waits for him. But only after that time the server ends an autovacuum for the job, and that may be at work
for hours: so some attempts are longer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.jobs.index_settings import in_tablespace
from phiproxy.jobs.relations import Connection
from phiproxy.keys.registry_locks import LONGER, LONGER_EACH, SHORT

ATTEMPTS: Final = 10
LONGEST_PAUSE: Final = 30.0

Work = Callable[[Connection], Awaitable[None]]


async def with_short_lock(
    conn: Connection,
    role: str,
    what: str,
    work: Work,
    *,
    attempts: int = ATTEMPTS,
    told: Callable[[str], None] = lambda _: None,
) -> None:
    """Do ``work`` in one transaction as ``role``, again where a lock cannot be had; ConfigError when it cannot be had at all.

    ``what`` says for the message what is done. Nothing is half done: an attempt that fails is rolled back.
    """
    for attempt in range(attempts):
        try:
            async with conn.transaction():
                longer = (attempt + 1) % LONGER_EACH == 0
                await conn.execute((LONGER if longer else SHORT).encode())
                await conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
                await work(conn)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if attempt + 1 < attempts:
                told(f"others hold a lock: {what}")
                await asyncio.sleep(min(LONGEST_PAUSE, 0.5 * 2**attempt))
        else:
            if attempt:
                told("")
            return
    raise ConfigError(
        f"{what}: the lock could not be had in {attempts} attempts; nothing was changed",
        hint="pg_stat_activity shows which transaction is open for so long",
    )


async def run_as(conn: Connection, role: str, statement: str, *, tablespace: str | None = None) -> None:
    """Run, as a role, what no transaction may hold, or what takes its time without keeping anybody out. psycopg.Error.

    ``tablespace``: where an index that it makes is to be; empty for the database's default, None for the session's.
    """
    await conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    try:
        for setting in in_tablespace(tablespace, local=False):
            await conn.execute(setting.encode())
        await conn.execute(statement.encode())
    finally:
        await conn.execute("RESET ROLE; RESET default_tablespace")
