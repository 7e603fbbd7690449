"""Of one database, while somebody switches tables of it: its sessions' statements over these wait, and the others are told so.

Which statement waits is decided by ``session.holding``; the registry's rows are those of ``keys.holds``.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import psycopg
import structlog

from phiproxy.errors import PhiproxyError
from phiproxy.keys.holds import Hold, confirm_hold, current_hold, outlast_hold
from phiproxy.net import clock
from phiproxy.net.held_tables import is_there, with_neighbours, without_touching
from phiproxy.net.relay import Relay
from phiproxy.net.service_login import ServicePool
from phiproxy.net.standby_replay import Standbys, epoch_of
from phiproxy.net.tasks import spawn
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.setting_values import Address
from phiproxy.session.holding import follow, goes_on, is_under_way, may_be_asked, must_go_on
from phiproxy.session.state_parts import Fence, Holding
from phiproxy.sql.text.screen import NameSearch

log = structlog.get_logger("phiproxy.database")

# Seconds between two looks at what is under way.
HOLD_STEP = 0.02
# A hold of more seconds lasts until who has placed it ends it: they have said that everybody waits for as long as it takes.
LONGEST_SHORT = 60.0
# Seconds after which it is told that statements wait for a standby.
LONG_BEHIND = 10.0

Connection = psycopg.AsyncConnection[Any]


class _Names:
    """The names that a hold is for, and those of all that depends on a protected table by the catalogue of now.

    A hold without names is for everything.
    """

    def __init__(self, names: frozenset[str], catalog: Callable[[], Catalog]) -> None:
        self._names, self._catalog = names, catalog
        self._of: Catalog | None = None
        self._search = NameSearch(())

    def mentions(self, text: bytes) -> bool:
        """Tell whether a text may name one of them."""
        if not self._names:
            return True
        catalog = self._catalog()
        if catalog is not self._of:
            self._of, self._search = catalog, NameSearch({*self._names, *catalog.reaching})
        return self._search.mentions(text)


class HeldStatements:
    """The statements of one database's sessions. ``relays`` are these; ``member`` is the proxy's number in the registry.

    ``left``: the process ids at the server of those that have ended of late with statements under way.
    """

    def __init__(
        self,
        database: str,
        schema: str,
        pool: ServicePool,
        fence: Fence,
        member: Callable[[], int],
        catalog: Callable[[], Catalog],
        refresh: Callable[[], Awaitable[None]],
        *,
        retry: float,
    ) -> None:
        self._database, self._schema, self._pool, self._fence, self._member = database, schema, pool, fence, member
        self._catalog, self._refresh, self._retry = catalog, refresh, retry
        self.relays: Callable[[], Iterable[Relay]] = tuple
        self.left: Callable[[], Iterable[int]] = tuple
        self.standbys: Standbys | None = None
        """Those that sessions may be at; None where there are none."""
        self._over = asyncio.Event()
        self._over.set()
        self._task: asyncio.Task[None] | None = None
        self._is_following = False

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What follows a hold, where there is one."""
        return self._task

    async def released(self) -> None:
        """Return when no tables are about to be switched any more."""
        await self._over.wait()

    async def look(self, conn: Connection) -> None:
        """Hold statements from now on where somebody is about to switch tables. psycopg.Error."""
        hold = await current_hold(conn, self._schema)
        if hold is None or self._is_following:
            return
        names = _Names(await with_neighbours(conn, hold.names), self._catalog)
        if self._is_following:  # who has looked at the same time was first
            return
        self._fence.holding = holding = Holding(names.mentions)
        for relay in self.relays():
            follow(relay.session, holding)
        self._over.clear()
        self._is_following = True
        self._task = spawn(self._follow(hold, holding), "hold")

    async def _follow(self, hold: Hold, holding: Holding) -> None:
        """Confirm a hold once nothing is under way, and release statements when it is over and the catalogue was read."""
        ends, confirmed = clock.now() + hold.seconds, False
        is_short = hold.seconds <= LONGEST_SHORT
        while True:
            try:
                async with self._pool.connection() as conn:
                    # Another job may have placed one for other tables meanwhile: that says nothing of this one.
                    while (now := await current_hold(conn, self._schema, hold.id)) is not None:
                        until = min(ends, self._first_end(holding)) if is_short else ends
                        if clock.now() > until or not now.is_alive:
                            if until < ends:
                                log.warning("a hold is given up for a transaction_timeout", database=self._database)
                            await outlast_hold(conn, self._schema, hold.id)
                        elif not confirmed and not await self._waits_for_any(conn, holding):
                            await confirm_hold(conn, self._schema, hold.id, self._member())
                            confirmed = True
                        else:
                            if not confirmed:
                                await self._ask_open(conn, hold.names)
                            await asyncio.sleep(HOLD_STEP)
                self._fence.until = 0.0
                await self._refresh()
                await self._wait_for_standbys(holding)
            except (psycopg.Error, TimeoutError, PhiproxyError) as error:
                # What is sent meanwhile might be for tables as they were before.
                log.warning("a hold cannot be followed", database=self._database, type=type(error).__name__)
                await asyncio.sleep(self._retry)
                continue
            break
        self._fence.holding = None
        self._over.set()
        await self._look_for_another()

    async def replayed(self, epoch: int) -> bool:
        """Tell whether the standbys that sessions are at have the registry of this epoch."""
        return self.standbys is None or not await self.standbys.behind(self._addresses(), epoch)

    def _addresses(self) -> set[Address]:
        return {relay.address for relay in self.relays() if relay.address is not None}

    async def _wait_for_standbys(self, holding: Holding) -> None:
        """Return when all standbys that sessions are at have what the primary has; sessions at others go on meanwhile."""
        if self.standbys is None:
            return
        async with self._pool.connection() as conn:
            epoch = await epoch_of(conn, self._schema)
        began, told = clock.now(), False
        while behind := await self.standbys.behind(self._addresses(), epoch):
            for relay in self.relays():
                if relay.address not in behind:
                    goes_on(relay.session, holding)
            if not told and clock.now() > began + LONG_BEHIND:
                told = True
                log.warning("standbys have not replayed a switch yet", database=self._database, addresses=sorted(map(str, behind)))
            await asyncio.sleep(HOLD_STEP)
        await self.standbys.close()

    async def _look_for_another(self) -> None:
        """Hold statements anew, at once, where another job has placed a hold meanwhile: it waits for that for a moment only."""
        self._is_following = False
        try:
            async with self._pool.connection() as conn:
                await self.look(conn)
        except (psycopg.Error, TimeoutError, PhiproxyError) as error:
            # The next look at the catalogue is one at this too.
            log.warning("it is not known whether there is another hold", database=self._database, type=type(error).__name__)

    def _first_end(self, holding: Holding) -> float:
        """Return when the first session that waits has to go on."""
        return min((must_go_on(relay.session, holding) for relay in self.relays()), default=math.inf)

    async def _waits_for_any(self, conn: Connection, holding: Holding) -> bool:
        """Tell whether something is under way, also of clients that are gone: the server goes on with all that it was sent."""
        if any(is_under_way(relay.session, holding) for relay in self.relays()):
            return True
        left = list(self.left())
        return bool(left) and await is_there(conn, left)

    async def _ask_open(self, conn: Connection, names: Iterable[str]) -> None:
        """Find out which transactions that were open before need not be waited for: those that have not touched the tables.

        Those whose process ids the server does not know, as at a standby or behind a pooler, are waited for.
        """
        quiet = [(relay, relay.session.groups.number) for relay in self.relays() if may_be_asked(relay.session)]
        if not (quiet and names):
            return
        untouching = await without_touching(conn, list(names), [relay.session.login.process_id for relay, _ in quiet])
        for relay, number in quiet:
            session = relay.session
            if session.login.process_id in untouching and session.groups.number == number and may_be_asked(session):
                relay.ask_isolation()
