"""The database that PostgreSQL's own programs meet: once without a policy, once with one on another table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.tools import Ground, ground
from tests.harness.server import PostgresServer


@pytest.fixture(scope="session", params=[False, True], ids=["no policy", "policy"])
def database(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[Ground]:
    """A database for all tests, each of which makes anew what it needs there, and both ways to it."""
    with ground(postgres_server, policy=request.param) as made:
        yield made
