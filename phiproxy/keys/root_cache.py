"""Root keys in memory: one KEK unwrap each, shared by whoever waits for it, gone when its time is up (spec/stored-format 3.7).

The time of a root runs from the moment before its unwrap was asked for: fresh for ``ttl``, then stale, for reads only and only
while the provider is unavailable, until ``max_stale``. A denial ends it at once.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from phiproxy.crypto.key_derivation import wipe
from phiproxy.errors import NotAuthentic, ProviderDenied, ProviderError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.tenant_keks import Kek, kek_of

# While the provider is in trouble, everybody who waits gets the first one's answer for this long (seconds): an outage
# must not turn each statement into a call that times out, and its end must be noticed soon.
RETRY_AFTER = 1.0

# A root that is in use is unwrapped again when between this and twice this part of its time is left: nobody then waits for it, and
# proxies that were started together do not ask together.
AHEAD = 0.08


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """Seconds and counts of ``keys.cache`` (spec/configuration 1.6)."""

    ttl: float = 300.0
    max_stale: float = 900.0
    max_root_keys: int = 1000

    def __post_init__(self) -> None:
        if self.ttl <= 0 or self.max_stale < 0 or self.max_root_keys < 1:
            raise ValueError("cache limits out of range")


class Root(NamedTuple):
    """A root key's 32 bytes and until when (clock seconds) what comes from it may be used."""

    secret: bytes
    expires: float
    stale: bool

    def __repr__(self) -> str:
        return f"<root key until {self.expires}>"


@dataclass(slots=True)
class _Held:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    secret: bytearray | None = field(default=None, repr=False)
    unwrapped_at: float = 0.0
    error: ProviderError | None = None
    retry_at: float = 0.0
    ahead: float = 0.0

    def forget(self) -> None:
        wipe(self.secret)
        self.secret = None


