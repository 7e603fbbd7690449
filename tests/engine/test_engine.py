"""Bounds: rows, bytes, time, sessions, room; and what becomes of a connection whose statement ended early."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from phiproxy.engine.access import Access
from phiproxy.engine.databases import connect
from phiproxy.engine.engine import Engine
from phiproxy.engine.failures import EngineDisagrees, EngineFull, EngineTimeout, LimitExceeded
from phiproxy.engine.rest import Rest, Session, Values
from phiproxy.engine.rows_into_engine import Column
from phiproxy.errors import StatementFailed
from tests.engine.both import Both, compute, data_row

Server = psycopg.Connection[tuple[object, ...]]
TEXT = (Column(25),)
COUNT = Rest((b"SELECT count(*) FROM ", b" AS p (n)"), TEXT)
# Computes for as long as it is let.
ENDLESS = Rest((b"SELECT count(*) FROM ", b" AS p (n), generate_series(1, 1000000000) g WHERE n || g = ''"), TEXT)
ROW = data_row([b"x" * 100])


@asynccontextmanager
async def limited(access: Access, server: Server, **limits: Any) -> AsyncIterator[Both]:
    async with Both.over(access, server, compute(limits=limits)) as both:
        yield both


async def computed(
    both: Both, rows: Iterable[bytes], rest: Rest = COUNT, narrowing: str = "", begun: Awaitable[None] | None = None
) -> None:
    async with both.database.computing(rest, Session(), narrowing) as computation:
        if begun is not None:
            await begun
        for row in rows:
            await computation.rows(row)
        async for _ in computation.results(Values()):
            pass


async def backends(access: Access) -> int:
    """How many connections of the role there are."""
    async with connect(access) as conn:
        row = await (await conn.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'phiproxy_rest'")).fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("limits", [{"rows": 300}, {"bytes": "30KiB"}, {"rows": 3}])
async def test_too_much_is_54000_and_names_the_limit(engine_access: Access, server: Server, limits: dict[str, Any]) -> None:
    async with limited(engine_access, server, **limits) as both:
        with pytest.raises(LimitExceeded) as refused:
            await computed(both, [ROW] * 400, narrowing="say more")
        (name,) = limits
        assert refused.value.sqlstate == "54000"
        assert f"compute.limits.{name}" in refused.value.message
        assert refused.value.hint == "say more"
        assert (await both.run(COUNT, [ROW] * 3)).rows == [[b"3"]]


async def test_the_most_that_is_allowed(engine_access: Access, server: Server) -> None:
    async with limited(engine_access, server, rows=300, bytes=f"{300 * len(ROW)}B") as both:
        assert (await both.run(COUNT, [ROW] * 300)).rows == [[b"300"]]


@pytest.mark.parametrize("rows", [1, 1000])
async def test_too_long_is_57014_and_ends_what_was_computed(engine_access: Access, server: Server, rows: int) -> None:
    async with limited(engine_access, server, timeout="1s") as both:
        with pytest.raises(EngineTimeout) as refused:
            await both.run(ENDLESS, [ROW] * rows)
        assert refused.value.sqlstate == "57014"
        assert "compute.limits.timeout" in refused.value.message
        assert await soon_free(both)
        both.database._timeout = 120.0
        assert (await both.run(COUNT, [ROW])).rows == [[b"1"]]


async def soon_free(both: Both) -> bool:
    """Tell whether nothing is computed any longer after a moment."""
    if both.engine._settling:
        await asyncio.wait(both.engine._settling)
    for _ in range(1000):
        if await backends(both.engine.access) == len(both.engine.pool.idle):
            return True
        await asyncio.sleep(0.1)
    return False


async def test_a_server_that_gives_no_rows_is_not_waited_for(engine_access: Access, server: Server) -> None:
    async with limited(engine_access, server, timeout="500ms") as both:
        with pytest.raises(EngineTimeout):
            await computed(both, [ROW], begun=asyncio.sleep(0.6))


async def test_sessions_are_bounded_and_waited_for(engine_access: Access, server: Server) -> None:
    async with limited(engine_access, server, sessions=2) as both:
        outcomes = await asyncio.gather(*(both.run(COUNT, [ROW] * n) for n in range(1, 30)))
        assert [outcome.rows for outcome in outcomes] == [[[str(n).encode()]] for n in range(1, 30)]
        assert len(both.engine.pool.idle) == 2
    async with limited(engine_access, server, sessions=2, timeout="120s") as both:
        async with both.database.computing(COUNT, Session()), both.database.computing(COUNT, Session()):
            both.database._timeout, begun = 2.0, time.monotonic()
            with pytest.raises(EngineTimeout, match=r"compute\.limits\.sessions"):
                await both.run(COUNT, [ROW])
            assert time.monotonic() - begun > 1.5
            both.database._timeout = 120.0
        assert (await both.run(COUNT, [ROW])).rows == [[b"1"]]


async def test_workers_share_the_sessions(engine_access: Access) -> None:
    assert Engine(engine_access, compute(limits={"sessions": 5}), workers=2).pool.size == 2
    assert Engine(engine_access, compute(limits={"sessions": 1}), workers=4).pool.size == 1


@pytest.mark.parametrize("rows", [1, 1000])
async def test_a_client_that_cancels(both: Both, rows: int) -> None:
    running = asyncio.ensure_future(both.run(ENDLESS, [ROW] * rows))
    await asyncio.sleep(0.5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await both.engine.close()
    assert not both.engine._settling
    assert (await both.run(COUNT, [ROW])).rows == [[b"1"]]


async def test_a_source_that_fails_half_way_leaves_nothing(both: Both) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await computed(both, (ROW if n < 500 else data_row([b"%d" % (1 // (500 - n))]) for n in range(501)))
        if both.engine._settling:
            await asyncio.wait(both.engine._settling)
    assert len(both.engine.pool.idle) == 1  # it was not hung up
    assert (await both.run(COUNT, [ROW] * 300)).rows == [[b"300"]]


async def test_a_row_of_another_kind_ends_it(both: Both) -> None:
    rest = Rest((b"SELECT count(*) FROM ", b" AS p (n)"), (Column(23),))
    with pytest.raises(EngineDisagrees, match=r"did not take the rows \(22P03\)"):
        await both.run(rest, [data_row([b"not an int"])] * 300)
    with pytest.raises(StatementFailed) as failed:
        await computed(both, [data_row([b"not an int"])], rest)
    with pytest.raises(EngineDisagrees, match=r"did not take the rows \(22P04\)"):
        await both.run(rest, [data_row([b"1234"])] * 200 + [data_row([b"1234", b"x"])])
    assert failed.value.state in ("22P03", "08P01")
    assert "not an int" not in str(failed.value)


async def test_a_full_engine_is_53200(engine_access: Access, server: Server) -> None:
    sorting = Rest((b"SELECT n FROM ", b" AS p (n), generate_series(1, 100000) g ORDER BY n || g"), TEXT)
    async with connect(engine_access) as conn:
        await conn.execute("ALTER ROLE phiproxy_rest SET temp_file_limit = '1MB'")
        await conn.execute("ALTER ROLE phiproxy_rest SET work_mem = '1MB'")
        try:
            async with limited(engine_access, server) as both:
                for rows in (5, 300):
                    with pytest.raises(EngineFull) as refused:
                        await both.run(sorting, [ROW] * rows)
                    assert refused.value.sqlstate == "53200"
                    assert "temp" not in refused.value.message
        finally:
            await conn.execute("ALTER ROLE phiproxy_rest SET temp_file_limit = '1GB'")
            await conn.execute("ALTER ROLE phiproxy_rest SET work_mem = '32MB'")


async def test_connections_that_hold_much_are_not_kept(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phiproxy.engine.run.MOST_TABLES", 2)
    for width in range(1, 8):
        rest = Rest((b"SELECT count(*) FROM ", b" AS p"), TEXT * width)
        rows = [data_row([b"x"] * width)] * 300
        assert (await both.run(rest, rows)).rows == [[b"300"]]
        assert all(len(conn.said.tables) <= 2 for conn in both.engine.pool.idle)


async def test_results_are_not_taken_faster_than_they_are_wanted(both: Both) -> None:
    rest = Rest((b"SELECT n || g FROM ", b" AS p (n), generate_series(1, 100000) g"), TEXT)
    total = 0
    async with both.database.computing(rest, both.session()) as computation:
        await computation.rows(ROW)
        async for piece in computation.results(Values()):
            total += len(piece)
            assert computation.conn._size < 4 << 20
            if total < 3 << 20:
                await asyncio.sleep(0.01)
    assert total > 100_000 * 100
