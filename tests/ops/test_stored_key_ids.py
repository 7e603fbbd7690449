"""Data key ids of stored values: all of a small table, a sample and the newest of a large one, those of partitions too."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from phiproxy.ops import stored_key_ids
from phiproxy.ops.stored_key_ids import key_ids
from tests.harness.server import PostgresServer


def envelope(key_id: int) -> str:
    """The head of an envelope under a data key, long enough to be one."""
    return f"\\xf550010100{key_id:08x}" + "00" * 60


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute("CREATE TABLE t (id int, v bytea); CREATE TABLE p (id int, v bytea) PARTITION BY RANGE (id)")
        conn.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p DEFAULT")
        conn.execute(f"INSERT INTO t SELECT g, '{envelope(7)}' FROM generate_series(1, 2000) g")
        conn.execute(f"INSERT INTO t VALUES (1, NULL), (2, 'no envelope'), (3, '\\xf55001'), (4, '{envelope(0xFFFFFFFF)}')")
        conn.execute(f"INSERT INTO p VALUES (1, '{envelope(1)}'), (100, '{envelope(2)}')")
    yield name
    postgres_server.drop_database(name)


async def met(server: PostgresServer, database: str, table: str, role: str | None = None) -> set[int] | None:
    dsn = server.dsn(database, role, "x") if role is not None else server.dsn(database)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        return await key_ids(conn, "public", table, "v")


async def test_of_a_small_table_every_value_is_looked_at(postgres_server: PostgresServer, database: str) -> None:
    assert await met(postgres_server, database, "t") == {7, 0xFFFFFFFF}
    assert await met(postgres_server, database, "p") == {1, 2}


async def test_of_a_large_one_the_last_pages_are(
    postgres_server: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_key_ids, "MOST_PAGES", 2)
    monkeypatch.setattr(stored_key_ids, "LAST_PAGES", 1)
    found = await met(postgres_server, database, "t")
    assert found is not None
    assert 0xFFFFFFFF in found


async def test_who_may_not_read_it_is_told(postgres_server: PostgresServer, database: str) -> None:
    postgres_server.create_role("phi_blind", "x")
    assert await met(postgres_server, database, "t", "phi_blind") is None
    with postgres_server.connect(database) as conn:
        conn.execute("GRANT SELECT ON t TO phi_blind; ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    assert await met(postgres_server, database, "t", "phi_blind") is None
    with postgres_server.connect(database) as conn:
        conn.execute("REVOKE ALL ON t FROM phi_blind; DROP ROLE phi_blind; ALTER TABLE t DISABLE ROW LEVEL SECURITY")
