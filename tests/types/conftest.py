"""One session of the server for all tests of values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.server import PostgresServer
from tests.types.server import Oracle


@pytest.fixture(scope="session")
def oracle(postgres_server: PostgresServer) -> Iterator[Oracle]:
    database = postgres_server.create_database()
    with postgres_server.connect(database) as conn:
        yield Oracle(conn)
    postgres_server.drop_database(database)
