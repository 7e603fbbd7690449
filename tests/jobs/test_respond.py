"""What ``respond`` is started with: the keys and roots that a compromise is about."""

from __future__ import annotations

import pytest

from phiproxy.errors import ConfigError
from phiproxy.jobs.respond import prepare_kek, prepare_key
from tests.keys.fakes import Site


async def test_a_data_key(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        root = await registry.root_at("d:mrn", "", "data")
        assert root is not None
        active = await registry.active_key(root.id)
        assert active is not None
        options = await prepare_key(registry, active.id)
        assert options == {"keys": [f"{active.id:08x}"], "roots": [], "scopes": ["d:mrn"], "from": options["from"]}
        with pytest.raises(ConfigError, match="no data key 00000001"):
            await prepare_key(registry, 1)


async def test_a_kek_is_about_every_root_that_it_has_wrapped(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        options = await prepare_kek(registry, site.provider.uri)
        assert options["roots"] == [root.id for root in await registry.all_roots()]
        assert options["scopes"] == ["d:mrn", "t:public.patients"]
        with pytest.raises(ConfigError, match="no root key is wrapped under fake:other"):
            await prepare_kek(registry, "fake:other")
