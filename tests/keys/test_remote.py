"""Calls off the loop: what is retried, what ends at once, what the breaker does, and that nobody else waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from phiproxy.errors import ProviderDenied, ProviderError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.remote import Breaker, CallLimits, Remote

LIMITS = CallLimits(attempts=2, deadline=120.0, failures=2, rest=1.0, threads=2)


@pytest.fixture
def remote() -> Iterator[Remote]:
    found = Remote("the vault", LIMITS)
    yield found
    found.close()


class Calls:
    """A function that raises what it is told, and counts."""

    def __init__(self, *errors: ProviderError | None) -> None:
        self.errors = list(errors)
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return threading.current_thread().name


async def test_a_call_runs_on_a_thread_of_its_own(remote: Remote) -> None:
    assert (await remote.call(Calls())).startswith("phiproxy the vault")


async def test_unavailable_is_tried_again_and_final_answers_are_not(remote: Remote) -> None:
    again = Calls(ProviderUnavailable("x"))
    await remote.call(again)
    assert again.count == 2
    for final in (ProviderDenied("no"), ProviderMisconfigured("wrong")):
        once = Calls(final, final, final)
        with pytest.raises(type(final)):
            await remote.call(once)
        assert once.count == 1


async def test_the_breaker_opens_rests_and_closes(remote: Remote) -> None:
    now = [0.0]
    remote.breaker = Breaker(LIMITS.failures, LIMITS.rest, lambda: now[0])
    down = Calls(*[ProviderUnavailable("x")] * 100)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable, match=r"^x$"):
            await remote.call(down)
    before = down.count
    with pytest.raises(ProviderUnavailable, match="left alone"):
        await remote.call(down)
    assert down.count == before
    now[0] += LIMITS.rest + 0.05
    with pytest.raises(ProviderUnavailable, match=r"^x$"):
        await remote.call(down)
    with pytest.raises(ProviderUnavailable, match="left alone"):
        await remote.call(down)
    now[0] += LIMITS.rest + 0.05
    up = Calls()
    await remote.call(up)
    await remote.call(up)


async def test_denials_do_not_open_the_breaker(remote: Remote) -> None:
    for _ in range(5):
        with pytest.raises(ProviderDenied):
            await remote.call(Calls(ProviderDenied("no")))
    await remote.call(Calls())


async def test_a_call_that_hangs_ends_at_the_deadline_and_the_loop_goes_on(remote: Remote) -> None:
    remote.limits = replace(LIMITS, deadline=0.5)
    release = threading.Event()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.ensure_future(tick())
    with pytest.raises(ProviderUnavailable, match=r"within 0\.5 s"):
        await remote.call(release.wait)
    release.set()
    ticking.cancel()
    assert ticks > 2


def test_one_call_at_a_time_tries_whether_it_is_over() -> None:
    now = [0.0]
    breaker = Breaker(2, 5.0, lambda: now[0])
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    now[0] = 5.0
    assert breaker.allows()
    assert not breaker.allows()
    breaker.answered()
    assert breaker.allows()
    assert breaker.allows()
