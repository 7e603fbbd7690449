"""Waiting for locks that others have: on the registry for a while and no longer, and then it is said who has them.

Who has rows of an application locked, or waits for them with a lock, waits for moments only (``SHORT``, ``LONGER``).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, LiteralString

import psycopg

Connection = psycopg.AsyncConnection[Any]

PATIENCE: float = 30.0
"""Seconds for which a job, and whoever starts or stops one, waits for a lock on the registry."""
LOCK_TIMEOUT: Final = 0.6
"""Seconds for which a lock is asked for while others are held: less than the ``deadlock_timeout`` of who waits for those."""
SHORT: Final = f"SET LOCAL lock_timeout TO '{LOCK_TIMEOUT * 1000:.0f}ms'"
LONGER: Final = """
SELECT pg_catalog.set_config('lock_timeout', s.setting::int8 + 500 || 'ms', true) FROM pg_catalog.pg_settings s
 WHERE s.name = 'deadlock_timeout'
"""
"""So long that the server ends an autovacuum for it, which may be at work for hours."""
LONGER_EACH: Final = 3
"""Of so many attempts the last is longer."""
LONGEST_PAUSE: Final = 5.0


async def be_patient(conn: Connection) -> None:
    """Have a session wait for locks no longer than ``PATIENCE``. psycopg.Error."""
    await conn.execute(f"SET lock_timeout TO {PATIENCE * 1000:.0f}".encode())


async def attempts() -> AsyncIterator[LiteralString]:
    """Yield, for ``PATIENCE``, what sets how long a transaction waits for each lock; between two nothing is to be locked."""
    end, attempt = time.monotonic() + PATIENCE, 0
    while True:
        attempt += 1
        yield LONGER if attempt % LONGER_EACH == 0 else SHORT
        if time.monotonic() > end:
            return
        await asyncio.sleep(min(LONGEST_PAUSE, 0.2 * 2**attempt))


def is_of_lock(error: BaseException) -> bool:
    """Tell whether an error, or what it was raised for, is that a lock was not had."""
    return any(isinstance(each, psycopg.errors.LockNotAvailable) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# Of a row that somebody has changed and not committed the table's lock says no more than that he has changed something.
_HOLDERS: Final = """
SELECT DISTINCT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, '')
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE n.nspname = %s AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
   AND l.mode IN ('RowExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
 ORDER BY 1
"""


async def holders(conn: Connection, schema: str) -> str:
    """Say which sessions have locks on the registry that keep others out, or "" where none has any more. psycopg.Error."""
    rows = await (await conn.execute(_HOLDERS.encode(), (schema,))).fetchall()
    return ", ".join(
        f"session {pid}" + (f" of {role}" if role else "") + (f" ({name})" if name else "") for pid, role, name in rows
    )
