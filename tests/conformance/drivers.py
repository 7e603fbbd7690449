"""The drivers' own suites: how each is made ready, and what of it is left out and why."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg

from phiproxy.demo.postgres import EmbeddedPostgres
from phiproxy.postgres import binaries
from tests.conformance.front import Behind, in_front_of
from tests.conformance.outcomes import Suite
from tests.conformance.plugins.outcomes import PASSED_OVER
from tests.conformance.programs import programs
from tests.conformance.sdists import sdist, unpack
from tests.harness.proxy import ROOT

Way = Literal["direct", "no policy", "policy"]
Driver = Literal["asyncpg", "sqlalchemy-psycopg", "sqlalchemy-asyncpg", "psycopg2"]

# No server is asked in these, so there is nothing to compare.
ASYNCPG_WITHOUT_SERVER = (
    "test__sourcecode.py",
    "test__environment.py",
    "test_record.py",
    "test_scram.py",
    "test_subinterpreters.py",
    "test_test.py",
    "test_types.py",
)
# The client's TLS ends at the proxy, which has certificates and limits of its own.
ASYNCPG_TLS_OF_THE_SERVER = (
    # pg_hba.conf's hostssl and hostnossl see the proxy's own leg, which is TLS or not by its configuration
    "TestSSLConnection::test_ssl_connection_sslmode",
    "TestSSLConnection::test_sslmode_preserves_password_error",
    "TestNoSSLConnection::test_nossl_connection_sslmode",
    "TestNoSSLConnection::test_nossl_connection_prefer_cancel",
    "TestNoSSLConnection::test_nossl_connection_pool",
    # the server was told to speak TLS 1.2 at most; the proxy has no upper limit
    "TestSSLConnection::test_ssl_handshake_failure_cause",
    "TestSSLConnection::test_tls_version",
    "TestNoSSLConnection::test_nossl_handshake_fallback",
    # the server asks the client for its certificate (pg_hba.conf's cert), whose key the proxy does not have
    "TestClientSSLConnection::test_ssl_connection_client_auth_custom_context",
    "TestClientSSLConnection::test_ssl_connection_client_auth_dot_postgresql",
    "TestClientSSLConnection::test_ssl_connection_client_auth_dsn",
    "TestClientSSLConnection::test_ssl_connection_client_auth_env",
)
# It tells how much the proxy takes from a client that writes on and on, which is no matter of luck: failing once is failing.
STEADY = ("test_executemany_server_failure_during_writes",)
ASYNCPG_OWN_SERVERS = (
    "SSLConnection",
    "TestHotStandby",
    "TestConnectionAttributes",
    "TestCodecsLargeOIDs",
    "TestPoolReconnectWithTargetSessionAttrs",
)
SQLALCHEMY_TESTS = (
    "test_suite.py",
    *(f"postgresql/test_{name}.py" for name in ("async_pg", "dialect", "on_conflict", "query", "reflection", "types")),
)
# What every dialect of every database has, and what it asks of the catalogue: once, with psycopg, is enough.
SQLALCHEMY_COMMON = ("test_suite.py", "postgresql/test_reflection.py")
# 7 400 combinations of operators on the six range types, and hundreds on each multirange type: those of Int4MultiRange are of the
# same shapes. Values of JSONB are JSON's over again. 1 000 more differ in values, or in what is asked of a reflected table.
SQLALCHEMY_REPETITIONS = (
    *("NumRange", "Int4Range", "Int8Range", "DateRange", "DateTimeRange", "DateTimeTZR"),
    *("NumMultiRange", "Int8MultiRange", "DateMultiRange", "DateTimeMultiRange", "DateTimeTZMultiRange"),
    *("JSONBSuiteTest", "JSONTest", "ComponentReflectionTest_"),
)


@dataclass(frozen=True)
class Workshop:
    """Where suites are unpacked and run: ``cache`` is kept from run to run, ``directory`` is this run's."""

    cache: Path
    directory: Path

    def room(self, *names: str) -> Path:
        """Return a fresh directory."""
        path = self.directory.joinpath(*(n.replace(" ", "-") for n in names))
        path.mkdir(parents=True)
        return path


