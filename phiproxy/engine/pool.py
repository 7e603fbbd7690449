"""The connections of one worker to the engine: so many at most over all databases, waited for, and used again."""

from __future__ import annotations

import asyncio

from phiproxy.engine.access import Access
from phiproxy.engine.connection import Connection


class Pool:
    """``size`` sessions. Who has one was given it by ``enter``, and gives it back by ``leave``."""

    def __init__(self, access: Access, size: int) -> None:
        self.size = size
        self.idle: list[Connection] = []
        self._access = access
        self._free = asyncio.Semaphore(size)
        self._open = 0

    async def enter(self, deadline: float) -> None:
        """Wait for a session, until ``deadline`` by the loop's clock; TimeoutError where none becomes free."""
        async with asyncio.timeout_at(deadline):
            await self._free.acquire()

    async def connection(self, database: str) -> Connection:
        """Return a connection to a database, one that is idle or another; the oldest to other databases make room for it.

        NoSuchDatabase, EngineUnavailable.
        """
        for conn in reversed(self.idle):
            if conn.closed:
                self._hang_up(conn)
            elif conn.database == database:
                self.idle.remove(conn)
                return conn
        while self._open >= self.size and self.idle:
            self._hang_up(self.idle[0])
        self._open += 1
        try:
            return await Connection.open(self._access, database)
        except BaseException:
            self._open -= 1
            raise

    def leave(self, conn: Connection | None) -> None:
        """Give a session back, with its connection where there was one; one that is closed or holds too much is not used again."""
        if conn is not None:
            self.idle.append(conn)
            if conn.closed or conn.said.worn:
                self._hang_up(conn)
        self._free.release()

    def close(self, database: str | None = None) -> None:
        """Hang up what is idle, of one database or of all."""
        for conn in [conn for conn in self.idle if database in (None, conn.database)]:
            self._hang_up(conn)

    def _hang_up(self, conn: Connection) -> None:
        self.idle.remove(conn)
        self._open -= 1
        conn.close()
