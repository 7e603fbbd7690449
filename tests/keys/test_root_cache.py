"""Root keys: one unwrap, shared; fresh, stale, denied."""

from __future__ import annotations

import asyncio

import pytest

from phiproxy.errors import ProviderDenied, ProviderError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.key_rows import RootRow, WrapRow
from phiproxy.keys.provider import Context
from phiproxy.keys.root_cache import RETRY_AFTER, CacheLimits, Root, RootCache
from tests.keys.fakes import DEPLOYMENT, Clock, FakeProvider

SECRET = b"R" * 32
LIMITS = CacheLimits(ttl=300, max_stale=900, max_root_keys=3)


async def wrapped(provider: FakeProvider, root_id: int = 1, generation: int = 1) -> RootRow:
    blob = (await provider.wrap(SECRET, Context(DEPLOYMENT, "d:mrn", "", "data", generation))).blob
    return RootRow(root_id, "d:mrn", "", "data", generation, "active", (WrapRow(provider.uri, "1", blob),))


class Bench:
    def __init__(self, clock: Clock) -> None:
        self.clock, self.provider, self.gone = clock, FakeProvider(), list[int]()
        self.cache = RootCache(self.provider, DEPLOYMENT, LIMITS, clock, self.gone.append)


@pytest.fixture
def bench(clock: Clock) -> Bench:
    return Bench(clock)


async def test_a_hundred_waiters_share_one_unwrap(bench: Bench) -> None:
    row = await wrapped(bench.provider)
    bench.provider.gate.clear()
    waiting = [asyncio.ensure_future(bench.cache.get(row, stale_ok=bool(n % 2))) for n in range(100)]
    await asyncio.sleep(0)
    bench.provider.gate.set()
    assert set(await asyncio.gather(*waiting)) == {Root(SECRET, 1300.0, stale=False)}
    assert len(bench.provider.unwraps) == 1


