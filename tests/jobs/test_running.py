"""Whether a process works on a job, the limits that it was started with, and what it counts."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from phiproxy.errors import SealError
from phiproxy.jobs import running
from phiproxy.jobs.batches import FEWEST_OF_STRIPE, STRIPES
from phiproxy.jobs.records import Progress
from phiproxy.jobs.running import Run, Undone, _lock_number, is_worked_on, limits_of
from phiproxy.jobs.throttle import Limits
from tests.harness.server import PostgresServer
from tests.jobs.test_batches import Fixed, connect, firsts, scan_of, turned
from tests.keys.fakes import Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from phiproxy.jobs.records import Job
    from phiproxy.jobs.relations import Connection
    from phiproxy.jobs.row_sql import Done, Row


async def test_who_holds_the_lock_works_on_the_job(site: Site) -> None:
    async with await site.connect() as conn, await site.connect() as other:
        assert not await is_worked_on(conn, 3)
        assert not await is_worked_on(other, 3), "to ask is not to take"
        await other.execute("SELECT pg_advisory_lock(%s)", (_lock_number("job 3"),))
        assert await is_worked_on(conn, 3)
        assert not await is_worked_on(conn, 4)


def test_limits_of_a_job() -> None:
    assert limits_of({}) == Limits()
    assert limits_of({"limits": {"rate": 5, "lag": 0, "wal": 1, "dead": 0.1, "query": None}}) == Limits(0, 1, 0.1, None, 5)


class Nothing:
    """Of what a run has beside its connections: nothing is shown, and nothing waited for."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None

    async def wait(self, *_: object) -> None:
        """Wait for nothing."""


@pytest.fixture
async def run(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """A run in a database of its own, whose progress is nowhere but in ``recorded``."""
    name = postgres_server.create_database()

    async def noted(_: Connection, __: str, ___: int, progress: Progress) -> None:
        recorded.append(replace(progress, counts=dict(progress.counts)))

    async def goes_on(_: Run) -> None:
        """Nobody pauses it."""

    recorded.clear()
    monkeypatch.setattr(running, "write_progress", noted)
    monkeypatch.setattr(Run, "goes_on", goes_on)
    async with await connect(postgres_server.dsn(name)) as conn, await connect(postgres_server.dsn(name)) as reading:
        site, job = SimpleNamespace(schema="phiproxy", policy=SimpleNamespace(columns=list)), SimpleNamespace(id=1, options={})
        nothing = cast("Any", Nothing())
        given = cast("Any", site), cast("Job", job), conn, nothing, nothing, Progress()
        yield Run(*given, reading=reading, asking=reading, as_replica=True)
    postgres_server.drop_database(name)


recorded: list[Progress] = []


async def test_rows_that_others_have_locked_are_not_counted_as_written(run: Run) -> None:
    """A large batch is recorded before that is known; with the next one, and in the run, the count is right."""
    rows, conn = STRIPES * FEWEST_OF_STRIPE, run.conn
    await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY, v bytea)")
    await conn.execute("INSERT INTO public.t SELECT g, '\\x01' FROM generate_series(1, %s) g", (rows + 7,))
    run.size = Fixed(rows)
    with psycopg.connect(make_conninfo(conn.info.dsn, password=conn.info.password)) as other:
        other.execute("SELECT FROM t WHERE id <= 5 FOR UPDATE")
        batches = [batch async for batch in run._batches(await scan_of(conn), turned, None, None)]
    assert [batch.written for batch in batches] == [rows - 5, 7]
    # The first may have been recorded by a transaction that was taken back.
    assert [*dict.fromkeys(progress.counts["written"] for progress in recorded)] == [rows, rows + 2]
    assert run.progress.counts == {"read": rows + 7, "written": rows + 2}


@pytest.mark.parametrize(("listed", "named"), [("v", f"id {'x' * 40}"), ("id", "a row whose key is to be protected")])
async def test_rows_that_cannot_be_done_are_told_whatever_their_keys_begin_with(run: Run, listed: str, named: str) -> None:
    """Of a long key its beginning is told: of two rows it may be the same. One that the policy lists is nowhere."""
    await run.conn.execute("CREATE TABLE public.t (id text PRIMARY KEY, v bytea)")
    await run.conn.execute("INSERT INTO public.t SELECT repeat('x', 40) || g, '\\x01' FROM generate_series(1, 3) g")
    cast("Any", run.site).policy.columns = lambda: [SimpleNamespace(name=listed)]

    async def fails(rows: Sequence[Row]) -> list[Done]:
        return [SealError("it does not open") if row.key[0][-1] != "3" else [b"\x02"] for row in rows]

    with pytest.raises(Undone) as undone:
        await run.go_through("a phase", [(await scan_of(run.conn), fails)])
    assert undone.value.rows == dict.fromkeys((f"public.t, {named}", f"public.t, {named} (2)"), "it does not open")
    assert await firsts(run.conn) == {1, 2}
    assert any(progress.cursor is not None for progress in recorded) is (listed != "id")
