"""Fixtures of all tests; what they are made of lies in tests/harness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.server import PostgresServer, running_server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole run, logging everything it can; PHIPROXY_TEST_DSN names another."""
    with running_server() as server:
        yield server
