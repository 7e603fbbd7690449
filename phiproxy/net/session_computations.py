"""What one session has computed by the engine: begun, given rows, its results passed on as fast as the client takes them, ended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from phiproxy.errors import PhiproxyError
from phiproxy.net import clock
from phiproxy.net.leg import Leg
from phiproxy.net.tasks import spawn
from phiproxy.plan.split_plan import Computed
from phiproxy.session.core import Session
from phiproxy.session.needs import Describe, Enter, NeedEngine, Results


class QueryCanceled(PhiproxyError, sqlstate="57014", anchor="err-connection"):
    """A statement was cancelled, or took longer than it may, while the server was not at work on it (57014, as it says it)."""


class Computation(Protocol):
    """A rest in a session of the engine; its methods raise PhiproxyError."""

    @property
    def counted(self) -> int:
        """How many rows it was given."""

    def settings(self, settings: Mapping[str, str]) -> None:
        """Have the engine's session be like the client's."""

    async def rows(self, data: bytes) -> None:
        """Take opened rows, DataRow messages in binary form."""

    def results(self, results: Results) -> AsyncIterator[bytes]:
        """Compute, or go on with it, and yield what the client gets."""


class Compute(Protocol):
    """The engine, as the sessions of one database are given it."""

    async def describe(self, rest: Computed, settings: Mapping[str, str]) -> list[bytes]:
        """Return what the engine says of a rest; PhiproxyError."""

    def computing(self, rest: Computed, narrowing: str) -> AbstractAsyncContextManager[Computation]:
        """Give a session of the engine; PhiproxyError where none can be had."""


class Computations:
    """Those of one session."""

    def __init__(self, session: Session, client: Leg, compute: Compute | None, write: Callable[[], None]) -> None:
        self._session = session
        self._client = client
        self._compute = compute
        self._write = write
        self._open: dict[object, AbstractAsyncContextManager[Computation]] = {}
        self._closed = False

    async def ask(self, engine: Describe | Enter) -> object:
        """Return the engine's description of a rest, or a computation that is begun; PhiproxyError.

        QueryCanceled where all of them were ended meanwhile: nobody would end this one.
        """
        assert self._compute is not None
        if isinstance(engine, Describe):
            return await self._compute.describe(engine.rest, engine.settings)
        computing = self._compute.computing(engine.rest, engine.narrowing)
        computation = await computing.__aenter__()
        if self._closed:
            await _ended(computing)
            raise QueryCanceled("the session has ended")
        self._open[computation] = computing
        return computation

    async def go_on(self, need: NeedEngine) -> None:
        """Give it rows and have its results; PhiproxyError where that fails, QueryCanceled where it takes too long.

        The wait for a session of the engine counts too.
        """
        try:
            async with asyncio.timeout((need.results.seconds if need.results is not None else 0.0) or None):
                await self._go_on(need)
        except TimeoutError:
            raise QueryCanceled("canceling statement due to statement timeout") from None

    async def _go_on(self, need: NeedEngine) -> None:
        begun = need.computation
        if need.enter is not None:
            begun = await self.ask(need.enter)
            self._session.entered(begun)
        computation, counters = _computation(begun), self._session.counters
        if need.settings is not None:
            computation.settings(need.settings)
        if need.rows:
            await computation.rows(b"".join(need.rows))
        if need.results is None:
            return
        started = clock.now()
        try:
            async for piece in computation.results(need.results):
                self._session.computed(piece)
                self._write()
                await self._client.drained()
        finally:
            counters.rows_computed += 0 if need.results.suspended or need.results.portal is not None else computation.counted
            counters.engine_seconds += clock.now() - started

    def release(self, computations: Sequence[object]) -> None:
        """End computations that are over, or whose results nobody wants any more."""
        for computation in computations:
            computing = self._open.pop(computation, None)
            if computing is not None:
                spawn(_ended(computing), "end a computation")

    def close(self) -> None:
        """End all of them, and what is asked for and not there yet as soon as it is."""
        self._closed = True
        self.release(list(self._open))


async def _ended(computing: AbstractAsyncContextManager[Computation]) -> None:
    await computing.__aexit__(None, None, None)


def _computation(computation: object) -> Computation:
    return computation  # type: ignore[return-value] # the session was given it by ``ask``
