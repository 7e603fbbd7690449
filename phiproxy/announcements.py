"""What the proxies of one database tell each other of DDL: names before they are made, and that the catalogue has changed.

Nobody's session may take a new name for one over nothing protected; so DDL that makes one waits until every live proxy has heard of
it, and a proxy that was not heard for a while looks again before it relies on what it knows (``Fence``).
"""

import asyncio
import secrets
import time

import psycopg
import structlog

from phiproxy.errors import StatementRefused
from phiproxy.keys.key_state_changes import notify
from phiproxy.keys.registry import as_provider_error
from phiproxy.keys.serving_proxies import Members
from phiproxy.net import clock
from phiproxy.net.service_login import ServicePool
from phiproxy.net.tasks import spawn
from phiproxy.session.state_parts import Fence

log = structlog.get_logger("phiproxy.database")

# After this part of its lease a proxy that was not heard looks again before it goes on: the rest is for what is on its way to the
# server.
FENCED_AFTER = 0.8
ANNOUNCEMENT_STEP = 0.02
# The transaction that makes a name may last; statements that contain such a name cost a look at the catalogue meanwhile.
MAX_WAIT_FOR_NAME = 3600.0


class Announcements:
    """Of one database. Its tenants share the sets and the fence."""

    def __init__(self, database: str, schema: str, pool: ServicePool, members: Members) -> None:
        self._database = database
        self._schema = schema
        self._pool = pool
        self._members = members
        # Names that DDL makes over protected tables and the planner does not know yet; those that every live proxy has heard of.
        self.unread_names: set[str] = set()
        self.announced_names: set[str] = set()
        self.fence = Fence(until=0)
        self.task: asyncio.Task[None] | None = None
        # When DDL through this proxy ended last; since when each unread name is waited for; whether to say once more what is said.
        self._changed_at = 0.0
        self._waited_for: dict[str, float] = {}
        self._again = False
        # What it says of itself when it tells the others, and hears too.
        self.word = f"{schema} {secrets.token_hex(8)}"

    async def announce_names(self, names: frozenset[str]) -> None:
        """Let every live proxy hear of names that DDL is about to make; StatementRefused where one does not say that it has."""
        deadline = time.monotonic() + self._members.lease + 1
        try:
            async with self._pool.connection() as conn:
                number = await self._members.announce(conn, names)
                while waiting := await self._members.behind(conn, number):
                    if time.monotonic() > deadline:
                        raise StatementRefused(
                            f"{waiting} other proxies of this database do not confirm the name that this statement is to make",
                            hint="Try again, or restart them: until they know it, their sessions could see what is stored.",
                        )
                    await asyncio.sleep(ANNOUNCEMENT_STEP)
        except psycopg.Error as error:
            raise as_provider_error(error, self._schema) from None
        self.unread_names.update(names)
        self.announced_names.update(names)

    def announce(self) -> None:
        """Let every proxy of this database look at its catalogue at once.

        Sessions of this one wait for that: none takes a table for what it was before the end of the DDL.
        """
        self.outdated()
        self.tell()

    def outdated(self) -> None:
        """Have sessions of this proxy wait until the catalogue was read again."""
        self._changed_at, self.fence.until = clock.now(), 0.0

    def tell(self) -> None:
        """Tell the others that they are to look, and once more what is to be told meanwhile. Sessions of this one do not wait."""
        self._again = True
        if self.task is None or self.task.done():
            self.task = spawn(self._announce(), "announce")

    async def _announce(self) -> None:
        try:
            while self._again:
                self._again = False
                async with self._pool.connection() as conn:
                    await notify(conn, self._schema, self.word)
        except (psycopg.Error, TimeoutError) as error:
            # All proxies look once per catalog.poll anyway.
            log.warning("a change could not be announced", database=self._database, type=type(error).__name__)

    def heard(self, since: float) -> None:
        """Rely on what is read: names made before ``since`` are in it, and DDL that makes others waits for this proxy again."""
        if since >= self._changed_at:
            self.fence.until = max(self.fence.until, since + FENCED_AFTER * self._members.lease)

    def is_heard(self, word: str) -> bool:
        """Tell whether a notification is this proxy's own, of DDL after which it has looked already."""
        return word == self.word and clock.now() < self.fence.until

    def forget_unmade(self) -> None:
        """Forget names that DDL was to make, and did not, or not over what is protected: it was rolled back, or dropped again."""
        now = time.monotonic()
        self._waited_for = {name: self._waited_for.get(name, now) for name in self.unread_names}
        self.unread_names.difference_update(name for name, since in self._waited_for.items() if now - since > MAX_WAIT_FOR_NAME)
