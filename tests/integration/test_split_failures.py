"""An engine for two workers, one that has no room, and a proxy that is killed in the middle of a split: nothing is left of it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from phiproxy.postgres import binaries
from tests.harness.clinic import DDL, POLICY
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until

SORTED = "SELECT id, full_name FROM patients ORDER BY full_name"
SLOW = (
    "SELECT count(*) FROM patients a, patients b, patients c, patients d, patients e, patients f"
    " WHERE a.full_name || b.full_name || c.full_name || d.full_name || e.full_name || f.full_name = 'nobody'"
)
LARGE = "SELECT repeat(a.full_name || b.full_name, 4000) FROM patients a, patients b ORDER BY 1"


@pytest.fixture(scope="module")
def own_directory() -> Iterator[Path]:
    """Where the engines of these tests make their directories."""
    path = Path(tempfile.mkdtemp(prefix="phiproxy-failing-", dir=binaries.roomy_directory(binaries.runner())))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, own_directory: Path) -> Iterator[Site]:
    """A site whose proxy has two workers, and an engine with little room, with thirty patients."""
    limits = "{bytes: 1MiB, sessions: 4, timeout: 300s}"
    settings = f"workers: 2\ncompute: {{engine: embedded, directory: {own_directory}, limits: {limits}}}\n"
    with open_site(postgres_server, tmp_path_factory.mktemp("failing"), policy=POLICY, ddl=DDL, settings=settings) as site:
        with psycopg.connect(site.proxy_dsn) as conn, conn.cursor().copy("COPY patients (full_name) FROM STDIN") as copy:
            for n in range(30):
                copy.write_row((f"Name {n * 7 % 30:02d}",))
        yield site


@pytest.fixture
def two_workers(site: Site) -> Site:
    """The site, served: a test may end its proxy."""
    if not site.proxy.running:
        site.proxy.start()
    return site


def _sorted(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(SORTED).fetchall()


def _until_closed(site: Site) -> None:
    """Wait until the workers of a supervisor that was killed have noticed."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex((site.proxy.host, site.proxy.port)) != 0:
                return
        time.sleep(0.1)


def test_two_workers_share_an_engine(two_workers: Site, own_directory: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(_sorted, [two_workers.proxy_dsn] * 24))
    assert [name for _, name in answers[0]] == [f"Name {n:02d}" for n in range(30)]
    assert all(answer == answers[0] for answer in answers)
    assert len(list(own_directory.glob("*/data"))) == 1
    two_workers.proxy.terminate()
    assert list(own_directory.iterdir()) == []


def test_no_room(two_workers: Site) -> None:
    with psycopg.connect(two_workers.proxy_dsn, autocommit=True) as conn:
        for _ in range(2):
            with pytest.raises(psycopg.errors.OutOfMemory):
                conn.execute(LARGE)
            assert len(conn.execute(SORTED).fetchall()) == 30


def test_the_proxy_is_killed_in_the_middle(two_workers: Site, own_directory: Path) -> None:
    # the statement may fail before its connection does: closed without the COMMIT of a connection's own block
    with contextlib.closing(psycopg.connect(two_workers.proxy_dsn)) as conn:
        conn.execute("UPDATE patients SET city = 'half'")
        timer = threading.Timer(1.0, two_workers.proxy.kill)
        timer.start()
        with pytest.raises(psycopg.OperationalError):
            conn.execute(SLOW)
    with two_workers.server.connect(two_workers.sealed) as direct:
        for _ in range(600):
            others = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
            if direct.execute(others, (two_workers.role,)).fetchone() == (0,):
                break
            time.sleep(0.1)
        assert direct.execute("SELECT count(*) FROM patients WHERE city = 'half'").fetchone() == (0,)
    _until_closed(two_workers)
    two_workers.proxy.start()
    assert len(_sorted(two_workers.proxy_dsn)) == 30
    # What was computed there may have outlived it, and have been in use when the next one started.
    until(lambda: len(list(own_directory.glob("*/data"))) == 1, "the killed proxy's files are left")
