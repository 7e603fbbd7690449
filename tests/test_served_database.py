"""A database while it is served: catalogue and registry followed, keys fetched once, and never less protected than it was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from phiproxy.database_keys import provider_of
from phiproxy.errors import (
    CatalogNeeded,
    ConfigError,
    NotAuthentic,
    ProviderUnavailable,
    StatementRefused,
    UndefinedTable,
    WriteKeyWant,
)
from phiproxy.keys.compromise_retire import compromise
from phiproxy.keys.registry import Registry
from phiproxy.net.catalog_reader import CatalogReader
from phiproxy.net.service_login import service_pool
from phiproxy.plan.named_statements import View
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.settings import CatalogSection
from phiproxy.served_database import ServedDatabase, warn_of_leakage
from phiproxy.sql.policy_files import load_policies
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import connect, serving, site_settings, until, wire_site
from tests.policy.build import make_policy
from tests.served import copied_site, owner, served

VIEW = View(("pg_catalog", "public"), "x", catalog_fresh=True)


@pytest.fixture(scope="module")
def mould(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """What the sites of all tests are copied from."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("mould"), rows=10) as site:
        yield site


@pytest.fixture
def site(mould: Site, tmp_path: Path) -> Iterator[Site]:
    with copied_site(mould, tmp_path) as site:
        yield site


@pytest.fixture
async def live(site: Site) -> AsyncIterator[ServedDatabase]:
    async with served(site) as database:
        yield database


async def test_ddl_behind_the_proxy_makes_another_planner(site: Site, live: ServedDatabase) -> None:
    before, generation = live.tenant("").planner, live.tenant("").generation
    with pytest.raises(CatalogNeeded) as needed:
        before.statement(b"SELECT body FROM fresh", (), VIEW)
    await live.refresh(names=needed.value.names)
    with pytest.raises(UndefinedTable):
        before.statement(b"SELECT body FROM fresh", (), VIEW)
    assert live.tenant("").planner is before, "no plan knew of it"
    owner(site, "CREATE TABLE fresh (body text)")
    await live.refresh()
    assert live.tenant("").generation == generation + 1
    assert live.tenant("").planner.statement(b"SELECT body FROM fresh", (), VIEW).identity
    owner(site, "CREATE TABLE elsewhere (body text)")
    with site.server.connect(site.sealed) as conn:  # all of its connections are lost
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        conn.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    await live.refresh()
    assert live.tenant("").generation == generation + 1, "nobody has named it"


async def test_a_database_that_no_longer_fits_stays_protected(site: Site, live: ServedDatabase) -> None:
    owner(site, "ALTER TABLE notes DROP CONSTRAINT phi_guard_body, ALTER COLUMN body TYPE text USING 'x'")
    await live.refresh()
    plan = live.tenant("").planner.statement(b"SELECT body FROM notes WHERE body = $1", (), VIEW)
    assert plan.touches
    owner(site, "ALTER TABLE notes RENAME TO gone")
    await live.refresh()
    with pytest.raises(UndefinedTable):
        live.tenant("").planner.statement(b"SELECT body FROM notes", (), VIEW)


async def test_following_notices_what_changes(site: Site, live: ServedDatabase) -> None:
    generation = live.tenant("").generation
    following = asyncio.get_running_loop().create_task(live.follow())
    try:
        owner(site, "CREATE VIEW shown AS SELECT body FROM notes")
        await until(lambda: live.tenant("").generation > generation, "the view was not noticed")
        assert "shown" in live.tenant("").planner.catalog.reaching
    finally:
        following.cancel()
        await asyncio.wait([following])


async def test_a_thousand_statements_unwrap_each_root_once(site: Site) -> None:
    async with serving(site_settings(site)) as (proxy, port):
        async with await connect(site, port) as one, await connect(site, port) as two:
            for i in range(500):
                await one.execute("INSERT INTO notes (id, body) VALUES (%s, %s)", (i, f"text {i}"))
                row = await (await two.execute("SELECT id FROM notes WHERE body = %s", (f"text {i}",))).fetchone()
                assert row == (i,)
        (database,) = proxy.databases.values()
        assert database.watch.unwraps == {"ok": 2}  # the data root and the index root of one table


