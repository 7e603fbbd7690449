"""A job waits while a limit is exceeded, says why, and goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from phiproxy.errors import ConfigError
from phiproxy.jobs import throttle
from phiproxy.jobs.relations import Connection
from phiproxy.jobs.throttle import Limits, Throttle
from tests.harness.replicas import replicas
from tests.harness.server import PostgresServer
from tests.net.serving import until

TABLE = ("public", "t")


@pytest.fixture
async def conn(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    monkeypatch.setattr(throttle, "LOOK_EVERY", 0.05)
    name = postgres_server.create_database()
    with postgres_server.connect(name) as other:
        other.execute("CREATE TABLE busy (n int); INSERT INTO busy VALUES (0)")
        other.execute("CREATE TABLE t (id int PRIMARY KEY)")
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn(name), autocommit=True) as conn:
        yield conn
    postgres_server.drop_database(name)


async def goes_on() -> None:
    """The job is neither paused nor aborted."""


async def test_nothing_is_exceeded(conn: Connection) -> None:
    told: list[str] = []
    waits = Throttle(conn, Limits(), told.append)
    await waits.prepare()
    await waits.wait(TABLE, goes_on)
    assert told == []


async def test_the_dbas_own_query(postgres_server: PostgresServer, conn: Connection) -> None:
    told: list[str] = []
    waits = Throttle(conn, Limits(query="SELECT n FROM busy WHERE 5 % 2 = 1"), told.append)
    await waits.prepare()
    await waits.wait(TABLE, goes_on)
    with postgres_server.connect(conn.info.dbname) as other:
        other.execute("UPDATE busy SET n = 3")
        await asyncio.sleep(0.06)
        waiting = asyncio.get_running_loop().create_task(waits.wait(TABLE, goes_on))
        await until(lambda: bool(told), "it does not wait")
        await asyncio.sleep(0.2)
        assert not waiting.done()
        other.execute("UPDATE busy SET n = 0")
        await asyncio.wait_for(waiting, 120)
    assert set(told) == {"--throttle-query says so", ""}
    assert told[-1] == ""


async def test_a_job_that_waits_can_be_ended(conn: Connection) -> None:
    waits = Throttle(conn, Limits(query="SELECT true"), lambda _: None)

    async def aborted() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await waits.wait(TABLE, aborted)


@pytest.mark.parametrize("query", ["SELECT 'x'", "SELECT nothing", "UPDATE busy SET n = 1"])
async def test_a_query_that_is_none_ends_the_job(conn: Connection, query: str) -> None:
    waits = Throttle(conn, Limits(query=query), lambda _: None)
    await waits.prepare()
    with pytest.raises(ConfigError, match="--throttle-query"):
        await waits.wait(TABLE, goes_on)


async def test_wal_that_a_slot_holds_back(postgres_server: PostgresServer, conn: Connection) -> None:
    told: list[str] = []
    with postgres_server.connect(conn.info.dbname) as other:
        other.execute("SELECT pg_create_physical_replication_slot('job_test', true)")
        try:
            other.execute("INSERT INTO t SELECT generate_series(1, 20000)")

            async def aborted() -> None:
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await Throttle(conn, Limits(wal=1000), told.append).wait(TABLE, aborted)
        finally:
            other.execute("SELECT pg_drop_replication_slot('job_test')")
    assert "replication slot job_test holds" in told[0]


async def test_a_standby_that_is_behind_and_wal_that_is_not_archived(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job waits until the standby has replayed what there is, and until the archiver, which fails at first, has done its work."""
    monkeypatch.setattr(throttle, "LOOK_EVERY", 0.05)
    settings = {"archive_mode": "on", "archive_command": "false", "wal_receiver_status_interval": "1s"}
    with replicas(synchronous=False, settings=settings) as pair, pair.primary.connect() as primary, pair.standby.connect() as other:
        async with await psycopg.AsyncConnection.connect(pair.primary.dsn(), autocommit=True) as conn:
            other.execute("SELECT pg_wal_replay_pause()")
            primary.execute("CREATE TABLE t (id int)")
            behind: list[str] = []
            waiting = asyncio.get_running_loop().create_task(_told(Throttle(conn, Limits(lag=2, wal=0), behind.append), behind))
            await until(lambda: bool(behind), "it does not wait for the standby", 300)
            assert not waiting.done()
            other.execute("SELECT pg_wal_replay_resume()")
            await asyncio.wait_for(waiting, 300)
            assert (behind[0].startswith("standby standby is "), behind[0].endswith(" s behind"), behind[-1]) == (True, True, "")
            primary.execute("SELECT pg_switch_wal()")
            unarchived: list[str] = []
            waits = Throttle(conn, Limits(lag=0, wal=1), unarchived.append)
            waiting = asyncio.get_running_loop().create_task(_told(waits, unarchived))
            await until(lambda: bool(unarchived), "it does not wait for the archiver", 300)
            assert not waiting.done()
            primary.execute("ALTER SYSTEM SET archive_command TO 'true'")
            primary.execute("SELECT pg_reload_conf()")
            await asyncio.wait_for(waiting, 300)
            assert (unarchived[0].endswith(" MiB of WAL are not archived yet"), unarchived[-1]) == (True, "")


async def _told(waits: Throttle, told: list[str]) -> None:
    """Ask the throttle before batches until it has made one wait."""
    while not told:
        await waits.wait(TABLE, goes_on)
        await asyncio.sleep(0.1)


async def test_dead_rows(postgres_server: PostgresServer, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "FEWEST_DEAD", 10_000)
    told: list[str] = []

    async def aborted() -> None:
        raise ZeroDivisionError

    with postgres_server.connect(conn.info.dbname) as other:
        other.execute("INSERT INTO t SELECT generate_series(1, 20000)")
        other.execute("ALTER TABLE t SET (autovacuum_enabled = off)")
        other.execute("DELETE FROM t WHERE id > 3000")
        other.execute("SELECT 1")
        waits = Throttle(conn, Limits(dead=0.5), told.append)
        deadline = time.monotonic() + 120  # the server counts when it comes to it
        while not told and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            try:
                await waits.wait(TABLE, aborted)
            except ZeroDivisionError:
                break
    assert "rows of public.t are dead" in told[0]


async def test_the_rate(conn: Connection) -> None:
    waits = Throttle(conn, Limits(rate=1000), lambda _: None)
    began = time.monotonic()
    for _ in range(5):
        await waits.wait(TABLE, goes_on)
        waits.count(100)
    assert time.monotonic() - began >= 0.38


async def test_what_a_job_was_too_slow_for_is_not_made_up_for(conn: Connection) -> None:
    """After a pause the rate is as it is before one: but for a second's rows."""
    waits = Throttle(conn, Limits(rate=10_000), lambda _: None)
    waits._began -= 60
    began = time.monotonic()
    for _ in range(5):
        await waits.wait(TABLE, goes_on)
        waits.count(5000)
    assert time.monotonic() - began >= 0.9
