"""One service connection that is kept, and opened anew where it was lost: for questions that must be answered soon or not at all.

A pool waits for a server that is away, in the hope that it comes back; who is asked whether it is there must not.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import psycopg

from phiproxy.net.service_login import connect_service
from phiproxy.net.tasks import spawn
from phiproxy.policy.settings import Settings

T = TypeVar("T")
Connection = psycopg.AsyncConnection[Any]
Ask = Callable[[Connection], Awaitable[T]]


class StandingConnection:
    """A connection of the service login to one database, opened by ``connect``. One question at a time."""

    def __init__(
        self, settings: Settings, database: str, connect: Callable[[Settings, str], Awaitable[Connection]] = connect_service
    ) -> None:
        self._connect = partial(connect, settings, database)
        self._conn: Connection | None = None
        self._turn = asyncio.Lock()

    async def ask(self, question: Ask[T], within: float | None = None) -> T:
        """Return what ``question`` makes of the connection, within so many seconds, if any; it must not change anything.

        A connection that turns out to be lost is opened again, once. Raises TimeoutError, ConfigError when there is no connection
        to be had, psycopg.Error for what the server refuses.
        """
        asking = spawn(self._ask(question), "ask the server")
        try:
            done, _ = await asyncio.wait([asking], timeout=within)
            if not done:
                raise TimeoutError
            return asking.result()  # type: ignore[no-any-return]
        finally:
            if not asking.done():
                # psycopg would first ask the server to cancel the query; one that is not there would be waited for once more.
                lost = self._hang_up()
                asking.cancel()
                if lost is not None:
                    asking.add_done_callback(lambda _: lost.pgconn.finish())

    async def close(self) -> None:
        """Close it; a question that is being asked comes to its end first."""
        async with self._turn:
            await self._close()

    async def _close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    async def _ask(self, question: Ask[T]) -> T:
        async with self._turn:
            if self._conn is not None and not self._conn.closed:
                # One that was lost while nobody asked says nothing: whether the server is there, only another one shows.
                with contextlib.suppress(psycopg.OperationalError):
                    return await question(self._conn)
            await self._close()
            conn = await self._connect()
            self._conn = conn
            return await question(conn)

    def _hang_up(self) -> Connection | None:
        """End the conversation as a lost network would: whoever waits is told, and nothing is sent. Return what is to be closed."""
        conn, self._conn = self._conn, None
        if conn is None or conn.closed:
            return None
        with socket.socket(fileno=os.dup(conn.fileno())) as twin, contextlib.suppress(OSError):  # it is gone already
            twin.shutdown(socket.SHUT_RDWR)
        return conn
