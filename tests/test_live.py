"""A database while it is served: catalogue and registry followed, keys fetched once, and never less protected than it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from phiproxy.errors import (
    CatalogNeeded,
    ConfigError,
    NotAuthentic,
    ProviderUnavailable,
    StatementRefused,
    UndefinedTable,
    WriteKeyWant,
)
from phiproxy.keys.ending import compromise
from phiproxy.keys.registry import Registry
from phiproxy.live import LiveDatabase, provider_of, warn_of_leakage
from phiproxy.net.catalog import CatalogReader
from phiproxy.net.service import service_pool
from phiproxy.plan.cache import View
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.settings import CatalogSection
from phiproxy.sql.policies import load_policies
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import connect, serving, site_settings, until, wire_site
from tests.policy.build import make_policy

VIEW = View(("pg_catalog", "public"), "x", catalog_fresh=True)


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose tables a test may change."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("live")) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


@pytest.fixture
async def live(site: Site) -> AsyncIterator[LiveDatabase]:
    settings = site_settings(site)
    (policy,) = load_policies(settings)
    database = await LiveDatabase.open(settings, policy, await provider_of(settings))
    yield database
    await database.close()


def owner(site: Site, statement: str) -> None:
    """Change the sealed database behind the proxy's back."""
    with psycopg.connect(site.server.dsn(site.sealed), autocommit=True) as conn:
        conn.execute(statement.encode())


async def test_ddl_behind_the_proxy_makes_another_planner(site: Site, live: LiveDatabase) -> None:
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
    await live.refresh()
    assert live.tenant("").generation == generation + 1, "nobody has named it"


async def test_a_database_that_no_longer_fits_stays_protected(site: Site, live: LiveDatabase) -> None:
    owner(site, "ALTER TABLE notes DROP CONSTRAINT phi_guard_body, ALTER COLUMN body TYPE text USING 'x'")
    await live.refresh()
    plan = live.tenant("").planner.statement(b"SELECT body FROM notes WHERE body = $1", (), VIEW)
    assert plan.touches
    owner(site, "ALTER TABLE notes RENAME TO gone")
    await live.refresh()
    with pytest.raises(UndefinedTable):
        live.tenant("").planner.statement(b"SELECT body FROM notes", (), VIEW)


async def test_following_notices_what_changes(site: Site, live: LiveDatabase) -> None:
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


async def test_a_policy_that_does_not_fit_is_refused_and_a_reload_leaves_everything(site: Site, live: LiveDatabase) -> None:
    text = (site.directory / "policy.yaml").read_text()
    (site.directory / "policy.yaml").write_text(text.replace("body:", "nobody:").replace("[body]", "[nobody]"))
    (policy,) = load_policies(site_settings(site))
    before = live.tenant("").planner
    with pytest.raises(ConfigError, match="nobody"):
        await live.reload(policy)
    assert live.tenant("").planner is before
    with pytest.raises(ConfigError, match="nobody"):
        await LiveDatabase.open(site_settings(site), policy, await provider_of(site_settings(site)))


async def test_a_registry_that_changes_is_adopted_and_keys_are_kept(site: Site, live: LiveDatabase) -> None:
    generation = live.tenant("").generation
    owner(site, "UPDATE phiproxy.meta SET epoch = epoch + 1")
    await live.refresh()
    assert live.tenant("").generation == generation, "keys changed, and no plan depends on them"
    owner(site, "UPDATE phiproxy.slot SET state = 'ready'; UPDATE phiproxy.meta SET epoch = epoch + 1")
    await live.refresh()
    assert live.tenant("").generation == generation + 1
    await live.refresh()
    assert live.tenant("").generation == generation + 1


