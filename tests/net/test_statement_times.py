"""Which statements are measured, what of them, and the log of slow ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import structlog

from phiproxy.app import Proxy
from phiproxy.net.statement_times import PHASES, WANTED, Finished, StatementTimes, Trace
from phiproxy.session.core import Session
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import connect, listener_of, serving, site_settings, wire_site

SECRET = "123-45-6789"
FINISHED = Finished(Session(None, "x"), {}, "forwarded", {}, 0.0, b"", Trace())


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with wire_site(postgres_server, tmp_path_factory.mktemp("times"), rows=10) as site:
        yield site


@pytest.fixture(autouse=True)
def _password(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])


def test_the_stride_follows_the_load() -> None:
    times = StatementTimes()
    told: list[str] = []
    assert times.stride > 1_000_000  # nobody asks
    times.told_to(lambda finished: told.append(finished.verdict))
    assert times.stride == 1
    for _ in range(WANTED * 100):
        times.observe(FINISHED)
    times.adapt()
    assert (times.stride, len(told)) == (100, WANTED * 100)
    for _ in range(WANTED // 2):  # half as many statements: each stands for a hundred
        times.observe(FINISHED)
    times.adapt()
    assert times.stride == 50
    times.adapt()
    assert times.stride == 1


def test_where_slow_ones_are_logged_each_is_measured() -> None:
    times = StatementTimes(slow=1.0)
    for _ in range(WANTED * 10):
        times.observe(FINISHED)
    times.adapt()
    assert times.stride == 1


@pytest.fixture
async def measured(site: Site) -> AsyncIterator[tuple[Proxy, int, list[tuple[str, dict[str, float]]]]]:
    told: list[tuple[str, dict[str, float]]] = []
    async with serving(site_settings(site)) as (proxy, port):
        times = listener_of(proxy).times
        times.told_to(lambda done: told.append((done.verdict, {**done.phases, "total": done.total})))
        yield proxy, port, told


async def test_verdicts_and_phases(site: Site, measured: tuple[Proxy, int, list[tuple[str, dict[str, float]]]]) -> None:
    _, port, told = measured
    async with await connect(site, port) as conn:
        told.clear()
        await conn.execute("SELECT pg_sleep(0.5)")
        await conn.execute("INSERT INTO notes VALUES (1, %s)", (SECRET,))
        await conn.execute("SELECT body FROM notes WHERE body = %s", (SECRET,))
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            await conn.execute("SELECT upper(body) FROM notes")
        await conn.execute("DELETE FROM notes")
    verdicts = [verdict for verdict, _ in told]
    assert verdicts[:4] == ["forwarded", "rewritten", "rewritten", "refused"]
    for _, phases in told:
        assert set(phases) == {*PHASES, "total"}
        assert all(seconds >= 0 for seconds in phases.values())
        assert sum(phases[phase] for phase in PHASES) <= phases["total"] + 0.001
    assert told[0][1]["server"] > 0.1  # it is counted from when the loop comes to it
    assert told[0][1]["plan"] < 0.4
    assert told[1][1]["keys"] > 0  # the first that seals fetches them


async def test_a_database_without_a_policy(
    postgres_server: PostgresServer, measured: tuple[Proxy, int, list[tuple[str, dict[str, float]]]]
) -> None:
    _, port, told = measured
    async with await connect(postgres_server, port) as conn:
        told.clear()
        await conn.execute("SELECT pg_sleep(0.5)")
    assert told[0][0] == "forwarded"
    assert told[0][1]["server"] > 0.1


async def test_slow_ones_are_logged_by_phases_without_values(site: Site) -> None:
    settings = site_settings(site, log={"slow_statements": "400ms"})
    with structlog.testing.capture_logs() as lines:
        async with serving(settings) as (_, port), await connect(site, port) as conn:
            await conn.execute("SELECT 1")
            await conn.execute(f"SELECT pg_sleep(0.5), '{SECRET}'")
            await conn.execute("SELECT pg_sleep(%s), %s::text", (0.5, SECRET), prepare=True)
            await conn.execute("SELECT pg_sleep(%s), %s::text", (0.5, SECRET), prepare=True)  # of which only a Bind is sent
    slow = [line for line in lines if line["event"] == "slow statement"]
    assert [line["shape"] for line in slow] == ["SELECT pg_sleep(?), ?", *["SELECT pg_sleep($1), $2::text"] * 2]
    for line in slow:
        assert line["seconds"] >= 0.4
        assert line["server"] > 0.01
        assert (line["database"], line["user"]) == (site.sealed, site.role)
    assert SECRET not in json.dumps(lines, default=str)


async def test_pipelined_statements_are_measured_as_one(
    site: Site, measured: tuple[Proxy, int, list[tuple[str, dict[str, float]]]]
) -> None:
    _, port, told = measured
    async with await connect(site, port) as conn:
        told.clear()
        async with conn.pipeline():
            for _ in range(5):
                await conn.execute("SELECT pg_sleep(0.02)")
    assert told
    assert all(verdict == "forwarded" for verdict, _ in told)
