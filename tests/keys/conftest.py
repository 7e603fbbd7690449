"""A fresh database for each test of keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.server import PostgresServer
from tests.keys.fakes import TABLES, Clock, FakeProvider, Site


@pytest.fixture
def site(postgres_server: PostgresServer) -> Iterator[Site]:
    """One database with two empty tables and no registry."""
    name = postgres_server.create_database()
    found = Site(postgres_server, name, FakeProvider())
    found.run(TABLES)
    yield found
    postgres_server.drop_database(name)


@pytest.fixture
def clock() -> Clock:
    """Seconds that stand still until told."""
    return Clock()
