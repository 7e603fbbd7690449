"""Which proxies serve a database now, and what all of them have heard: names that DDL is about to make, the registry's epoch.

Each proxy process has a row in ``proxy``, which it touches at every look at the database. Before DDL makes something through which
a protected column is reached, its name is put into ``announcement``, and the DDL waits until every other live proxy has heard of
it: from then on no session of theirs takes the name for one that does not matter (spec/sql 4.12).
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import Final

from psycopg import sql

from phiproxy.keys.authenticated_tables import Connection, one_row
from phiproxy.keys.key_state_changes import notify
from phiproxy.keys.older_transactions import STEP, nothing_more
from phiproxy.keys.registry_schema import table

Learn = Callable[[Iterable[str]], None]

TOLD_AFTER: Final = 20
# What was announced this long ago is in the catalogue, or will never be: a proxy that starts reads the catalogue.
_KEPT = "1 hour"
# Of a worker's id, those that tell it from the other workers of its proxy.
WORKER_BITS = 16


class Members:
    """This proxy among those that serve a database. ``lease``: who is silent for so many seconds is no longer waited for.

    ``worker``: it is one of the workers of one proxy, which have the first number in common; one that is silent for ``patience``
    seconds may be stopped. Connections are in autocommit mode. Every method raises psycopg.Error.
    """

    def __init__(self, schema: str, lease: float, worker: tuple[int, int] | None = None, *, patience: float = 2.5) -> None:
        self._schema = schema
        self.lease = lease
        self._worker = worker
        self._patience = patience
        self._spoke_at = -inf
        self.leads = worker is None
        """Whether it is this one that looks at the catalogue for all workers of its proxy: the first that was there just now."""
        self.id = secrets.randbits(63) if worker is None else worker[0] << WORKER_BITS | worker[1]
        self._heard = 0

    def _sql(self, text: str) -> sql.Composed:
        names = {name: table(self._schema, name) for name in ("proxy", "announcement")}
        return sql.SQL(text).format(**names, kept=sql.Literal(_KEPT))

    async def beat(self, conn: Connection, epoch: int, learn: Learn) -> None:
        """Say that this proxy lives and knows the registry of ``epoch``; ``learn`` takes the names that it had not heard of."""
        before = self.id if self._worker is None else self._worker[0] << WORKER_BITS
        query = (
            "INSERT INTO {proxy} (id, epoch, heard) VALUES (%s, %s, %s)"
            " ON CONFLICT (id) DO UPDATE SET seen_at = pg_catalog.clock_timestamp(), epoch = excluded.epoch, heard = excluded.heard"
            " RETURNING (SELECT pg_catalog.max(number) FROM {announcement}),"
            " NOT EXISTS (SELECT FROM {proxy} WHERE id >= %s AND id < %s AND " + _LIVES + ")"
        )
        while True:
            now = time.monotonic()
            values = (self.id, epoch, self._heard, before, self.id, self._patience)
            last, self.leads = await one_row(conn, self._sql(query), values)
            # Who announces has waited for us, if we were there.
            was_there, self._spoke_at = now - self._spoke_at < self.lease / 2, now
            if was_there and (last or 0) <= self._heard:
                return
            select = "SELECT number, names FROM {announcement} WHERE number > %s ORDER BY number"
            for number, names in await (await conn.execute(self._sql(select), (self._heard,))).fetchall():
                learn(names)
                self._heard = number

    async def tell(self, conn: Connection) -> None:
        """Let the other workers of this proxy look at the catalogue now."""
        if self._worker is not None:
            await notify(conn, self._schema)

    async def announce(self, conn: Connection, names: Iterable[str]) -> int:
        """Announce names, and return the number under which they are. Numbers are seen in their order: one announces at a time."""
        async with conn.transaction():
            await conn.execute(self._sql("LOCK TABLE {announcement} IN EXCLUSIVE MODE"))
            await conn.execute(
                self._sql("DELETE FROM {announcement} WHERE at < pg_catalog.clock_timestamp() - {kept}::pg_catalog.interval")
            )
            query = "INSERT INTO {announcement} (names) VALUES (%s) RETURNING number"
            (number,) = await one_row(conn, self._sql(query), (sorted(names),))
            await notify(conn, self._schema)
        return int(number)

    async def behind(self, conn: Connection, number: int) -> int:
        """Return how many other live proxies have not heard of an announcement yet."""
        query = "SELECT pg_catalog.count(*) FROM {proxy} WHERE heard < %s AND id <> %s AND " + _LIVES
        return int((await one_row(conn, self._sql(query), (number, self.id, self.lease)))[0])

    async def leave(self, conn: Connection) -> None:
        """Say that this proxy ends, and forget those that ended without a word."""
        query = "DELETE FROM {proxy} WHERE id = %s OR seen_at < pg_catalog.clock_timestamp() - {kept}::pg_catalog.interval"
        await conn.execute(self._sql(query), (self.id,))


async def live_proxies(conn: Connection, schema: str) -> int:
    """Return how many proxies have said within the last seconds that they live."""
    query = sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE " + _LIVES).format(table(schema, "proxy"))
    return int((await one_row(conn, query, (_SILENT,)))[0])


async def proxies_behind(conn: Connection, schema: str, epoch: int, lease: float) -> int:
    """Return how many proxies that were heard within ``lease`` seconds have not taken the registry of an epoch over yet."""
    query = sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE epoch < %s AND " + _LIVES).format(table(schema, "proxy"))
    return int((await one_row(conn, query, (epoch, max(lease, _SILENT))))[0])


async def all_have_followed(
    conn: Connection, schema: str, lease: float, told: Callable[[str], None], goes_on: Callable[[], Awaitable[None]] = nothing_more
) -> None:
    """Return when each proxy has taken over what the registry says now; ``told`` and ``goes_on`` as of ``older_have_ended``."""
    (epoch,) = await one_row(conn, sql.SQL("SELECT epoch FROM {}").format(table(schema, "meta")))
    steps = 0
    while waiting := await proxies_behind(conn, schema, epoch, lease):
        if steps % TOLD_AFTER == 0:
            await notify(conn, schema)
            await goes_on()
        if steps == TOLD_AFTER:
            told(f"{waiting} proxies, or standbys that they read at, have not taken the change over yet")
        steps += 1
        await asyncio.sleep(STEP)
    if steps > TOLD_AFTER:
        told("")


# A proxy speaks at each of its polls; one that is silent for as long (seconds) has ended.
_SILENT = 15.0
_LIVES = "seen_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %s)"
