"""What a job waits for: replicas, WAL that is still to be archived or sent, dead rows, a query of the DBA's own, and its rate."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from phiproxy.errors import ConfigError

LOOK_EVERY: Final = 1.0
QUERY_TIMEOUT: Final = 10.0
FEWEST_DEAD: Final = 500_000
"""Dead rows of a smaller number make no table large, whatever part of it they are."""


@dataclass(frozen=True, slots=True)
class Limits:
    """A job waits while one of these is exceeded; zero or None: it is not looked at.

    ``lag``: seconds that a standby is behind. ``wal``: bytes of WAL that a replication slot holds back, or the archiver has not
    archived. ``dead``: part of a table's rows that are dead, where autovacuum is on and they are many. ``query``: a query whose
    first column is true, or above zero. ``rate``: rows per second.
    """

    lag: float = 10.0
    wal: int = 16 * 1024**3
    dead: float = 0.5
    query: str | None = None
    rate: float = 0.0


_LAG: Final = """
SELECT application_name, extract(epoch FROM replay_lag)::float8 FROM pg_catalog.pg_stat_replication
 WHERE replay_lag IS NOT NULL ORDER BY replay_lag DESC LIMIT 1
"""
_SLOT_WAL: Final = """
SELECT slot_name, pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::int8
  FROM pg_catalog.pg_replication_slots WHERE restart_lsn IS NOT NULL ORDER BY restart_lsn LIMIT 1
"""
_ARCHIVE: Final = """
SELECT pg_catalog.count(*) * (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size')
  FROM pg_catalog.pg_ls_archive_statusdir() WHERE name LIKE '%.ready'
"""
_DEAD: Final = """
SELECT s.n_dead_tup, s.n_live_tup FROM pg_catalog.pg_stat_all_tables s JOIN pg_catalog.pg_class c ON c.oid = s.relid
 WHERE s.schemaname = %s AND s.relname = %s AND s.n_dead_tup >= %s AND pg_catalog.current_setting('autovacuum')::bool
   AND NOT coalesce('autovacuum_enabled=false' = ANY (c.reloptions), false)
"""


class Throttle:
    """Waits before a batch. ``conn`` is a connection in autocommit mode that nothing else is done with.

    ``told`` is called with what the job waits for, and with "" when it goes on.
    """

    def __init__(self, conn: psycopg.AsyncConnection[Any], limits: Limits, told: Callable[[str], None]) -> None:
        self._conn = conn
        self._limits = limits
        self._told = told
        self._looked = float("-inf")
        self._sees_archive = True
        self._began = time.monotonic()
        self._rows = 0

    async def prepare(self) -> None:
        """Let no query of this connection last: a look at what to wait for must not be what others wait for. psycopg.Error."""
        await self._conn.execute(f"SET statement_timeout TO '{QUERY_TIMEOUT:.0f}s'")
        await self._conn.execute("SET default_transaction_read_only TO on")

    async def wait(self, relation: tuple[str, str], goes_on: Callable[[], Awaitable[None]]) -> None:
        """Wait until nothing exceeds its limit any more; ``goes_on`` is awaited once per second and raises where the job ends.

        ConfigError when the DBA's own query fails; psycopg.Error.
        """
        await self._keep_rate(goes_on)
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        waited = False
        while why := await self._why(relation):
            self._told(why)
            waited = True
            await asyncio.sleep(LOOK_EVERY)
            await goes_on()
        if waited:
            self._told("")
            self._began, self._rows = time.monotonic(), 0
        self._looked = time.monotonic()

    def count(self, rows: int) -> None:
        """Note that so many rows were gone through."""
        self._rows += rows

    async def _keep_rate(self, goes_on: Callable[[], Awaitable[None]]) -> None:
        if not self._limits.rate:
            return
        # Rows that it was too slow for, or was paused for, are not made up for: the limit holds of every second.
        due = time.monotonic() - self._rows / self._limits.rate
        self._began = max(self._began, due - LOOK_EVERY)
        while (early := self._rows / self._limits.rate - (time.monotonic() - self._began)) > 0:
            await asyncio.sleep(min(early, LOOK_EVERY))
            if early > LOOK_EVERY:
                await goes_on()

    async def _why(self, relation: tuple[str, str]) -> str:
        """Say what exceeds its limit, or "" where nothing does."""
        limits = self._limits
        if limits.lag and (behind := await self._row(_LAG)) is not None and behind[1] > limits.lag:
            return f"standby {behind[0] or '?'} is {behind[1]:.0f} s behind"
        if limits.wal and (slot := await self._row(_SLOT_WAL)) is not None and slot[1] > limits.wal:
            return f"replication slot {slot[0]} holds {slot[1] >> 20} MiB of WAL back"
        if limits.wal and (unarchived := await self._unarchived()) > limits.wal:
            return f"{unarchived >> 20} MiB of WAL are not archived yet"
        if limits.dead and (rows := await self._row(_DEAD, (*relation, FEWEST_DEAD))) is not None:
            dead, together = rows[0], rows[0] + rows[1]
            if dead > limits.dead * together:
                return f"{dead} of {together} rows of {'.'.join(relation)} are dead: VACUUM has not come yet"
        if limits.query is not None and await self._exceeded(limits.query):
            return "--throttle-query says so"
        return ""

    async def _unarchived(self) -> int:
        """Return the bytes of WAL that the archiver has not archived; 0 where this role does not see that (pg_monitor)."""
        if not self._sees_archive:
            return 0
        try:
            row = await self._row(_ARCHIVE)
        except psycopg.errors.InsufficientPrivilege:
            self._sees_archive = False
            return 0
        return int(row[0]) if row is not None else 0

    async def _exceeded(self, query: str) -> bool:
        try:
            async with self._conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
                await cursor.execute(query.encode())
                row = await cursor.fetchone() if cursor.description is not None else None
        except psycopg.Error as error:
            raise ConfigError(f"--throttle-query fails (SQLSTATE {error.sqlstate})") from None
        value = row[0] if row else None
        try:
            return value is True or (value is not None and value is not False and float(value) > 0)
        except (TypeError, ValueError):
            raise ConfigError("--throttle-query must return a number or a boolean in its first column") from None

    async def _row(self, query: str, values: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
        async with self._conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(query.encode(), values or None)
            return await cursor.fetchone()
