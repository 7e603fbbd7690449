"""DDL that makes a name over protected tables waits until every live proxy has heard of it; what it has changed is told at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from phiproxy.database_keys import provider_of
from phiproxy.errors import StatementRefused
from phiproxy.policy.settings import CatalogSection
from phiproxy.served_database import ServedDatabase
from phiproxy.sql.policy_files import load_policies
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import connect, serving, site_settings, until, wire_site
from tests.served import copied_site, owner, served


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
        await until(lambda: "shown" in theirs.tenant("").planner.catalog.reaching, "the view was not noticed")


async def test_an_announcement_that_fails_is_told(live: ServedDatabase, capsys: pytest.CaptureFixture[str]) -> None:
    await live._pool.close()
    live.announcements.announce()
    live.announcements.announce()
    assert live.announcements.task is not None
    await live.announcements.task
    assert capsys.readouterr().out.count("could not be announced") == 1


async def test_its_own_word_is_heard_once_what_it_is_of_was_read(live: ServedDatabase) -> None:
    said = live.announcements
    assert not said.is_heard("phiproxy"), "anybody's"
    said.announce()
    assert said.task is not None
    await said.task
    assert not said.is_heard(said.word)
    await live.refresh(changed=True)
    assert said.is_heard(said.word)
    said.announce()
    assert not said.is_heard(said.word)


async def test_ddl_waits_until_every_live_proxy_knows_the_name(site: Site, live: ServedDatabase) -> None:
    settings = site_settings(site)
    (policy,) = load_policies(settings)
    other = await ServedDatabase.open(settings, policy, await provider_of(settings))
    following = asyncio.get_running_loop().create_task(live.follow())
    try:
        await other.announcements.announce_names(frozenset({"shown"}))
        assert "shown" in live.announcements.unread_names
        assert other.announcements.announced_names == {"shown"}
        owner(site, "INSERT INTO phiproxy.proxy VALUES (1, 'infinity', 1, 0)")
        other._members.lease = 0.2
        with pytest.raises(StatementRefused, match="do not confirm"):
            await other.announcements.announce_names(frozenset({"never"}))
        assert "never" not in other.announcements.announced_names
    finally:
        following.cancel()
        await asyncio.wait([following])
        await other.close()
    with site.server.connect(site.sealed) as conn:
        assert len(conn.execute("SELECT FROM phiproxy.proxy WHERE id <> 1").fetchall()) == 1


async def test_a_name_that_nothing_was_made_of_is_forgotten(live: ServedDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    live.announcements.unread_names.add("never")
    live.announcements.forget_unmade()
    assert live.announcements.unread_names == {"never"}
    monkeypatch.setattr("phiproxy.announcements.MAX_WAIT_FOR_NAME", -1.0)
    live.announcements.forget_unmade()
    assert not live.announcements.unread_names


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
    owner(site, f"ALTER TABLE notes OWNER TO {site.role}; GRANT CREATE ON SCHEMA public TO {site.role}")
    owner(site, f"GRANT CREATE ON DATABASE {site.sealed} TO {site.role}")
    settings = site_settings(site, catalog=CatalogSection.model_validate({"poll": "60s"}))
    async with serving(settings) as (_, port), await connect(site, port) as one, await connect(site, port) as two:
        await one.execute("ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
        for name in ("first", "second", "third"):
            before = (await two.execute("SELECT * FROM notes")).description
            await one.execute(f"ALTER TABLE notes ADD COLUMN {name} int".encode())
            after = (await two.execute("SELECT * FROM notes")).description
            assert [c.name for c in after or ()] == [*(c.name for c in before or ()), name]
        for cascades in ("DROP SCHEMA moods CASCADE", "DROP TYPE mood CASCADE"):
            own = "moods." if "SCHEMA" in cascades else ""
            if own:
                await one.execute("CREATE SCHEMA moods")
            await one.execute(f"CREATE TYPE {own}mood AS ENUM ('fine')".encode())
            await one.execute(f"ALTER TABLE notes ADD COLUMN mood {own}mood".encode())
            assert len((await two.execute("SELECT * FROM notes", prepare=False)).description or ()) == 6
            await one.execute(cascades.encode())
            left = (await two.execute("SELECT * FROM notes", prepare=False)).description
            assert [c.name for c in left or ()] == [c.name for c in after or ()]
