"""From the settings to an engine: off, embedded, or a PostgreSQL of the operator's own, which is left as it was."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from phiproxy.engine.failures import EngineUnavailable
from phiproxy.engine.rest import Rest
from phiproxy.engine.starting import running_engine
from phiproxy.errors import ConfigError
from phiproxy.postgres import binaries, postmaster
from phiproxy.postgres.binaries import Runner
from tests.engine.both import EXTENSIONS, Both, compute

Server = psycopg.Connection[tuple[object, ...]]


class OwnServer:
    """A PostgreSQL as an operator would run one for the proxy."""

    def __init__(self, who: Runner, directory: Path, major: int, settings: dict[str, str]) -> None:
        self.directory = directory
        bindir = binaries.find(who, directory, major=major)
        data, password = directory / "data", directory / "password"
        password.write_text("operator's secret\n")
        who.own(password)
        made = postmaster.initdb(
            who, bindir, data, "-U", "phiproxy_engine", "-A", "scram-sha-256", f"--pwfile={password}", "--no-locale", "-E", "UTF8"
        )
        assert made.returncode == 0, made.stderr
        given = {"listen_addresses": "", "unix_socket_directories": str(directory), "log_statement": "all", **settings}
        postmaster.write_settings(data, given)
        self.log = directory / "log"
        with self.log.open("wb") as output:
            self.process = postmaster.launch(who, bindir, data, output=output)
        assert postmaster.wait_ready(self.process, data)

    def settings(self, **changed: Any) -> Any:
        return compute(engine=f"unix:{self.directory}/.s.PGSQL.5432", password=f"file:{self.directory}/password", **changed)

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        dsn = f"host={self.directory} user=phiproxy_engine dbname=postgres password='operator''s secret'".replace("''", "\\'")
        with psycopg.connect(dsn, autocommit=True) as conn:
            cursor = conn.execute(query.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def directory() -> Iterator[Path]:
    who = binaries.runner()
    path = Path(tempfile.mkdtemp(prefix="phiproxy-own-", dir=binaries.roomy_directory(who)))
    who.own(path)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def own(directory: Path, server_major: int, request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    own = OwnServer(binaries.runner(), directory, server_major, getattr(request, "param", {}))
    yield own
    postmaster.stop(own.process)


async def test_off_is_no_engine() -> None:
    async with running_engine(compute(engine="off", extensions=[])) as access:
        assert access is None


async def test_one_of_the_operator_s_own(own: OwnServer, server: Server) -> None:
    """It logs every statement: those of the role's are not among them, and in the end no database of the proxy's is left."""
    async with running_engine(own.settings()) as access:
        assert access is not None
        assert "secret" not in repr(access)
        async with Both.over(access, server, own.settings()) as both:
            assert both.database.created.name in str(own.asked("SELECT datname FROM pg_database"))
            for repeated in (1, 8):
                whole = both.whole(f"SELECT max(last_name), 'PHI-planted' FROM patients, generate_series(1, {repeated})")
                rest = "SELECT max(n), 'PHI-planted' FROM {} AS p (n)"
                assert await both.split("SELECT last_name FROM patients", rest, repeated=repeated) == whole
            with pytest.raises(psycopg.errors.DivisionByZero):
                await both.run(Rest((b"SELECT 'PHI-planted', 1/0",)), [])
    assert "phiproxy_" not in str(own.asked("SELECT datname FROM pg_database"))
    assert "CREATE DATABASE" in own.log.read_text()
    assert "planted" not in own.log.read_text()


async def test_what_a_killed_proxy_has_left_there_is_dropped(own: OwnServer, server: Server) -> None:
    async with running_engine(own.settings()) as access:
        assert access is not None
        async with Both.over(access, server, own.settings()) as both:
            name = both.database.created.name
            async with running_engine(own.settings()) as other:  # as if the first were gone
                assert other is not None
                assert name not in str(own.asked("SELECT datname FROM pg_database"))


@pytest.mark.parametrize("own", [{"listen_addresses": "127.0.0.1", "port": "5432"}], indirect=True)
async def test_one_that_listens_on_the_network_is_refused(own: OwnServer) -> None:
    with pytest.raises(ConfigError, match="listens on a network address"):
        async with running_engine(own.settings()):
            pass


@pytest.mark.parametrize("own", [{"shared_preload_libraries": "auto_explain"}], indirect=True)
async def test_one_that_keeps_statements_is_refused(own: OwnServer) -> None:
    with pytest.raises(ConfigError, match="loads auto_explain"):
        async with running_engine(own.settings()):
            pass


async def test_a_login_that_is_no_superuser_is_refused(own: OwnServer) -> None:
    own.asked("CREATE ROLE lowly LOGIN PASSWORD 'operator''s secret'")
    with pytest.raises(ConfigError, match="lowly is no superuser"):
        async with running_engine(own.settings(user="lowly")):
            pass


async def test_one_that_is_not_there(directory: Path) -> None:
    settings = compute(engine=f"unix:{directory}/.s.PGSQL.5432", extensions=list(EXTENSIONS))
    with pytest.raises(EngineUnavailable):
        async with running_engine(settings):
            pass
