"""What the registry records of a database's collation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from phiproxy.errors import ConfigError
from phiproxy.index.characters import Characters
from phiproxy.index.collations import Collation, identity_query
from phiproxy.keys import registered_collation
from phiproxy.keys.layout_rows import read_collation, read_layout
from phiproxy.keys.manifest import RegistryKey
from phiproxy.keys.registered_collation import observe, record
from phiproxy.keys.registry import Connection
from phiproxy.keys.registry_checked_on_read import Change, Trust
from phiproxy.policy.registry_layout import WantedIdentity
from tests.harness.server import PostgresServer
from tests.keys.fakes import Site

WANTED = WantedIdentity("c:public.t.n", "t:public.t", "text", ["@", "lower(@)", "soundex(@)"], [("public", "t", "n")])


@pytest.fixture
async def registry(site: Site) -> AsyncIterator[Connection]:
    site.run("CREATE TABLE public.t (n bytea)")
    await site.init(WANTED)
    async with await psycopg.AsyncConnection.connect(site.server.dsn(site.name), autocommit=True) as conn:
        yield conn


async def recorded(registry: Connection, *, indexed: bool) -> list[tuple[str, str]]:
    """What ``record`` says that it did; the change is not authenticated."""
    return await record(Change(Trust("phiproxy", RegistryKey(b"k" * 32, "x")), registry), indexed=indexed)


async def test_keys_init_records_it(registry: Connection) -> None:
    layout = await read_layout(registry)
    (identity,) = await (await registry.execute(identity_query(registry.info.server_version).encode())).fetchone() or ("",)
    assert layout.collation is not None
    family = layout.collation.characters.family
    assert (layout.collation.identity, layout.collation.extent, bool(family)) == (identity, "all", True)
    slots = {s.expression: s.family for i in layout.identities.values() for s in i.slots}
    assert slots == {"@": "", "lower(@)": family, "soundex(@)": ""}
    assert await recorded(registry, indexed=True) == []


async def test_a_newer_server_is_compared_again(registry: Connection) -> None:
    now = await read_collation(registry, "phiproxy")
    assert now is not None
    old = Collation("libc of another year", Characters("simple", frozenset({0xC4})))
    await registry.execute('UPDATE phiproxy.meta SET "collation" = %s', (old.dump(),))
    assert [what for what, _ in await recorded(registry, indexed=False)] == ["collation compared"]
    assert await read_collation(registry, "phiproxy") == replace(now, extent="assigned")
    events = await (
        await registry.execute("""SELECT "from", "to" FROM phiproxy.event WHERE what = 'collation compared'""")
    ).fetchall()
    assert events[-1] == ("family simple, table 1, 1 characters differ", now.told)


async def test_an_older_registry_has_no_column_for_it(registry: Connection) -> None:
    await registry.execute('ALTER TABLE phiproxy.meta DROP COLUMN "collation"')
    assert (await read_layout(registry)).collation is None


async def test_rules_of_a_language_are_refused_where_an_index_needs_them(
    registry: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def turkish(conn: Connection, extent: str = "all") -> Collation:
        return replace(await observe(conn, "assigned"), characters=Characters(""))

    monkeypatch.setattr(registered_collation, "observe", turkish)
    await registry.execute('UPDATE phiproxy.meta SET "collation" = NULL')
    assert await recorded(registry, indexed=False) == [("collation compared", "family of a language's own rules, table 1")]
    with pytest.raises(ConfigError, match="by the rules of a language"):
        await recorded(registry, indexed=True)


async def test_an_encoding_that_is_not_unicode_has_no_family(postgres_server: PostgresServer) -> None:
    with postgres_server.connect() as conn:
        conn.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        async with await psycopg.AsyncConnection.connect(postgres_server.dsn("latin")) as latin:
            assert (await observe(latin)).characters == Characters("")
    finally:
        postgres_server.drop_database("latin")
