"""A registry that the version before manifests has made (format 1, dumped by its own code) is taken over by ``keys init``.

``format1/registry.sql`` has tenants, one of them destroyed, a rolled, a rotated and a compromised key, a second index slot and a
KEK that was turned over; ``values.json`` are values that were sealed under it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from phiproxy.errors import ConfigError, NotAuthentic
from phiproxy.keys import open_provider
from phiproxy.keys.anchoring import unlock, verify
from phiproxy.keys.lifecycle import Initialised, init
from phiproxy.keys.provider import KeyProvider
from phiproxy.keys.registry import Connection
from phiproxy.keys.registry_checked_on_read import Trust
from phiproxy.keys.resolve_data_key import open_value
from tests.keys.fakes import DEPLOYMENT, MRN, SSN, Site
from tests.keys.rotator import no_secrets

OLD = Path(__file__).parent / "format1"
VALUES = [(text, bytes.fromhex(value)) for _tenant, text, value in json.loads((OLD / "values.json").read_text())]


@pytest.fixture
async def kek(site: Site, tmp_path: Path) -> AsyncIterator[KeyProvider]:
    """The KEK of the old registry, which stands in the site's database."""
    with psycopg.connect(site.dsn, autocommit=True) as conn:
        conn.execute((OLD / "registry.sql").read_bytes())
    shutil.copy(OLD / "kek.json", tmp_path / "kek.json")
    (tmp_path / "kek.json").chmod(0o600)
    provider = await open_provider(f"local:{tmp_path}/kek.json", no_secrets)
    yield provider
    await provider.close()


async def upgrade(site: Site, kek: KeyProvider, anchor: str | None = None) -> Initialised:
    async with await site.connect() as conn:
        return await init(conn, [MRN, SSN], DEPLOYMENT, kek, anchor=anchor)


async def test_it_is_not_believed_before(site: Site, kek: KeyProvider) -> None:
    async with await site.connect() as conn:
        with pytest.raises(ConfigError, match="is not authenticated: it was made by an older version") as caught:
            await unlock(conn, "phiproxy", DEPLOYMENT, kek, None)
    assert caught.value.hint is not None
    assert "phiproxy keys init" in caught.value.hint


async def test_every_row_is_taken_over_and_every_value_opens(site: Site, kek: KeyProvider) -> None:
    before = site.run("SELECT id, root_id, generation, wrapped, state, max_uses, mac, used FROM phiproxy.data_key ORDER BY id")
    done = (await upgrade(site, kek)).done
    assert [d.what for d in done] == ["registry authenticated", "registry key made"]
    after = site.run("SELECT id, root_id, generation, wrapped, state, max_uses, mac, used FROM phiproxy.data_key ORDER BY id")
    assert after == before
    assert site.run("SELECT format FROM phiproxy.meta") == [(2,)]
    async with await site.connect() as conn:
        trust = Trust("phiproxy", await unlock(conn, "phiproxy", DEPLOYMENT, kek, None))
    async with await site.connect() as conn:
        assert await verify(trust, conn) == []
    assert (await upgrade(site, kek, trust.key.anchor)).done == []
    async with site.registry(trust) as registry:
        layout = await registry.layout()
        assert [await open_value(value, layout, registry, kek) for _, value in VALUES] == [text.encode() for text, _ in VALUES]
        roots = await registry.all_roots()
    assert {root.state for root in roots if root.tenant == "beta"} == {"destroyed"}
    assert {root.tenant for root in roots} == {"", "acme", "beta"}


async def test_a_key_that_format_1_can_tell_is_forged_stops_it(site: Site, kek: KeyProvider) -> None:
    site.run("UPDATE phiproxy.data_key SET state = 'decrypt_only' WHERE state = 'compromised'")
    with pytest.raises(NotAuthentic, match="is not authentic in the registry"):
        await upgrade(site, kek)
    assert site.run("SELECT format FROM phiproxy.meta") == [(1,)]


async def test_a_pinned_registry_is_not_taken_for_an_old_one(site: Site, kek: KeyProvider) -> None:
    """Who drops all that authenticates a registry, and its registry key, does not get it blessed once more."""
    with pytest.raises(NotAuthentic, match="not authenticated"):
        await upgrade(site, kek, "reg1-" + "0" * 64)


async def test_not_while_older_proxies_serve(site: Site, kek: KeyProvider) -> None:
    site.run("INSERT INTO phiproxy.proxy (id, epoch, heard) VALUES (7, 1, 0)")
    with pytest.raises(ConfigError, match="1 proxies serve this database"):
        await upgrade(site, kek)
    site.run("UPDATE phiproxy.proxy SET seen_at = clock_timestamp() - interval '1 minute'")
    assert (await upgrade(site, kek)).done != []


async def test_an_older_program_makes_no_keys_any_more(site: Site, kek: KeyProvider) -> None:
    """It would write values under a key that no manifest has."""
    await upgrade(site, kek)
    old = "INSERT INTO phiproxy.data_key (id, root_id, generation, wrapped, state, max_uses, mac) SELECT 1, root_id, 99, wrapped,"
    with pytest.raises(psycopg.errors.NotNullViolation):
        site.run(old + " 'pending', max_uses, mac FROM phiproxy.data_key WHERE octet_length(wrapped) = 40 LIMIT 1")


async def test_another_kek_does_not_upgrade_it(site: Site, kek: KeyProvider) -> None:
    async with await Connection.connect(site.dsn) as conn:
        with pytest.raises(Exception, match="has no wrap under the configured KEK"):
            await init(conn, [MRN, SSN], DEPLOYMENT, site.provider)
    assert site.run("SELECT format FROM phiproxy.meta") == [(1,)]
