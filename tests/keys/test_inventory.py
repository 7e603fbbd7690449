"""What people see of the registry, and the dump that must suffice without it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phiproxy.errors import ConfigError
from phiproxy.keys.inventory import export, list_keys, load_export
from tests.keys.fakes import DEPLOYMENT, Site


async def test_keys_are_listed_with_age_uses_and_wraps(site: Site) -> None:
    await site.init(max_uses=500)
    async with await site.connect() as conn:
        registry, data, index, *others = await list_keys(conn)
    assert (data.scope, data.purpose, data.generation, data.state) == ("d:mrn", "data", 1, "active")
    assert [(w.kek, w.version) for w in data.wraps] == [("fake:kek", "1")]
    (key,) = data.data_keys
    assert (key.generation, key.state, key.used, key.max_uses) == (1, "active", 0, 500)
    assert 0 <= key.age_seconds < 300
    assert (registry.scope, registry.purpose, registry.data_keys) == ("r:registry", "registry", ())
    assert (index.purpose, index.data_keys) == ("index", ())
    assert len(others) == 2


async def test_without_a_registry_it_is_said(site: Site) -> None:
    for read in (list_keys, export):
        async with await site.connect() as conn:
            with pytest.raises(ConfigError, match="no key registry"):
                await read(conn)


async def dump_of(site: Site) -> dict[str, Any]:
    await site.init()
    async with await site.connect() as conn:
        dumped: dict[str, Any] = json.loads(json.dumps(await export(conn)))
    return dumped


async def test_a_dump_reads_back_whole(site: Site) -> None:
    loaded = load_export(await dump_of(site))
    async with site.registry() as registry:
        assert loaded.layout == await registry.layout()
        ids = frozenset(int(str(i)) for (i,) in site.run("SELECT id FROM phiproxy.data_key"))
        rows = {r.id: r for r in await registry.data_keys(ids)}
        for row in await loaded.data_keys(ids | {1}):
            assert (row.wrapped, row.mac, row.state) == (rows[row.id].wrapped, rows[row.id].mac, rows[row.id].state)
        roots = frozenset(r.root_id for r in rows.values())
        assert {r.id: r for r in await loaded.roots(roots)} == {r.id: r for r in await registry.roots(roots)}
    assert len(rows) == 2
    assert (loaded.layout.deployment, len(loaded._roots), len(loaded._data_keys)) == (DEPLOYMENT, 5, 2)


@pytest.mark.parametrize("dump", [None, [], {}, {"phiproxy_registry": 2}, "x"])
def test_other_files_are_refused(dump: object) -> None:
    with pytest.raises(ConfigError, match="not a registry dump"):
        load_export(dump)


async def test_damaged_dumps_are_refused(site: Site) -> None:
    whole = await dump_of(site)
    for name in ("deployment", "identities", "columns", "roots", "wraps", "data_keys"):
        with pytest.raises(ConfigError, match="damaged"):
            load_export({k: v for k, v in whole.items() if k != name})
    for name, bad in (("roots", [[1]]), ("wraps", [[1, "u", "v", "%%"]]), ("identities", [{"slots": [{}]}]), ("columns", 5)):
        with pytest.raises(ConfigError, match="damaged"):
            load_export(whole | {name: bad})
    key = whole["data_keys"][0]
    with pytest.raises(ConfigError, match="damaged"):
        load_export(whole | {"data_keys": [["1", *key[1:]]]})