async def test_a_registry_that_no_longer_fits_is_told_once(
    site: Site, live: LiveDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was protected stays so, and is not touched; and the operator reads it once, not at every poll."""
    assert live.tenant("").planner.statement(b"SELECT body FROM notes", (), VIEW).touches
    await live.refresh()
    capsys.readouterr()
    owner(site, "DELETE FROM phiproxy.column_name; UPDATE phiproxy.meta SET epoch = epoch + 1")
    following = asyncio.get_running_loop().create_task(live.follow())
    try:
        told = ""
        for _ in range(35):
            await asyncio.sleep(0.1)
            told += capsys.readouterr().out
        assert told.count("the key registry is not as it was written") == 1
    finally:
        following.cancel()
        await asyncio.wait([following])
    assert live.tenant("").planner.statement(b"SELECT id FROM notes", (), VIEW).sql
    with pytest.raises(NotAuthentic):
        live.tenant("").planner.statement(b"SELECT body FROM notes", (), VIEW)


async def test_readings_that_are_asked_for_at_once_are_shared(site: Site, live: LiveDatabase) -> None:
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
    site: Site, live: LiveDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = 0

    async def counted(*args: Any) -> Catalog:
        nonlocal readings
        readings += 1
        return await read(*args)

    read = CatalogReader.read
    monkeypatch.setattr(CatalogReader, "read", counted)
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


async def test_a_view_that_was_locked_is_read_later(site: Site, live: LiveDatabase) -> None:
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


async def test_new_tables_are_found_by_those_at_work(site: Site) -> None:
    """The client that made a table, and another one, may use it together with a protected one in the next statement."""
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as one, await connect(site, port) as two:
        await one.execute("INSERT INTO notes VALUES (1, 'a')")
        await one.execute("CREATE TABLE made (id int)")
        await one.execute("INSERT INTO made VALUES (1)")
        for conn in (one, two):
            row = await (await conn.execute("SELECT n.body FROM notes n JOIN made m ON m.id = n.id")).fetchone()
            assert row == ("a",)


async def test_ddl_through_one_proxy_is_seen_by_the_others_at_once(site: Site) -> None:
    """Not at their next poll: what is announced is read now."""
    settings = site_settings(site, catalog={"poll": "1h"})
    async with serving(settings) as (_, port), serving(settings) as (other, _):
        (theirs,) = other.databases.values()
        await until(lambda: theirs._renewing is not None, "the other proxy does not follow")
        before = theirs.tenant("").planner
        async with await connect(site, port) as one, one.transaction():
            await one.execute("CREATE VIEW shown AS SELECT body FROM notes")
            await one.execute("SELECT 1")
            assert theirs.tenant("").planner is before
        await until(lambda: "shown" in theirs.tenant("").planner.catalog.reaching, "the view was not noticed", within=1)


async def test_an_announcement_that_fails_is_told(live: LiveDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    await live._pool.close()
    live.announce()
    live.announce()
    assert live._announcing is not None
    await live._announcing
    assert capsys.readouterr().out.count("could not be announced") == 1


async def test_a_server_that_is_down_at_a_reload(site: Site, live: LiveDatabase) -> None:
    """An error of ours, not of the driver's: a SIGHUP must end in a line of the log."""
    (policy,) = load_policies(site_settings(site))
    before = live.tenant("").planner
    await live._pool.close()
    with pytest.raises(ProviderUnavailable):
        await live.reload(policy)
    with pytest.raises(ProviderUnavailable):
        await live.refresh()
    assert live.tenant("").planner is before


async def test_what_is_missing_at_the_start(site: Site) -> None:
    settings = site_settings(site)
    (policy,) = load_policies(settings)
    provider = await provider_of(settings)
    elsewhere = policy.model_copy(update={"database": "no_such_database"})
    with pytest.raises(ConfigError, match='database "no_such_database" does not exist'):
        await LiveDatabase.open(settings, elsewhere, provider)
    owner(site, "DROP SCHEMA phiproxy CASCADE")
    with pytest.raises(ConfigError, match="no key registry"):
        await LiveDatabase.open(settings, policy, provider)


async def test_a_change_in_the_registry_reaches_a_proxy_within_a_second(site: Site) -> None:
    """By NOTIFY: the next look of its own would come in a minute."""
    settings = site_settings(site).model_copy(update={"catalog": CatalogSection(poll=60.0)})
    (policy,) = load_policies(settings)
    provider = await provider_of(settings)
    live = await LiveDatabase.open(settings, policy, provider)
    following = asyncio.get_running_loop().create_task(live.follow())
    try:
        tenant = live.tenant("")
        await tenant.services.fetch_keys(frozenset({WriteKeyWant("t:public.notes", 1)}))
        key = tenant.ring.reserve("t:public.notes", 1)
        await asyncio.sleep(0.5)  # it listens by now
        async with service_pool(settings, policy.database) as pool:
            await compromise(Registry(pool, live._trust), provider, policy.deployment, key.id, "a test", 1000)
        began = asyncio.get_running_loop().time()
        await until(lambda: "t:public.notes" not in tenant.ring.leased(), "the compromised key was written with")
        assert asyncio.get_running_loop().time() - began < 10, "far from a second, even on a loaded machine"
        assert key.id not in tenant.ring.held()
    finally:
        following.cancel()
        await asyncio.wait([following])
        await live.close()
        await provider.close()


async def test_ddl_waits_until_every_live_proxy_knows_the_name(site: Site, live: LiveDatabase) -> None:
    settings = site_settings(site)
    (policy,) = load_policies(settings)
    other = await LiveDatabase.open(settings, policy, await provider_of(settings))
    following = asyncio.get_running_loop().create_task(live.follow())
    try:
        await other.announce_names(frozenset({"shown"}))
        assert "shown" in live.made
        assert other.confirmed == {"shown"}
        owner(site, "INSERT INTO phiproxy.proxy VALUES (1, 'infinity', 1, 0)")
        other._members.lease = 0.2
        with pytest.raises(StatementRefused, match="do not confirm"):
            await other.announce_names(frozenset({"never"}))
        assert "never" not in other.confirmed
    finally:
        following.cancel()
        await asyncio.wait([following])
        await other.close()
    with site.server.connect(site.sealed) as conn:
        assert len(conn.execute("SELECT FROM phiproxy.proxy WHERE id <> 1").fetchall()) == 1


async def test_a_name_that_nothing_was_made_of_is_forgotten(live: LiveDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    live.made.add("never")
    live._forget_unmade()
    assert live.made == {"never"}
    monkeypatch.setattr("phiproxy.live.MAX_WAIT_FOR_NAME", -1.0)
    live._forget_unmade()
    assert not live.made


async def test_a_view_that_another_proxy_makes_is_known_at_once(site: Site) -> None:
    owner(site, f"GRANT CREATE ON SCHEMA public TO {site.role}")
    settings = site_settings(site, catalog=CatalogSection.model_validate({"poll": "60s"}))
    async with (
        serving(settings) as (_, port),
        serving(settings) as (_, second),
        await connect(site, port) as one,
        await connect(site, second) as two,
    ):
        await one.execute("INSERT INTO notes (id, body) VALUES (7, 'hidden')")
        await two.execute("SELECT 1")
        await one.execute("CREATE VIEW shown AS SELECT id, body FROM notes")
        assert await (await two.execute("SELECT body FROM shown WHERE body = %s", ("hidden",))).fetchone() == ("hidden",)


async def test_other_sessions_see_a_table_as_it_is_once_its_ddl_has_ended(site: Site) -> None:
    """Where the proxy writes out ``*``: a table with row-level security has hidden columns."""
    owner(site, f"ALTER TABLE notes OWNER TO {site.role}")
    settings = site_settings(site, catalog=CatalogSection.model_validate({"poll": "60s"}))
    async with serving(settings) as (_, port), await connect(site, port) as one, await connect(site, port) as two:
        await one.execute("ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
        for name in ("first", "second", "third"):
            before = (await two.execute("SELECT * FROM notes")).description
            await one.execute(f"ALTER TABLE notes ADD COLUMN {name} int".encode())
            after = (await two.execute("SELECT * FROM notes")).description
            assert [c.name for c in after or ()] == [*(c.name for c in before or ()), name]


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
    workers = [await LiveDatabase.open(settings, policy, await provider_of(settings), (7, index)) for index in range(3)]
    following = [asyncio.get_running_loop().create_task(worker.follow()) for worker in workers]
    try:
        readers = [worker._known.reader for worker in workers]
        await until(lambda: len(looks) > 8, "nobody looks")
        assert all(looks.count(reader) <= 2 for reader in readers[1:]), "they look at their start only"
        owner(site, "CREATE VIEW shown AS SELECT body FROM notes")
        await until(lambda: all("shown" in w.tenant("").planner.catalog.reaching for w in workers), "the view was not noticed")
        await workers[2].refresh(names=frozenset({"visits"}))
        owner(site, "CREATE TABLE visits (id int)")
        await until(
            lambda: workers[2]._known.catalog.find("public", "visits") is not None, "what only one has read was not noticed"
        )
        following[0].cancel()
        await asyncio.wait([following[0]])
        owner(site, "CREATE VIEW later AS SELECT body FROM notes")
        await until(lambda: all("later" in w.tenant("").planner.catalog.reaching for w in workers[1:]), "nobody looks any longer")
    finally:
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        for worker in workers:
            await worker.close()
