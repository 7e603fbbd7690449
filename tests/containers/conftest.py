"""Containers are started once; where no Docker engine answers, what needs one is skipped and says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.containers import services
from tests.harness.server import PostgresServer
from tests.keys.providers import parts
from tests.keys.providers.parts import Part


@pytest.fixture(scope="session")
def engine() -> None:
    """Docker, or whatever speaks its API."""
    services.skip_without_engine()


@pytest.fixture(scope="session")
def vault(engine: None) -> Iterator[tuple[str, str]]:
    with services.running_vault(services.VAULT) as started:
        yield started


@pytest.fixture(scope="session")
def openbao(engine: None) -> Iterator[tuple[str, str]]:
    with services.running_vault(services.OPENBAO) as started:
        yield started


@pytest.fixture(scope="session")
def localstack(engine: None) -> Iterator[tuple[str, Any]]:
    with parts.aws_credentials(), services.running_kms() as started:
        yield started


@pytest.fixture(params=["vault", "openbao", "localstack"])
def part(request: pytest.FixtureRequest) -> Part:
    """A fresh KEK in each of the three."""
    started = request.getfixturevalue(request.param)
    return parts.kms_part(*started) if request.param == "localstack" else parts.vault_part(*started)


@pytest.fixture(scope="session", params=services.POSTGRES_VERSIONS)
def postgres_server(request: pytest.FixtureRequest, engine: None) -> Iterator[PostgresServer]:
    """One server of each version that is supported, instead of the one of all other tests."""
    with services.running_postgres(request.param) as server:
        yield server