async def test_a_policy_that_does_not_fit_is_refused_and_a_reload_leaves_everything(site: Site, live: ServedDatabase) -> None:
    text = (site.directory / "policy.yaml").read_text()
    (site.directory / "policy.yaml").write_text(text.replace("body:", "nobody:").replace("[body]", "[nobody]"))
    (policy,) = load_policies(site_settings(site))
    before = live.tenant("").planner
    with pytest.raises(ConfigError, match="nobody"):
        live.take(policy, await live.fit(policy))
    assert live.tenant("").planner is before
    with pytest.raises(ConfigError, match="nobody"):
        await ServedDatabase.open(site_settings(site), policy, await provider_of(site_settings(site)))


async def test_nothing_goes_by_a_catalogue_that_a_reload_has_read_before_another(site: Site, live: ServedDatabase) -> None:
    snapshot = await live.fit(live.policy)
    owner(site, "CREATE VIEW shown AS SELECT body FROM notes")
    await live.refresh(changed=True)
    live.take(live.policy, snapshot)
    assert live.announcements.fence.until == 0.0
    await live.refresh(changed=True)
    assert "shown" in live.tenant("").planner.catalog.reaching


async def test_a_registry_that_changes_is_adopted_and_keys_are_kept(site: Site, live: ServedDatabase) -> None:
    generation = live.tenant("").generation
    owner(site, "UPDATE phiproxy.meta SET epoch = epoch + 1")
    await live.refresh()
    assert live.tenant("").generation == generation, "keys changed, and no plan depends on them"
    owner(site, "UPDATE phiproxy.slot SET state = 'ready'; UPDATE phiproxy.meta SET epoch = epoch + 1")
    await live.refresh()
    assert live.tenant("").generation == generation + 1
    await live.refresh()
    assert live.tenant("").generation == generation + 1


async def test_what_was_taken_over_is_told_by_the_same_look(site: Site) -> None:
    """Who changes one slot after the other waits each time until every proxy says so: not for the next poll of each."""
    settings = site_settings(site, catalog={"poll": "1h"})
    (policy,) = load_policies(settings)
    live = await ServedDatabase.open(settings, policy, await provider_of(settings))
    following = asyncio.get_running_loop().create_task(live.follow())
    try:
        await until(lambda: live._renewing is not None, "it does not listen")
        with psycopg.connect(site.server.dsn(site.sealed), autocommit=True) as conn:

            def told() -> bool:
                return conn.execute("SELECT p.epoch = m.epoch FROM phiproxy.proxy p, phiproxy.meta m").fetchall() == [(True,)]

            for _ in range(2):
                conn.execute("UPDATE phiproxy.meta SET epoch = epoch + 1")
                conn.execute("NOTIFY phiproxy_epoch")
                await until(told, "the registry's epoch is taken over, and that is not told")
    finally:
        following.cancel()
        await asyncio.wait([following])
        await live.close()