async def test_a_cancelled_waiter_takes_nobody_along(bench: Bench) -> None:
    row = await wrapped(bench.provider)
    bench.provider.gate.clear()
    first, second = (asyncio.ensure_future(bench.cache.get(row, stale_ok=False)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    bench.provider.gate.set()
    assert (await second).secret == SECRET
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_it_is_unwrapped_again_after_its_time_which_began_before_the_answer(bench: Bench) -> None:
    row = await wrapped(bench.provider)
    bench.provider.gate.clear()
    waiting = asyncio.ensure_future(bench.cache.get(row, stale_ok=False))
    await asyncio.sleep(0)
    bench.clock.now += 50
    bench.provider.gate.set()
    assert (await waiting).expires == 1300
    bench.clock.now = 1299.9
    await bench.cache.get(row, stale_ok=False)
    assert len(bench.provider.unwraps) == 1
    bench.clock.now = 1300
    assert (await bench.cache.get(row, stale_ok=False)).expires == 1600
    assert len(bench.provider.unwraps) == 2


async def test_unavailable_reads_go_on_until_max_stale_and_writes_do_not(bench: Bench) -> None:
    row = await wrapped(bench.provider)
    await bench.cache.get(row, stale_ok=False)
    bench.provider.fails = ProviderUnavailable
    bench.clock.now = 1300
    with pytest.raises(ProviderUnavailable) as caught:
        await bench.cache.get(row, stale_ok=False)
    assert caught.value.sqlstate == "57P03"
    found = await bench.cache.get(row, stale_ok=True)
    assert (found.secret, found.stale) == (SECRET, True)
    assert 1300 < found.expires <= 1300 + 2 * RETRY_AFTER + 0.1
    bench.clock.now = 1899.5
    assert (await bench.cache.get(row, stale_ok=True)).expires == 1900
    bench.clock.now = 1900
    with pytest.raises(ProviderUnavailable):
        await bench.cache.get(row, stale_ok=True)
    assert bench.gone == [1]
    bench.provider.fails = None
    bench.clock.now += RETRY_AFTER
    assert (await bench.cache.get(row, stale_ok=False)).stale is False


async def test_an_outage_is_not_a_stampede_and_its_end_is_noticed(bench: Bench) -> None:
    row = await wrapped(bench.provider)
    bench.provider.fails = ProviderUnavailable
    errors = await asyncio.gather(*(bench.cache.get(row, stale_ok=True) for _ in range(50)), return_exceptions=True)
    assert {type(e) for e in errors} == {ProviderUnavailable}
    assert len({id(e) for e in errors}) == 50
    assert len(bench.provider.unwraps) == 1
    bench.provider.fails = None
    bench.clock.now += RETRY_AFTER
    assert (await bench.cache.get(row, stale_ok=True)).stale is False


async def test_after_denied_nothing_is_served(bench: Bench) -> None:
    row = await wrapped(bench.provider)
    await bench.cache.get(row, stale_ok=False)
    bench.provider.fails = ProviderDenied
    bench.clock.now = 1300
    for _ in range(2):
        with pytest.raises(ProviderDenied):
            await bench.cache.get(row, stale_ok=True)
    assert bench.gone == [1]
    # Not even when the provider stops answering afterwards.
    bench.provider.fails = ProviderUnavailable
    bench.clock.now += RETRY_AFTER
    with pytest.raises(ProviderUnavailable):
        await bench.cache.get(row, stale_ok=True)


async def test_of_two_wraps_the_one_that_opens_counts(bench: Bench) -> None:
    row = await wrapped(bench.provider)
    old = WrapRow(bench.provider.uri, "0", b"x" * 60)
    foreign = WrapRow("fake:other", "1", b"x" * 60)
    both = RootRow(1, row.scope, "", "data", 1, "active", (old, foreign, *row.wraps))
    assert (await bench.cache.get(both, stale_ok=False)).secret == SECRET
    assert len(bench.provider.unwraps) == 2


async def test_no_wrap_under_this_kek(bench: Bench) -> None:
    row = await wrapped(FakeProvider("fake:other"))
    with pytest.raises(ProviderMisconfigured, match="no wrap under the configured KEK"):
        await bench.cache.get(row, stale_ok=True)
    assert len(bench.provider.unwraps) == 0


async def test_a_wrap_of_another_generation_is_denied(bench: Bench) -> None:
    row = await wrapped(bench.provider, generation=2)
    with pytest.raises(ProviderDenied):
        await bench.cache.get(RootRow(1, row.scope, "", "data", 1, "active", row.wraps), stale_ok=True)


async def test_the_cache_is_bounded_and_says_what_leaves(bench: Bench) -> None:
    for root_id in range(1, 5):
        await bench.cache.get(await wrapped(bench.provider, root_id), stale_ok=True)
    assert bench.gone == [1]
    assert bench.cache.held() == {2, 3, 4}


async def test_sweep_leaves_no_secret_behind(bench: Bench) -> None:
    row = await wrapped(bench.provider)
    await bench.cache.get(row, stale_ok=True)
    bench.clock.now = 1899
    bench.cache.sweep()
    assert len(bench.cache._held) == 1
    bench.clock.now = 1900
    bench.cache.sweep()
    assert len(bench.cache._held) == 0


async def test_no_repr_holds_a_secret(bench: Bench) -> None:
    found = await bench.cache.get(await wrapped(bench.provider), stale_ok=True)
    assert "RRRR" not in repr([found, bench.cache, bench.cache._held])


@pytest.mark.parametrize("bad", [{"ttl": 0}, {"max_stale": -1}, {"max_root_keys": 0}])
def test_limits_make_sense(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="limits"):
        CacheLimits(**bad)


def test_every_provider_error_can_be_said_again() -> None:
    for kind in (ProviderDenied, ProviderMisconfigured, ProviderUnavailable):
        assert isinstance(kind("x", hint="y"), ProviderError)


async def test_a_provider_slower_than_the_time_of_a_root_is_still_of_use(bench: Bench, clock: Clock) -> None:
    row = await wrapped(bench.provider)
    real = bench.provider.unwrap

    async def slow(blob: bytes, version: str, context: Context) -> bytes:
        clock.now += 1000
        return await real(blob, version, context)

    bench.provider.unwrap = slow  # type: ignore[method-assign]
    root = await bench.cache.get(row, stale_ok=False)
    assert root.expires > clock.now
