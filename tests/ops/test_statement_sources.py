"""Statements out of a server's log in its three formats, and out of pg_stat_statements."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import EmbeddedPostgres
from phiproxy.errors import ConfigError
from phiproxy.ops.statement_sources import logged, statements_of
from tests.harness.server import PostgresServer

SENT = ["SELECT 1", "SELECT a\nFROM t\nWHERE b = $1", "SELECT 'x: y'", "COMMIT"]
TEXT = """\
2026-11-27 12:00:00.123 UTC [7] app@clinic LOG:  statement: SELECT 1
2026-11-27 12:00:00.124 UTC [7] app@clinic LOG:  duration: 0.100 ms  parse s1: SELECT a
\tFROM t
2026-11-27 12:00:00.125 UTC [7] app@clinic LOG:  duration: 0.100 ms  execute s1: SELECT a
\tFROM t
\tWHERE b = $1
2026-11-27 12:00:00.125 UTC [7] app@clinic DETAIL:  Parameters: $1 = 'LOG:  statement: SELECT secret'
2026-11-27 12:00:00.125 UTC [7] app@clinic LOG:  execute fetch from s1/p: SELECT a FROM t
2026-11-27 12:00:00.125 UTC [7] app@clinic LOG:  00000: execute <unnamed>: SELECT 'x: y'
2026-11-27 12:00:00.125 UTC [7] app@clinic LOCATION:  exec_execute_message, postgres.c:2092
2026-11-27 12:00:00.126 UTC [7] app@clinic ERROR:  column "nam" does not exist at character 8
2026-11-27 12:00:00.126 UTC [7] app@clinic STATEMENT:  SELECT nam FROM t
2026-11-27 12:00:00.127 UTC [7] LOG:  checkpoint starting: time
2026-11-27 12:00:00.128 UTC [7] LOG:  statement: COMMIT
"""


def test_text() -> None:
    assert list(logged(TEXT.splitlines(keepends=True), "clinic")) == SENT


def test_json() -> None:
    entries = [{"dbname": "clinic", "error_severity": "LOG", "message": f"statement: {text}"} for text in SENT]
    others = [{**entries[0], "error_severity": "ERROR"}, {**entries[0], "dbname": "another"}]
    lines = [json.dumps(entry) + "\n" for entry in [*entries, *others]]
    assert list(logged([*lines, '{"cut off'], "clinic")) == SENT


def test_csv() -> None:
    quoted = [text.replace('"', '""') for text in SENT]
    begin = "2026-11-27,u,{},7,[local],1,1,idle,2026-11-27,1/1,0,LOG,00000"
    lines = [f'{begin.format("clinic")},"execute s: {text}",,,,,,,,,"psql"\n' for text in quoted]
    lines.append(f'{begin.format("another")},"execute s: SELECT 2",,,,,,,,,"psql"\n')
    assert list(logged("".join(lines).splitlines(keepends=True), "clinic")) == SENT
    assert list(logged("".join(lines[1:]).splitlines(keepends=True), "clinic")) == SENT[1:], "a statement of lines comes first"
    long = f'{begin.format("clinic")},"statement: {"x" * 200_000}",,,,,,,,,"psql"\n'
    assert list(logged([long], "clinic")) == ["x" * 200_000]


def test_nothing() -> None:
    assert list(logged([], "clinic")) == []


async def test_a_carriage_return_ends_no_line(postgres_server: PostgresServer, tmp_path: Path) -> None:
    log = tmp_path / "postgresql.log"
    log.write_bytes(b"LOG:  statement: SELECT 'a\rb',\r\n\t1\nLOG:  statement: COMMIT\n")
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn()) as conn:
        assert await statements_of(conn, str(log)) == {b"SELECT 'a\rb',\r\n1": 1, b"COMMIT": 1}


async def test_no_such_file(postgres_server: PostgresServer, tmp_path: Path) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn()) as conn:
        with pytest.raises(ConfigError, match="there is no such file"):
            await statements_of(conn, str(tmp_path / "postgresql.log"))
        with pytest.raises(ConfigError, match="no extension pg_stat_statements"):
            await statements_of(conn, "pg_stat_statements")


async def test_pg_stat_statements() -> None:
    """Of this database only; a constant that names its type becomes a cast; a role that may not read the texts is told so."""
    with EmbeddedPostgres(settings={"shared_preload_libraries": "pg_stat_statements"}) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as conn:
            conn.execute("CREATE SCHEMA stats; CREATE EXTENSION pg_stat_statements SCHEMA stats; CREATE TABLE t (a text, b date)")
            conn.execute("CREATE ROLE curious LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA stats TO curious")
            body = "DECLARE n int; BEGIN SELECT count(*) INTO n FROM t; RETURN n; END"
            conn.execute(f"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS '{body}'".encode())
            conn.execute("SET pg_stat_statements.track TO 'all'; SELECT f()")
            for n in range(3):
                conn.execute(f"SELECT b FROM t WHERE a = 'secret {n}' AND b > date '2001-01-0{n + 1}'".encode())
        async with await psycopg.AsyncConnection.connect(server.dsn()) as conn:
            counts = await statements_of(conn, "pg_stat_statements")
        assert counts[b"SELECT b FROM t WHERE a = $1 AND b > $2::date"] == 3
        assert not [text for text in counts if text.startswith(b"SELECT count")], "a function's own is sent by nobody"
        async with await psycopg.AsyncConnection.connect(server.dsn(user="curious", password="x")) as conn:
            with pytest.raises(ConfigError, match="may not read other roles' statements"):
                await statements_of(conn, "pg_stat_statements")
