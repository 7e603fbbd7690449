"""A site whose tables a test may change, and its database as the proxy serves it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from phiproxy.database_keys import provider_of
from phiproxy.served_database import ServedDatabase
from phiproxy.sql.policy_files import load_policies
from tests.harness.server import PostgresServer
from tests.harness.site import Site, grant_service
from tests.net.serving import site_settings, wire_site


@contextmanager
def changeable_site(server: PostgresServer, directory: Path) -> Iterator[Site]:
    """Give a site of the test's own, with the service's password in the environment."""
    with wire_site(server, directory) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


@contextmanager
def copied_site(mould: Site, directory: Path) -> Iterator[Site]:
    """Give a copy of a site whose database nobody is in, likewise: to make one takes the commands and the server longer."""
    server, sealed = mould.server, f"sealed_{secrets.token_hex(4)}"
    server.create_database(sealed, template=mould.sealed)
    grant_service(server, sealed, mould.service, mould.role)  # what is of the database itself is not copied
    shutil.copytree(mould.directory, directory, dirs_exist_ok=True)
    for name in ("phiproxy.yaml", "policy.yaml"):
        (directory / name).write_text((directory / name).read_text().replace(mould.sealed, sealed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", mould.env["PHIPROXY_SERVICE_PASSWORD"])
        try:
            yield replace(mould, sealed=sealed, directory=directory)
        finally:
            server.drop_database(sealed)


@asynccontextmanager
async def served(site: Site) -> AsyncIterator[ServedDatabase]:
    """Open the site's database as a proxy does."""
    settings = site_settings(site)
    (policy,) = load_policies(settings)
    database = await ServedDatabase.open(settings, policy, await provider_of(settings))
    try:
        yield database
    finally:
        await database.close()


def owner(site: Site, statement: str) -> None:
    """Change the sealed database behind the proxy's back."""
    with psycopg.connect(site.server.dsn(site.sealed), autocommit=True) as conn:
        conn.execute(statement.encode())