async def test_a_registry_that_no_longer_fits_is_told_once(
    site: Site, live: ServedDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was protected stays so, and is not touched; and the operator reads it once, not at every poll."""
    assert live.tenant("").planner.statement(b"SELECT body FROM notes", (), VIEW).touches
    await live.refresh()
    capsys.readouterr()
    owner(site, "DELETE FROM phiproxy.column_name; UPDATE phiproxy.meta SET epoch = epoch + 1")
    following = asyncio.get_running_loop().create_task(live.follow())
    try:
        told, end = "", time.monotonic() + 120
        while "the key registry is not as it was written" not in told:
            assert time.monotonic() < end, told
            await asyncio.sleep(0.1)
            told += capsys.readouterr().out
        await asyncio.sleep(2.5)
        told += capsys.readouterr().out
        assert told.count("the key registry is not as it was written") == 1
    finally:
        following.cancel()
        await asyncio.wait([following])
    assert live.tenant("").planner.statement(b"SELECT id FROM notes", (), VIEW).sql
    with pytest.raises(NotAuthentic):
        live.tenant("").planner.statement(b"SELECT body FROM notes", (), VIEW)


async def test_readings_that_are_asked_for_at_once_are_shared(site: Site, live: ServedDatabase) -> None:
    """A hundred sessions that meet the same unknown table read the catalogue twice at most."""
    readings = 0
    real = live._read

    async def counted() -> None:
        nonlocal readings
        readings += 1
        await real()

    live._read = counted  # type: ignore[method-assign]
    owner(site, "CREATE TABLE sudden (id int)")
    await asyncio.gather(*(live.refresh(names=frozenset({"sudden"})) for _ in range(100)))
    assert 1 <= readings <= 2
    assert live.tenant("").planner.statement(b"SELECT id FROM sudden", (), VIEW).identity


async def test_a_name_that_is_not_known_costs_no_reading_where_nothing_has_changed(
    site: Site, live: ServedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = 0

    async def counted(*args: Any, apart: bool) -> Catalog | None:
        nonlocal readings
        catalog = await read(*args, apart=apart)
        readings += catalog is not None
        return catalog

    read = CatalogReader._read
    monkeypatch.setattr(CatalogReader, "_read", counted)
    await live.refresh(names=frozenset({"passing", "lasting"}))
    first = readings
    await live.refresh()
    await live.refresh(names=frozenset({"passing"}))
    assert readings == first
    with psycopg.connect(site.server.dsn(site.sealed), autocommit=True) as other:
        other.execute("CREATE TEMPORARY TABLE passing (id int)")
        await live.refresh(changed=True)
        assert readings == first
        await live.refresh()
        assert readings == first + 1
        other.execute("ALTER TABLE passing RENAME id TO number")
        await live.refresh()
        assert readings == first + 2
    owner(site, "CREATE TABLE lasting (id int)")
    await live.refresh(changed=True)
    assert readings == first + 3


async def test_a_view_that_was_locked_is_read_later(site: Site, live: ServedDatabase) -> None:
    """Its lock is gone again with a rollback, which makes the catalogue no other one."""
    owner(site, "CREATE VIEW bodies AS SELECT body FROM notes")
    with psycopg.connect(site.server.dsn(site.sealed)) as other:
        other.execute("LOCK TABLE bodies IN ACCESS EXCLUSIVE MODE")
        await live.refresh(changed=True)
        with pytest.raises(StatementRefused):
            live.tenant("").planner.statement(b"SELECT body FROM bodies", (), VIEW)
        other.rollback()
    await live.refresh(changed=True)
    assert live.tenant("").planner.statement(b"SELECT body FROM bodies", (), VIEW).touches


async def test_a_view_that_is_locked_for_a_moment_is_waited_for(
    site: Site, live: ServedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a job locks tables: no statement over a view is refused for that."""
    monkeypatch.setattr("phiproxy.net.catalog_reader.VIEW_ATTEMPTS", 400)  # a moment of a slow machine may be long
    owner(site, "CREATE VIEW bodies AS SELECT body FROM notes")
    with psycopg.connect(site.server.dsn(site.sealed)) as other:
        other.execute("LOCK TABLE bodies IN ACCESS EXCLUSIVE MODE")
        reading = asyncio.ensure_future(live.refresh(changed=True))
        await asyncio.sleep(0.15)
        other.rollback()
        await reading
    assert live.tenant("").planner.statement(b"SELECT body FROM bodies", (), VIEW).touches


async def test_new_tables_are_found_by_those_at_work(site: Site) -> None:
    """The client that made a table, and another one, may use it together with a protected one in the next statement."""
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as one, await connect(site, port) as two:
        await one.execute("INSERT INTO notes VALUES (1, 'a')")
        await one.execute("CREATE TABLE made (id int)")
        await one.execute("INSERT INTO made VALUES (1)")
        for conn in (one, two):
            row = await (await conn.execute("SELECT n.body FROM notes n JOIN made m ON m.id = n.id")).fetchone()
            assert row == ("a",)


async def test_a_server_that_is_down_at_a_reload(site: Site, live: ServedDatabase) -> None:
    """An error of ours, not of the driver's: a SIGHUP must end in a line of the log."""
    (policy,) = load_policies(site_settings(site))
    before = live.tenant("").planner
    await live._pool.close()
    with pytest.raises(ProviderUnavailable):
        live.take(policy, await live.fit(policy))
    with pytest.raises(ProviderUnavailable):
        await live.refresh()
    assert live.tenant("").planner is before


async def test_what_is_missing_at_the_start(site: Site) -> None:
    settings = site_settings(site)
    (policy,) = load_policies(settings)
    provider = await provider_of(settings)
    elsewhere = policy.model_copy(update={"database": "no_such_database"})
    with pytest.raises(ConfigError, match='database "no_such_database" does not exist'):
        await ServedDatabase.open(settings, elsewhere, provider)
    owner(site, "DROP SCHEMA phiproxy CASCADE")
    with pytest.raises(ConfigError, match="no key registry"):
        await ServedDatabase.open(settings, policy, provider)


async def test_a_change_in_the_registry_reaches_a_proxy_within_a_second(site: Site) -> None:
    """By NOTIFY: the next look of its own would come in an hour."""
    settings = site_settings(site).model_copy(update={"catalog": CatalogSection(poll=3600.0)})
    (policy,) = load_policies(settings)
    provider = await provider_of(settings)
    live = await ServedDatabase.open(settings, policy, provider)
    following = asyncio.get_running_loop().create_task(live.follow())
    try:
        tenant = live.tenant("")
        await tenant.services.fetch_keys(frozenset({WriteKeyWant("t:public.notes", 1)}))
        key = tenant.ring.reserve("t:public.notes", 1)
        await until(lambda: live._renewing is not None, "it does not listen")
        async with service_pool(settings, policy.database) as pool:
            await compromise(Registry(pool, live.trust), provider, policy.deployment, key.id, "a test", 1000)
        await until(lambda: "t:public.notes" not in tenant.ring.leased(), "the compromised key was written with")
        assert key.id not in tenant.ring.held()
    finally:
        following.cancel()
        await asyncio.wait([following])
        await live.close()
        await provider.close()


def test_an_index_that_tells_much_is_warned_of() -> None:
    few = make_policy({"public.t": {"a": {"type": "text", "indexes": ["a"], "distinct": 3}}})
    with capture_logs() as logs:
        warn_of_leakage("clinic", few.columns())
    assert [(entry["log_level"], entry["database"]) for entry in logs] == [("warning", "clinic")]
    assert "declared distinct: 3" in logs[0]["complaint"]


async def test_one_worker_looks_for_all_and_another_when_it_is_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The poll of the catalogue costs the server the same for one worker and for many."""
    settings = site_settings(site, catalog={"poll": "300ms"})
    (policy,) = load_policies(settings)
    looks: list[CatalogReader] = []

    async def counted(reader: CatalogReader, *args: Any, **more: Any) -> bool:
        looks.append(reader)
        return await same(reader, *args, **more)

    same = CatalogReader.same
    monkeypatch.setattr(CatalogReader, "same", counted)
    workers = [await ServedDatabase.open(settings, policy, await provider_of(settings), (7, index)) for index in range(3)]
    patience = [(worker._members, worker._members._patience) for worker in workers]
    for members, _ in patience:
        members._patience = 600.0  # a machine that has much else to do is silent for longer than that of the settings
    following = [asyncio.get_running_loop().create_task(worker.follow()) for worker in workers]
    try:
        readers = [worker._read_last.reader for worker in workers]
        await until(lambda: len(looks) > 8, "nobody looks")
        assert all(looks.count(reader) <= 2 for reader in readers[1:]), "they look at their start only"
        owner(site, "CREATE VIEW shown AS SELECT body FROM notes")
        await until(lambda: all("shown" in w.tenant("").planner.catalog.reaching for w in workers), "the view was not noticed")
        await workers[2].refresh(names=frozenset({"visits"}))
        owner(site, "CREATE TABLE visits (id int)")
        await until(
            lambda: workers[2]._read_last.catalog.find("public", "visits") is not None, "what only one has read was not noticed"
        )
        # The one that looks for all hears of it from the one whose session has done it, and that has not looked.
        await until(lambda: workers[2]._read_last.reader._asked_version is not None, "it does not look at what only it has read")
        word = workers[2].announcements.word
        owner(site, f"CREATE SCHEMA first; SELECT pg_catalog.pg_notify('phiproxy_epoch', '{word}')")
        await until(lambda: all("first" in w.tenant("").planner.schemas for w in workers), "who has told it did not hear of it")
        owner(site, "CREATE SCHEMA second")
        await workers[0].refresh(changed=True)
        await until(lambda: all("second" in w.tenant("").planner.schemas for w in workers), "what one had read was not told")
        following[0].cancel()
        await asyncio.wait([following[0]])
        for members, seconds in patience:
            members._patience = seconds
        owner(site, "CREATE VIEW later AS SELECT body FROM notes")
        await until(lambda: all("later" in w.tenant("").planner.catalog.reaching for w in workers[1:]), "nobody looks any longer")
    finally:
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        for worker in workers:
            await worker.close()
