"""One rest being computed over one connection: rows in, results out, in time; and what is to be done when it ends early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from phiproxy.engine.connection import Connection
from phiproxy.engine.failures import EngineTimeout
from phiproxy.engine.rest import Session, Values
from phiproxy.engine.run import Run
from phiproxy.errors import StatementFailed


class Computation:
    """One rest that is computed.

    Its methods raise LimitExceeded (54000), EngineTimeout (57014), EngineFull (53200), EngineUnavailable (57P03), and
    StatementFailed for what fails in PostgreSQL too.
    """

    def __init__(self, conn: Connection, run: Run, timeout: float, deadline: float) -> None:
        self.conn = conn
        self._run = run
        self._timeout = timeout
        self._deadline = deadline
        self._open = self._executed = False
        conn.start(run)

    @property
    def counted(self) -> int:
        """How many rows it was given."""
        return self._run.counted

    @property
    def is_free(self) -> bool:
        """Tell whether the connection can be used for another at once."""
        return self._run.done and self._run.failed is None and self._executed and not self._open

    def begin(self, session: Session) -> None:
        """Have the connection's settings be the session's; before anything else is asked of it."""
        self.conn.send(self._run.begin(session.settings))

    async def rows(self, data: bytes) -> None:
        """Take DataRow messages of the source, whole ones."""
        self.conn.send(self._run.rows(data))
        await self._in_time(self.conn.drained())
        self._check()

    async def results(self, values: Values, limit: int = 0) -> AsyncIterator[bytes]:
        """Compute, and yield the results, messages as the client gets them; with a ``limit`` up to PortalSuspended."""
        self._executed, self._open = True, limit > 0 or self._run.held
        self.conn.send(self._run.execute(values, limit))
        async for piece in self._results():
            yield piece

    async def more(self, limit: int) -> AsyncIterator[bytes]:
        """Yield more results of a portal that was suspended."""
        self._deadline = asyncio.get_running_loop().time() + self._timeout
        self.conn.send(self._run.more(limit))
        async for piece in self._results():
            yield piece

    async def also(self, text: bytes, formats: Sequence[int], portal: bytes = b"", limit: int = 0) -> AsyncIterator[bytes]:
        """Run another statement in the transaction of a rest that is ``held``, or go on with it, and yield its results."""
        self._deadline = asyncio.get_running_loop().time() + self._timeout
        self.conn.send(self._run.also(text, formats, portal, limit))
        async for piece in self._results():
            yield piece

    async def description(self) -> AsyncIterator[bytes]:
        """Yield the description of the rest, of which nothing is computed."""
        self._executed = True
        self.conn.send(self._run.describe())
        async for piece in self._results():
            yield piece

    async def end(self) -> None:
        """Close a portal that was executed with a limit."""
        if self._open:
            self._open = False
            self.conn.send(self._run.end())
            await self._in_time(self.conn.settled())

    async def settle(self) -> bool:
        """End what was begun where that is known to be soon; False where it is not, so that it must be cancelled."""
        failed, run = self._run.failed, self._run
        if failed is not None and not isinstance(failed, StatementFailed):
            return False
        if not self._executed:
            self.conn.send(run.give_up())
        elif self._open:
            self.conn.send(run.end())
        elif failed is None:
            return run.done
        await self.conn.settled()
        self.conn.send(run.clean())
        await self.conn.settled()
        return not self.conn.closed

    async def _results(self) -> AsyncIterator[bytes]:
        while (piece := await self._in_time(self.conn.told())) is not None:
            # From the first row on it is the client that says how fast it goes: the time is that of each wait.
            self._deadline = asyncio.get_running_loop().time() + self._timeout
            yield piece
        self._check()

    def _check(self) -> None:
        if self._run.failed is not None:
            raise self._run.failed

    async def _in_time(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            async with asyncio.timeout_at(self._deadline):
                outcome = await work
            if asyncio.get_running_loop().time() < self._deadline:  # a timeout does not end what does not wait
                return outcome
            raise TimeoutError
        except TimeoutError:
            text = f"the statement takes the engine longer than {self._timeout:g} s (compute.limits.timeout)"
            raise EngineTimeout(text, hint="narrow the statement") from None
