"""The oracle's negative: a leaking value IS found, in each place and each spelling; it cannot pass vacuously."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.harness.oracle import SHAPES, LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.tap import Tap


@pytest.fixture
def dbname(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create_database()
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def oracle(postgres_server: PostgresServer, dbname: str) -> LeakOracle:
    return LeakOracle(postgres_server, dbname)


def test_finds_nothing_where_nothing_is(oracle: LeakOracle) -> None:
    for shape in SHAPES:
        oracle.plant(shape)
    oracle.assert_no_leak()


def test_nothing_planted_is_a_failure(oracle: LeakOracle) -> None:
    with pytest.raises(AssertionError, match="nothing was planted"):
        oracle.assert_no_leak()


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("schema", ["public", "phiproxy"])
def test_finds_a_stored_value_and_does_not_tell_it(oracle: LeakOracle, shape: str, schema: str) -> None:
    value = oracle.plant(shape)
    with oracle.server.connect(oracle.dbname) as conn:
        conn.execute("SET log_statement = 'none'")
        conn.execute("SET log_parameter_max_length = 0")
        conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        target = sql.Identifier(schema, "kept")
        conn.execute(sql.SQL("CREATE TABLE {} (v text)").format(target))
        conn.execute(sql.SQL("INSERT INTO {} VALUES (%s)").format(target), (value,))
    with pytest.raises(AssertionError, match=f"table {schema}.kept") as caught:
        oracle.assert_no_leak()
    assert value not in str(caught.value)
    assert oracle.leaks() == [f"table {schema}.kept"]


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_finds_every_spelling(oracle: LeakOracle, shape: str) -> None:
    value = oracle.plant(shape)
    raw = value.encode()
    for before in (b"", b"a", b"ab"):
        assert oracle.contains(b"some " + base64.b64encode(before + raw + b"tail") + b" text")
        assert oracle.contains(b"some " + base64.b64encode(before + raw))
    hexes = (raw.hex().encode(), raw.hex().upper().encode())
    for haystack in (raw, *hexes, value.upper().encode(), value.lower().encode()):
        assert oracle.contains(b"some " + haystack + b" text")
    for encoding in ("utf-16-le", "utf-16-be", "utf-16"):
        assert oracle.contains(b"x" + value.encode(encoding))
    assert not oracle.contains(b"PHI-" + b"0" * 30)


@pytest.mark.parametrize("kept", ["convert_to({}, 'UTF8')", "{}::text", "ARRAY[{}::text]", "to_jsonb({}::text)"])
def test_finds_a_value_in_whatever_type_it_is_kept(oracle: LeakOracle, kept: str) -> None:
    """A text in a row has its quotes and backslashes twice."""
    value = f'{oracle.plant()} "is" a\\b'
    oracle.planted = [value]
    with oracle.server.connect(oracle.dbname) as conn:
        conn.execute("SET log_statement = 'none'")
        conn.execute(sql.SQL("CREATE TABLE kept AS SELECT {} AS v").format(sql.SQL(kept).format(sql.Literal(value))))
    assert "table public.kept" in oracle.leaks()


@pytest.mark.parametrize("how", ["literal", "parameter"])
def test_finds_a_value_in_the_server_log(oracle: LeakOracle, how: str) -> None:
    if oracle.server.log_path is None:
        pytest.skip("a foreign server's log cannot be read")
    value = oracle.plant()
    with oracle.server.connect(oracle.dbname) as conn:
        if how == "literal":
            conn.execute(sql.SQL("SELECT {}").format(sql.Literal(value)))
        else:
            conn.execute("SELECT %s::text", (value,))
        conn.execute("SELECT 1")
    assert oracle.leaks() == ["the server log"]


def test_finds_a_value_in_the_proxy_log(oracle: LeakOracle, tmp_path: Path) -> None:
    log = tmp_path / "proxy.log"
    log.write_text(f"debug: bound {oracle.plant('ssn')}\n")
    oracle.proxy_logs = lambda: [log]
    assert oracle.leaks() == ["the proxy log proxy.log"]


def test_what_a_proxy_has_logged_before_is_not_read_again_unless_it_began_anew(oracle: LeakOracle, tmp_path: Path) -> None:
    log = tmp_path / "proxy.log"
    log.write_text("of earlier tests\n" * 9)
    ours = LeakOracle(oracle.server, oracle.dbname, proxy_logs=lambda: [log], of_many=True)
    with log.open("a") as more:
        more.write("of this one\n")
    assert dict(ours.places())["the proxy log proxy.log"] == b"of this one\n"
    whole = LeakOracle(oracle.server, oracle.dbname, proxy_logs=lambda: [log])
    assert dict(whole.places())["the proxy log proxy.log"] == log.read_bytes()
    log.write_text(f"debug: bound {ours.plant()}\n")
    assert ours.leaks() == ["the proxy log proxy.log"]


def test_finds_a_value_sent_upstream(oracle: LeakOracle) -> None:
    server = oracle.server
    with Tap(server.host, server.port) as tap:
        oracle.tap = tap
        dsn = server.dsn(oracle.dbname).replace(f":{server.port}/", f":{tap.port}/")
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("SET log_statement = 'none'")
            conn.execute("SET log_parameter_max_length = 0")
            conn.execute("SELECT %b::text", (oracle.plant(),))
        places = oracle.leaks()
    assert len(places) == 1
    assert places[0].startswith("the bytes sent upstream")


def test_finds_a_value_in_a_session_of_the_server(oracle: LeakOracle) -> None:
    value = oracle.plant()
    with oracle.server.connect(oracle.dbname) as conn:
        conn.execute("SET log_statement = 'none'")
        conn.execute(sql.SQL("SELECT {}").format(sql.Literal(value)))
        assert oracle.leaks() == ["pg_stat_activity"]
