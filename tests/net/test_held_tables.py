"""What refers to tables, and whose transactions have touched them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from phiproxy.net.held_tables import is_there, with_neighbours, without_touching
from tests.harness.server import PostgresServer

DDL = """\
CREATE TABLE t (id int PRIMARY KEY);
CREATE TABLE refers (id int PRIMARY KEY, t int REFERENCES t);
CREATE TABLE further (id int REFERENCES refers);
CREATE TABLE other (id int);
CREATE TABLE top (id int PRIMARY KEY);
CREATE TABLE upper (id int PRIMARY KEY, top int REFERENCES top ON DELETE CASCADE);
CREATE TABLE middle (id int PRIMARY KEY, upper int REFERENCES upper ON UPDATE SET NULL, other int REFERENCES refers);
CREATE TABLE low (id int PRIMARY KEY, middle int REFERENCES middle);
CREATE TABLE lowest (low int REFERENCES low ON DELETE CASCADE);
INSERT INTO t VALUES (1);
"""
Connection = psycopg.AsyncConnection[tuple[object, ...]]


@pytest.fixture
async def conn(postgres_server: PostgresServer) -> AsyncIterator[Connection]:
    name = postgres_server.create_database()
    try:
        async with await psycopg.AsyncConnection.connect(postgres_server.dsn(name), autocommit=True) as conn:
            await conn.execute(DDL)
            yield conn
    finally:
        postgres_server.drop_database(name)


async def test_a_foreign_key_joins_both_ways(conn: Connection) -> None:
    assert await with_neighbours(conn, ["t"]) == {"t", "refers"}
    assert await with_neighbours(conn, ["refers"]) == {"t", "refers", "further", "middle"}
    assert await with_neighbours(conn, ["other", "f"]) == {"other", "f"}


async def test_what_is_deleted_far_above_takes_rows_with_it(conn: Connection) -> None:
    assert await with_neighbours(conn, ["low"]) == {"low", "lowest", "middle", "upper", "top"}
    assert await with_neighbours(conn, ["lowest"]) == {"lowest", "low"}


@pytest.mark.parametrize(
    ("statement", "touches"),
    [
        ("SELECT FROM other", False),
        ("SELECT FROM t", True),
        ("INSERT INTO refers VALUES (1, 1)", True),
        ("SELECT FROM further", False),
    ],
)
async def test_a_lock_tells_whose_transaction_has_touched_a_table(conn: Connection, statement: str, touches: bool) -> None:
    async with await psycopg.AsyncConnection.connect(conn.info.dsn, password=conn.info.password) as other:
        await other.execute(statement.encode())
        pid = other.info.backend_pid
        assert await without_touching(conn, ["t"], [pid]) == (set() if touches else {pid})
        await other.rollback()
        assert await without_touching(conn, ["t"], [pid, pid + 1]) == {pid}
    assert await without_touching(conn, ["t"], []) == set()


async def test_sessions_that_the_server_still_has(conn: Connection) -> None:
    async with await psycopg.AsyncConnection.connect(conn.info.dsn, password=conn.info.password) as other:
        assert await is_there(conn, [0, other.info.backend_pid])
        assert not await is_there(conn, [0])


async def test_sessions_of_other_servers_and_databases_are_not_known(conn: Connection) -> None:
    async with await psycopg.AsyncConnection.connect(conn.info.dsn, password=conn.info.password, dbname="postgres") as other:
        await other.execute("SELECT 1")
        assert await without_touching(conn, ["t"], [0, 2**31 - 1, other.info.backend_pid]) == set()