class RootCache:
    """Unwrapped root keys of one deployment under one provider; ``gone(root id)`` is told when one must not be used any more."""

    def __init__(
        self,
        kek: Kek,
        deployment: str,
        limits: CacheLimits,
        clock: Callable[[], float],
        gone: Callable[[int], None] = lambda _root_id: None,
    ) -> None:
        self._kek = kek
        self._deployment = deployment
        self._limits = limits
        self._clock = clock
        self._gone = gone
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self.told: Callable[[RootRow, ProviderError | None, float], None] = lambda _root, _error, _seconds: None
        """What is told how each unwrap went, and how long it took."""

    async def get(self, row: RootRow, *, stale_ok: bool) -> Root:
        """Return the root key, unwrapping it unless it is held and fresh; concurrent callers share one unwrap.

        With ``stale_ok`` a root that cannot be renewed because the provider is unavailable is still returned until ``max_stale``.
        Raises ProviderDenied, ProviderUnavailable or ProviderMisconfigured otherwise, and NotAuthentic for a row that is not.
        """
        refuse_unauthentic(row)
        held = self._held.setdefault(row.id, _Held())
        self._held.move_to_end(row.id)
        async with held.lock:
            now = self._clock()
            fresh = held.secret is not None and now < held.unwrapped_at + self._limits.ttl
            if not fresh and (held.error is None or now >= held.retry_at):
                await self._renew(held, row, now)
            if held.secret is not None and (fresh or held.error is None):
                self._trim()
                return Root(bytes(held.secret), held.unwrapped_at + self._limits.ttl, stale=False)
            return self._without_renewal(held, row, stale_ok=stale_ok)

    def held(self) -> frozenset[int]:
        """Return the ids of the roots that are held."""
        return frozenset(root_id for root_id, held in self._held.items() if held.secret is not None)

    @property
    def age(self) -> float:
        """Seconds since the root that was unwrapped first of those held was; 0 where none is held."""
        return max((self._clock() - held.unwrapped_at for held in self._held.values() if held.secret is not None), default=0.0)

    def drop(self, root_id: int) -> None:
        """Drop one root, and have what came from it dropped."""
        held = self._held.pop(root_id, None)
        if held is not None:
            held.forget()
        self._gone(root_id)

    def due(self) -> frozenset[int]:
        """Return the roots whose time is nearly up: each a little before the others, so that not all are asked for at once."""
        now = self._clock()
        return frozenset(
            root_id
            for root_id, held in self._held.items()
            if held.secret is not None and held.unwrapped_at + self._limits.ttl - held.ahead <= now
        )

    async def renew(self, row: RootRow) -> Root | None:
        """Unwrap a root before its time is up; None when that fails, and then it lives on for as long as it would have.

        After a denial it does not: what came from it is dropped.
        """
        held = self._held.get(row.id)
        if held is None or not row.authentic:
            return None
        async with held.lock:
            now = self._clock()
            if held.secret is None or now < held.unwrapped_at + self._limits.ttl - held.ahead or now < held.retry_at:
                return None
            await self._renew(held, row, now)
            if held.error is not None or held.secret is None:
                return None
            return Root(bytes(held.secret), held.unwrapped_at + self._limits.ttl, stale=False)

    def forget(self) -> None:
        """Drop every root key."""
        for held in self._held.values():
            held.forget()
        self._held.clear()

    def sweep(self) -> None:
        """Drop the secrets whose time is up, so that none stays in memory because nobody asked for it again."""
        now = self._clock()
        for root_id, held in list(self._held.items()):
            if held.secret is not None and now >= held.unwrapped_at + self._longest:
                held.forget()
            if held.secret is None and not held.lock.locked() and now >= held.retry_at:
                del self._held[root_id]

    @property
    def _longest(self) -> float:
        return max(self._limits.ttl, self._limits.max_stale)

    async def _renew(self, held: _Held, row: RootRow, now: float) -> None:
        """Unwrap, and keep the key or the error."""
        begin = self._clock()
        try:
            secret = await unwrap_root(self._kek, self._deployment, row)
        except ProviderError as error:
            held.error, held.retry_at = error, self._clock() + RETRY_AFTER
            self.told(row, error, self._clock() - begin)
            if not isinstance(error, ProviderUnavailable):
                # The answer was no: what was unwrapped under the old answer is not used on.
                held.forget()
                self._gone(row.id)
        else:
            held.forget()
            # From the moment it was asked for; but where a call takes as long as a root may live, whoever waits must get to use it.
            since = max(now, self._clock() - self._limits.ttl / 2)
            held.secret, held.unwrapped_at, held.error = bytearray(secret), since, None
            held.ahead = self._limits.ttl * (AHEAD + AHEAD * os.urandom(1)[0] / 255)
            self.told(row, None, self._clock() - begin)

    def _without_renewal(self, held: _Held, row: RootRow, *, stale_ok: bool) -> Root:
        error = held.error or ProviderUnavailable("the key provider does not answer")
        now, end = self._clock(), held.unwrapped_at + self._longest
        if held.secret is not None and now >= end:
            held.forget()
            self._gone(row.id)
        if held.secret is None or not stale_ok:
            # A new exception for each waiter: one object raised in several tasks would collect all their tracebacks.
            raise type(error)(error.message, hint=error.hint)
        # Short, so that the end of the outage is noticed, but never past the end.
        return Root(bytes(held.secret), min(end, max(now, held.retry_at) + RETRY_AFTER), stale=True)

    def _trim(self) -> None:
        while len(self._held) > self._limits.max_root_keys:
            root_id, held = self._held.popitem(last=False)
            held.forget()
            self._gone(root_id)


def refuse_unauthentic(row: RootRow) -> None:
    """Raise NotAuthentic for a root that is not as phiproxy has left it."""
    if not row.authentic:
        raise NotAuthentic(f"root key {row.id} of {row.scope} is not authentic in the key registry")


async def unwrap_root(kek: Kek, deployment: str, row: RootRow) -> bytes:
    """Ask its KEK for a root, under the first of its wraps that it covers and opens, those of its own URI first.

    Raises ProviderMisconfigured when it covers none, ProviderDenied when it opens none.
    """
    refuse_unauthentic(row)
    provider = kek_of(kek, row.tenant)
    wraps = [w for w in row.wraps if provider.covers(w.kek_uri)]
    if not wraps:
        raise ProviderMisconfigured(f"root key {row.id} of {row.scope} has no wrap under the configured KEK")
    wraps.sort(key=lambda wrap: wrap.kek_uri != provider.uri)
    denied: ProviderDenied | None = None
    for wrap in wraps:
        try:
            return await provider.unwrap(wrap.blob, wrap.kek_version, row.context(deployment))
        except ProviderDenied as error:
            # Two wraps may stand at once during a KEK rotation, and the one that is on its way out may be shut already.
            denied = error
    assert denied is not None
    raise denied
