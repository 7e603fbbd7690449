"""A lock that others hold is asked for in short attempts, and nothing is half done where it cannot be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from phiproxy.errors import ConfigError
from phiproxy.jobs import short_locks
from phiproxy.jobs.relations import Connection
from phiproxy.jobs.short_locks import with_short_lock
from tests.keys.fakes import Site
from tests.net.serving import until


@pytest.fixture
async def conn(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    monkeypatch.setattr(short_locks, "LONGEST_PAUSE", 0.2)
    async with await psycopg.AsyncConnection.connect(site.dsn, autocommit=True) as conn:
        yield conn


async def altered(conn: Connection) -> None:
    """Two changes: the second waits for who holds the other table."""
    await conn.execute("ALTER TABLE visits ADD COLUMN fresh int")
    await conn.execute("ALTER TABLE patients ADD COLUMN fresh int")


async def test_it_is_given_up_and_nothing_is_half_done(site: Site, conn: Connection) -> None:
    told: list[str] = []
    with psycopg.connect(site.dsn) as other:
        other.execute("SELECT FROM patients")
        with pytest.raises(ConfigError, match="could not be had in 2 attempts"):
            await with_short_lock(conn, site.server.superuser, "adding a column", altered, attempts=2, told=told.append)
    assert told == ["others hold a lock: adding a column"]
    assert site.run("SELECT count(*) FROM pg_attribute WHERE attname = 'fresh'") == [(0,)]


async def test_it_is_had_once_the_others_let_go(site: Site, conn: Connection) -> None:
    told: list[str] = []
    other = psycopg.connect(site.dsn)
    other.execute("SELECT FROM patients")
    waiting = asyncio.get_running_loop().create_task(
        with_short_lock(conn, site.server.superuser, "adding a column", altered, told=told.append)
    )
    await until(lambda: bool(told), "nobody waits for the lock")
    other.close()
    await asyncio.wait_for(waiting, 60)
    assert told == ["others hold a lock: adding a column", ""]
    assert site.run("SELECT count(*) FROM pg_attribute WHERE attname = 'fresh'") == [(2,)]


async def test_an_autovacuum_makes_way_for_some_attempts_and_nobody_else_ends_for_it(site: Site, conn: Connection) -> None:
    """The server looks for deadlocks, and ends an autovacuum, after a second."""
    timeouts: list[str] = []

    async def locked(conn: Connection) -> None:
        ((timeout,),) = await (await conn.execute("SHOW lock_timeout")).fetchall()
        timeouts.append(timeout)
        raise psycopg.errors.LockNotAvailable

    with pytest.raises(ConfigError, match="could not be had in 4 attempts"):
        await with_short_lock(conn, site.server.superuser, "adding a column", locked, attempts=4)
    assert timeouts == ["600ms", "600ms", "1500ms", "600ms"]
