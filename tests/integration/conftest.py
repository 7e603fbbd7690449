"""The clinic with an engine for split statements, whose directory is on disk, so that it can be searched.

And the twins of tests/fixtures/live.py, without an engine and with one: once for all modules whose tests leave nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from phiproxy.postgres import binaries
from tests.fixtures.live import Twins, extended_site, watched_twins
from tests.harness.clinic import DDL, POLICY, Clinic, watched_clinic
from tests.harness.differential import Differential
from tests.harness.oracle import files_of
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site


@pytest.fixture(scope="session")
def engine_directory() -> Iterator[Path]:
    """Where engines make their directories: on disk, and reachable by the user that runs PostgreSQL."""
    path = Path(tempfile.mkdtemp(prefix="phiproxy-split-", dir=binaries.roomy_directory(binaries.runner())))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def split_site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, engine_directory: Path) -> Iterator[Site]:
    """The clinic's two databases and its proxy with an engine, once for the whole run."""
    settings = f"compute: {{engine: embedded, directory: {engine_directory}, limits: {{rows: 500, sessions: 4, timeout: 300s}}}}\n"
    with open_site(postgres_server, tmp_path_factory.mktemp("split"), policy=POLICY, ddl=DDL, settings=settings) as site:
        yield site


@pytest.fixture
def split_clinic(split_site: Site, engine_directory: Path) -> Iterator[Clinic]:
    """The clinic, empty; after the test the leak oracle searches everywhere, the engine's files too."""
    with watched_clinic(split_site, files=lambda: files_of(engine_directory), of_many=True) as clinic:
        yield clinic


@pytest.fixture
def both(split_clinic: Clinic) -> Iterator[Differential]:
    """One statement, both ways, on the seeded clinic with an engine."""
    split_clinic.seed()
    with Differential(split_clinic) as both:
        yield both


@pytest.fixture
def pair(split_clinic: Clinic) -> Iterator[tuple[psycopg.Connection[tuple[object, ...]], psycopg.Connection[tuple[object, ...]]]]:
    """A session with the plaintext twin, and one through the proxy."""
    split_clinic.seed()
    with (
        psycopg.connect(split_clinic.plain_dsn, autocommit=True) as plain,
        psycopg.connect(split_clinic.proxy_dsn, autocommit=True) as proxied,
    ):
        yield plain, proxied


@pytest.fixture(scope="session")
def all_twins(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """The extended clinic, seeded once for the whole run; the leak oracle at the end."""
    with extended_site(postgres_server, tmp_path_factory.mktemp("twins")) as site, watched_twins(site, of_many=True) as found:
        yield found


@pytest.fixture(scope="session")
def all_split_twins(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """The same with an engine."""
    settings = "compute: {engine: embedded, limits: {sessions: 4}}\n"
    with (
        extended_site(postgres_server, tmp_path_factory.mktemp("split_twins"), settings=settings) as site,
        watched_twins(site, of_many=True) as found,
    ):
        yield found


@pytest.fixture
def kept_twins(all_twins: Twins) -> Iterator[Twins]:
    """Both twins for a test that rolls back what it does."""
    with all_twins.for_a_test():
        yield all_twins


@pytest.fixture
def kept_split_twins(all_split_twins: Twins) -> Iterator[Twins]:
    """The same with an engine."""
    with all_split_twins.for_a_test():
        yield all_split_twins


@pytest.fixture
def kept_both(kept_split_twins: Twins) -> Iterator[Differential]:
    """``both`` for a test that rolls back what it does, or does nothing: the clinic is not filled anew for it."""
    yield kept_split_twins.both
    kept_split_twins.discard()
