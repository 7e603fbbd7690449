"""Sessions are bounded over all databases, and connections are used again where they can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from phiproxy.engine.access import Access
from phiproxy.engine.connection import NoSuchDatabase
from phiproxy.engine.databases import connect, make_database
from phiproxy.engine.definitions import Definitions, TypeDefinition
from phiproxy.engine.pool import Pool
from tests.engine.both import Both, read_server
from tests.net.serving import until


@pytest.fixture
async def two(both: Both) -> tuple[str, str]:
    """Two databases of the engine."""
    one = TypeDefinition(80_000, "public", "t", "CREATE TYPE public.t AS ENUM ()", oids=(("public", "t", 80_000, 0),))
    other = await make_database(both.engine.access, read_server(both.server)[0], Definitions((one,)))
    return both.database.created.name, other.name


@pytest.fixture
async def pool(engine_access: Access) -> AsyncIterator[Pool]:
    pool = Pool(engine_access, 2)
    yield pool
    pool.close()
    assert pool._open == 0


def soon() -> float:
    return asyncio.get_running_loop().time() + 0.2


async def test_a_connection_is_used_again(pool: Pool, two: tuple[str, str]) -> None:
    await pool.enter(soon())
    conn = await pool.connection(two[0])
    pool.leave(conn)
    await pool.enter(soon())
    assert await pool.connection(two[0]) is conn
    pool.leave(conn)


async def test_no_more_than_its_size(pool: Pool, two: tuple[str, str]) -> None:
    await pool.enter(soon())
    await pool.enter(soon())
    with pytest.raises(TimeoutError):
        await pool.enter(soon())
    pool.leave(None)
    await pool.enter(soon())
    pool.leave(None)
    pool.leave(None)


async def test_what_is_idle_elsewhere_makes_room(pool: Pool, two: tuple[str, str]) -> None:
    one, other = two
    first, second = await pool.connection(one), await pool.connection(one)
    for conn in (first, second):
        await pool.enter(soon())
        pool.leave(conn)
    await pool.enter(soon())
    third = await pool.connection(other)
    assert first.closed
    assert pool.idle == [second]
    pool.leave(third)
    pool.close(one)
    assert pool.idle == [third]


async def test_what_is_closed_or_worn_is_not_used_again(
    pool: Pool, two: tuple[str, str], engine_access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool.enter(soon())
    conn = await pool.connection(two[0])
    pool.leave(conn)
    async with connect(engine_access) as administrator:
        await administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'phiproxy_rest'")
    await until(lambda: conn.closed, "it is not closed")
    await pool.enter(soon())
    another = await pool.connection(two[0])
    assert another is not conn
    monkeypatch.setattr("phiproxy.engine.run.MOST_STATEMENTS", -1)
    pool.leave(another)
    assert another.closed
    assert pool.idle == []


async def test_one_that_cannot_be_opened_takes_no_room(pool: Pool) -> None:
    for _ in range(5):
        with pytest.raises(NoSuchDatabase):
            await pool.connection("phiproxy_nowhere")
