"""Vault, OpenBao, LocalStack and PostgreSQL in containers, as what the other tests take: an address, a client, a server."""

from __future__ import annotations

import gc
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import boto3
import hvac
import psycopg
import pytest
from tenacity import retry, stop_after_delay, wait_fixed
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient

from tests.harness.server import PostgresServer

POSTGRES_VERSIONS = (14, 15, 16, 17, 18)
# Until what has been started answers, in seconds: it says by itself when it does.
_patiently = retry(stop=stop_after_delay(120), wait=wait_fixed(0.2), reraise=True)


class Running(Protocol):
    """What is asked of a container that runs."""

    def get_container_host_ip(self) -> str: ...

    def get_exposed_port(self, port: int) -> int: ...


class MakeContainer(Protocol):
    """Makes a container that runs while it is entered: ``DockerContainer``, or what stands in for it."""

    def __call__(self, image: str, *, ports: list[int], env: dict[str, str]) -> AbstractContextManager[Running]: ...


@dataclass(frozen=True)
class Service:
    """An image, the port that it serves at, and where it is told its root token, if it has one."""

    image: str
    port: int
    environment: Mapping[str, str]
    token: str = ""


VAULT = Service("hashicorp/vault:1.20", 8200, {"VAULT_DEV_LISTEN_ADDRESS": "0.0.0.0:8200"}, "VAULT_DEV_ROOT_TOKEN_ID")
OPENBAO = Service("openbao/openbao:2.4.1", 8200, {"BAO_DEV_LISTEN_ADDRESS": "0.0.0.0:8200"}, "BAO_DEV_ROOT_TOKEN_ID")
LOCALSTACK = Service("localstack/localstack:4.9", 4566, {"SERVICES": "kms"})


def skip_without_engine() -> None:
    """Skip a test, or all of a file that is being imported, where no Docker engine answers."""
    if (reason := _no_engine()) is not None:
        pytest.skip(f"no Docker engine answers: {reason}", allow_module_level=True)


@cache
def _no_engine() -> str | None:
    try:
        DockerClient(timeout=5).client.ping()
    except Exception as error:
        reason = " ".join(str(error).split())
    else:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its socket open when it fails
        gc.collect()
    return reason


@contextmanager
def running(service: Service, make: MakeContainer, **environment: str) -> Iterator[tuple[str, int]]:
    """Yield host and port of a service while its container runs."""
    with make(service.image, ports=[service.port], env={**service.environment, **environment}) as container:
        yield container.get_container_host_ip(), int(container.get_exposed_port(service.port))


@contextmanager
def running_vault(service: Service, make: MakeContainer = DockerContainer) -> Iterator[tuple[str, str]]:
    """Yield address and root token of a Vault, or an OpenBao, with a transit engine."""
    token = secrets.token_hex(16)
    with running(service, make, **{service.token: token}) as (host, port):
        address = f"http://{host}:{port}"
        _patiently(hvac.Client(address, token).sys.enable_secrets_engine)("transit")
        yield address, token


@contextmanager
def running_kms(make: MakeContainer = DockerContainer) -> Iterator[tuple[str, Any]]:
    """Yield endpoint and client of LocalStack's KMS."""
    with running(LOCALSTACK, make) as (host, port):
        endpoint = f"http://{host}:{port}"
        client = boto3.client("kms", region_name="eu-central-1", endpoint_url=endpoint)
        _patiently(client.list_keys)()
        yield endpoint, client
        client.close()


@contextmanager
def running_postgres(
    version: int, make: MakeContainer = DockerContainer, *, user: str = "postgres", password: str | None = None
) -> Iterator[PostgresServer]:
    """Yield a PostgreSQL of this major version; ``user`` is its superuser."""
    password = password or secrets.token_hex(16)
    service = Service(f"postgres:{version}", 5432, {"POSTGRES_USER": user, "POSTGRES_PASSWORD": password})
    with running(service, make) as (host, port):
        server = PostgresServer(host, port, user, password)
        connect: Callable[[], psycopg.Connection[tuple[object, ...]]] = _patiently(server.connect)
        with connect() as conn:
            assert conn.info.server_version // 10_000 == version
        yield server
