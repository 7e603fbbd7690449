"""A database of its own for each test, and a connection to it."""

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from tests.harness.server import PostgresServer


@pytest.fixture
async def conn(postgres_server: PostgresServer) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Superuser, autocommit, in an empty database."""
    name = postgres_server.create_database()
    try:
        async with await psycopg.AsyncConnection.connect(postgres_server.dsn(name), autocommit=True) as connection:
            yield connection
    finally:
        postgres_server.drop_database(name)