@contextmanager
def asyncpg_suite(shop: Workshop, way: Way) -> Iterator[Suite]:
    """asyncpg's: it starts clusters by itself, with and without TLS, with a standby; each gets a proxy."""
    room, who = shop.room("asyncpg", way), binaries.runner()
    with ExitStack() as cleanup:
        public = cleanup.enter_context(_public_directory(who))
        bindir = programs(binaries.find(who, public), who, room / "bin")
        source = unpack(sdist("asyncpg", shop.cache), public, ["tests"])  # its servers read certificates there
        environment = {
            "PGINSTALLATION": str(bindir),
            "TMPDIR": str(public),
            "CONFORMANCE_WAY": way,
            "CONFORMANCE_ROOT": str(ROOT),
        }
        left_out = [f"--ignore=tests/{name}" for name in ASYNCPG_WITHOUT_SERVER]
        left_out += [f"--deselect=tests/test_connect.py::{name}" for name in ASYNCPG_TLS_OF_THE_SERVER]
        if way == "policy":  # a policy is of a database, and these have servers of their own
            left_out += ["-k", " and ".join(f"not {name}" for name in ASYNCPG_OWN_SERVERS)]
        yield Suite(source, ["-p", "clusters", "--capture=fd", *left_out, "tests"], environment)


@contextmanager
def _public_directory(who: binaries.Runner) -> Iterator[Path]:
    """Yield a temporary directory, short enough for a socket's path, that PostgreSQL may use."""
    with tempfile.TemporaryDirectory(prefix="phi-", dir=binaries.roomy_directory(who)) as name:
        path = Path(name)
        who.own(path)
        yield path


@contextmanager
def sqlalchemy_suite(shop: Workshop, way: Way, driver: str) -> Iterator[Suite]:
    """SQLAlchemy's dialect suite and its tests of the PostgreSQL dialect, on a server of their own."""
    room = shop.room("sqlalchemy", driver, way)
    source = unpack(sdist("sqlalchemy", shop.cache), room, ["test", "lib"])
    with ExitStack() as cleanup:
        server = EmbeddedPostgres(settings={"max_prepared_transactions": "10"})
        server.password = secrets.token_hex(12)  # a test puts it into a URL and then replaces each H and P there
        cleanup.enter_context(server)
        port, database = server.port, "test"
        _prepare_for_sqlalchemy(server, database)
        if way != "direct":
            behind = Behind(server.host, port, server.superuser, server.password, policy_for=database if way == "policy" else "")
            port = cleanup.enter_context(in_front_of(behind)).port
        url = f"postgresql+{driver}://{server.superuser}:{server.password}@{server.host}:{port}/{database}"
        arguments = ["-o", "addopts=", "-p", "no:warnings", "-p", "no:logging", "--dburi", url, "--backend-only"]
        arguments += ["-k", " and ".join(f"not {name}" for name in SQLALCHEMY_REPETITIONS)]
        files = [name for name in SQLALCHEMY_TESTS if driver == "psycopg" or name not in SQLALCHEMY_COMMON]
        passed_over = {PASSED_OVER: json.dumps(SQLALCHEMY_REPETITIONS)}
        yield Suite(source, [*arguments, *(f"test/dialect/{name}" for name in files)], passed_over)


def _prepare_for_sqlalchemy(server: EmbeddedPostgres, database: str) -> None:
    """Do what README.unittests.rst asks for."""
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {database} TEMPLATE template0")
    with psycopg.connect(server.dsn(database), autocommit=True) as conn:
        conn.execute("CREATE SCHEMA test_schema")
        conn.execute("CREATE SCHEMA test_schema_2")
        for extension in ("hstore", "citext"):
            conn.execute(f"CREATE EXTENSION {extension}")


@contextmanager
def psycopg2_suite(shop: Workshop, way: Way) -> Iterator[Suite]:
    """psycopg2's, on a server of its own."""
    room = shop.room("psycopg2", way)
    source = unpack(sdist("psycopg2-binary", shop.cache), room, ["tests"])
    with ExitStack() as cleanup:
        server = cleanup.enter_context(EmbeddedPostgres(settings={"max_prepared_transactions": "10"}))
        port, database = server.port, "psycopg2_test"
        with psycopg.connect(server.dsn(), autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {database} TEMPLATE template0")
        with psycopg.connect(server.dsn(database), autocommit=True) as conn:
            conn.execute("CREATE EXTENSION hstore")
        if way != "direct":
            behind = Behind(server.host, port, server.superuser, server.password, policy_for=database if way == "policy" else "")
            port = cleanup.enter_context(in_front_of(behind)).port
        where = {"": database, "_HOST": server.host, "_PORT": str(port), "_USER": server.superuser, "_PASSWORD": server.password}
        yield Suite(source, ["-p", "no:warnings", "tests"], {f"PSYCOPG2_TESTDB{name}": value for name, value in where.items()})


@contextmanager
def suite(shop: Workshop, driver: Driver, way: Way) -> Iterator[Suite]:
    """Make a driver's suite ready, to be run this way."""
    if driver == "asyncpg":
        with asyncpg_suite(shop, way) as ready:
            yield ready
    elif driver == "psycopg2":
        with psycopg2_suite(shop, way) as ready:
            yield ready
    else:
        with sqlalchemy_suite(shop, way, driver.removeprefix("sqlalchemy-")) as ready:
            yield ready
