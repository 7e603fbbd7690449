"""What is read of a database at one moment fits its policy, or is refused; all of its relations where they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from phiproxy.database_keys import keks_of, provider_of
from phiproxy.database_snapshot import read_layout, read_snapshot
from phiproxy.errors import CatalogNeeded, ConfigError
from phiproxy.keys.open_registry import serving, trusted
from phiproxy.net.service_login import connect_service
from phiproxy.sql.policy_files import load_policies
from tests.harness.server import PostgresServer
from tests.net.serving import site_settings
from tests.served import changeable_site, owner


async def test_a_snapshot_is_of_the_policys_tables_or_of_all_and_refused_where_one_does_not_fit(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with changeable_site(postgres_server, tmp_path) as site:
        settings = site_settings(site)
        (policy,) = load_policies(settings)
        owner(site, "CREATE TABLE elsewhere (id int)")
        kek = await keks_of(settings, policy, await provider_of(settings))
        async with await connect_service(settings, policy.database) as conn:
            trust = serving(await trusted(conn, settings, policy, kek), settings, policy, print, print)
            layout = await read_layout(conn, trust)
            some = await read_snapshot(conn, settings, policy, layout)
            whole = await read_snapshot(conn, settings, policy, layout, whole=True)
            assert some.layout is whole.layout is layout
            assert some.protection.by_name.keys() == whole.protection.by_name.keys()
            with pytest.raises(CatalogNeeded):
                some.catalog.find("public", "elsewhere")
            assert whole.catalog.find("public", "elsewhere") is not None
            owner(site, "ALTER TABLE notes RENAME TO notes_of_then")
            with pytest.raises(ConfigError):
                await read_snapshot(conn, settings, policy, layout)
        await kek.close()
