"""What a session needs is fetched or done: keys, the catalogue, an announcement, work that takes long."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from phiproxy.errors import KeyWant, PhiproxyError
from phiproxy.net.leg import Leg
from phiproxy.net.offload import apart
from phiproxy.net.session_computations import Computations, Compute, QueryCanceled
from phiproxy.net.tasks import spawn
from phiproxy.policy.setting_values import Address
from phiproxy.session.core import Session
from phiproxy.session.holding import BEAT
from phiproxy.session.needs import Need, NeedAnnouncement, NeedEngine, NeedKeys, NeedRelease, NeedWork

T = TypeVar("T")


async def _at_once() -> None:
    """Wait for nothing."""


async def _wherever(_: Address) -> None:
    """Wait for nothing."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a session may ask for, handed in by app: net and keys never meet."""

    fetch_keys: Callable[[frozenset[KeyWant]], Awaitable[None]]
    refresh_catalog: Callable[[bool, frozenset[str]], Awaitable[None]]
    announce: Callable[[frozenset[str]], Awaitable[None]]
    compute: Compute | None = None
    released: Callable[[], Awaitable[object]] = _at_once
    arrive: Callable[[Address], Awaitable[None]] = _wherever
    """Returns when a new session at a server may begin: its tables are as the catalogue says. PhiproxyError."""


class Needs:
    """Of one session. While a need is met nothing is read of either leg, but during work of the client's.

    ``write`` writes what the session has left, ``stop`` has the server cancel what it is at work on.
    """

    def __init__(
        self,
        session: Session,
        client: Leg,
        services: Services | None,
        ended: asyncio.Future[None],
        *,
        write: Callable[[], None],
        stop: Callable[[], Awaitable[None]],
    ) -> None:
        self.computations = Computations(session, client, services.compute if services is not None else None, write)
        self._stop = stop
        self._session = session
        self._client = client
        self._services = services
        self._ended = ended
        # How many are being met.
        self.count = 0
        # The work that is being done, whether the message that it is done for can be refused, and how many bytes of the client's
        # had been read when it began.
        self.working: asyncio.Task[Any] | None = None
        self._refusable = False
        self.taken = 0
        # The engine is at work on a statement, as the server may be.
        self.computing = False

    async def meet(self, need: Need) -> PhiproxyError | None:
        """Meet a need; return why it cannot be."""
        assert self._services is not None
        try:
            if isinstance(need, NeedKeys):
                await self._services.fetch_keys(need.wants)
            elif isinstance(need, NeedAnnouncement):
                await self._services.announce(need.names)
            elif isinstance(need, NeedRelease):
                with suppress(TimeoutError):  # the session sees to the server's timers then, and waits on
                    await asyncio.wait_for(self._services.released(), BEAT)
            elif isinstance(need, NeedWork):
                await self._work(need)
            elif isinstance(need, NeedEngine):
                await self._engine(need)
            else:
                await self._services.refresh_catalog(need.changed, need.names)
        except PhiproxyError as error:
            return error
        return None

    async def _work(self, need: NeedWork) -> None:
        """Let work be done for the message that waits; QueryCanceled when the client cancels it. It ends with the session."""
        work = need.work
        doing: Coroutine[Any, Any, object]
        if work.engine is not None:
            doing = self.computations.ask(work.engine)
        elif work.apart is not None:
            doing = apart.run(work.apart)
        else:
            assert work.steps is not None
            doing = apart.take(work.steps())
        self.computing = work.engine is not None
        task = await self._done(doing, refusable=work.refusable)
        if not task.done():
            task.cancel()
            return
        try:
            work.done(await task)
        except asyncio.CancelledError:
            raise QueryCanceled("canceling statement due to user request") from None
        except Exception as error:
            work.failed(error)
        finally:
            del task  # it keeps the error, and that this frame
        self._session.worked.append(work)

    async def _engine(self, need: NeedEngine) -> None:
        """Have the engine go on; what the server still does for a statement that fails there is cancelled."""
        self.computing = True
        task = await self._done(self.computations.go_on(need), refusable=True)
        if not task.done():
            task.cancel()
            return
        try:
            await task
        except asyncio.CancelledError:
            raise QueryCanceled("canceling statement due to user request") from None
        except PhiproxyError:
            if need.results is None:
                await self._stop()
            raise

    async def _done(self, doing: Coroutine[Any, Any, T], *, refusable: bool) -> asyncio.Task[T]:
        """Let something be done while the client is listened to; until it is, or the session has ended."""
        self.taken = self._session.client_frames.pending
        self.working = task = spawn(doing, "work")
        self._refusable = refusable
        self._client.release()
        try:
            await asyncio.wait([task, self._ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.working, self.computing = None, False
            self._client.hold()
        return task

    def cancel(self) -> bool:
        """Cancel the work that is being done; False where there is none, or the message that it is done for cannot be refused."""
        if self.working is None or not self._refusable:
            return False
        self.working.cancel()
        return True
