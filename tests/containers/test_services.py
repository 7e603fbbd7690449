"""What does not take an engine to be shown: the services are used as these fixtures use them, and without one tests are skipped.

Instead of containers the stand-ins of the other tests run. They are told what a container would be told.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.containers import services
from tests.containers.services import LOCALSTACK, OPENBAO, VAULT, MakeContainer, Running
from tests.harness.server import PostgresServer, running_server
from tests.keys.providers import parts
from tests.keys.providers.contract import Contract, TurnOver
from tests.keys.providers.parts import Part
from tests.keys.providers.vault_server import Token, VaultServer


class At:
    """What has been started, at a port of this machine."""

    def __init__(self, port: int, inside: int) -> None:
        self._port = port
        self._inside = inside

    def get_container_host_ip(self) -> str:
        return "127.0.0.1"

    def get_exposed_port(self, port: int) -> int:
        assert port == self._inside
        return self._port


@contextmanager
def vault_instead(image: str, *, ports: list[int], env: dict[str, str]) -> Iterator[Running]:
    service = {each.image: each for each in (VAULT, OPENBAO)}[image]
    assert env.items() > service.environment.items()
    server = VaultServer()
    server.tokens = {env[service.token]: Token()}
    server.start()
    yield At(int(server.address.rpartition(":")[2]), *ports)
    server.stop()


@contextmanager
def kms_instead(image: str, *, ports: list[int], env: dict[str, str]) -> Iterator[Running]:
    assert (image, env) == (LOCALSTACK.image, {"SERVICES": "kms"})
    with parts.kms() as (endpoint, _):
        yield At(int(endpoint.rpartition(":")[2]), *ports)


@pytest.fixture(scope="module")
def kms() -> Iterator[tuple[str, Any]]:
    with parts.aws_credentials(), services.running_kms(kms_instead) as started:
        yield started


@pytest.fixture(params=["vault", "openbao", "localstack"])
def part(request: pytest.FixtureRequest) -> Iterator[Part]:
    if request.param == "localstack":
        yield parts.kms_part(*request.getfixturevalue("kms"))
        return
    with services.running_vault(VAULT if request.param == "vault" else OPENBAO, vault_instead) as started:
        yield parts.vault_part(*started)


class TestContract(Contract):
    """Of stand-ins."""


class TestTurnOver(TurnOver):
    """Of stand-ins."""


@pytest.fixture(scope="module")
def here() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


def test_a_postgresql_is_waited_for_and_used_as_its_superuser(here: PostgresServer) -> None:
    told: list[object] = []

    @contextmanager
    def instead(image: str, *, ports: list[int], env: dict[str, str]) -> Iterator[Running]:
        told.extend((image, ports, env))
        yield At(here.port, *ports)

    make: MakeContainer = instead
    with here.connect() as conn:
        version = conn.info.server_version // 10_000
    with services.running_postgres(version, make, user=here.superuser, password=here.password) as server:
        server.drop_database(server.create_database())
    assert told == [f"postgres:{version}", [5432], {"POSTGRES_USER": here.superuser, "POSTGRES_PASSWORD": here.password}]
    assert version in services.POSTGRES_VERSIONS


def test_without_an_engine_all_is_skipped_and_says_why() -> None:
    paths = [str(Path(__file__).with_name(file)) for file in ("test_keys.py", "test_fixtures.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:randomly", "-p", "no:cacheprovider", *paths]
    environment = {**os.environ, "DOCKER_HOST": "tcp://127.0.0.1:1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("34 skipped in "), done.stdout[-2000:]
    assert "no Docker engine answers: " in done.stdout
