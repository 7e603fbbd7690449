"""Whoever writes, and however: a value that changes without its sealed one empties that."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from phiproxy.jobs.conversion import ConvertedColumn, ConvertedTable
from phiproxy.jobs.conversion_sql import prepare, take_back
from phiproxy.jobs.relations import Part
from phiproxy.ops.physical_tables import PhysicalColumn
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.types.declared import DeclaredType
from tests.harness.server import PostgresServer

TABLE = """\
CREATE TABLE t (id int PRIMARY KEY, a text, n numeric, other int);
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.a := upper(NEW.a); RETURN NEW; END $$;
CREATE TRIGGER shout BEFORE UPDATE OF other ON t FOR EACH ROW EXECUTE FUNCTION shout();
INSERT INTO t VALUES (1, 'one', 1.0, 0);
"""


def column(name: str, type_name: str) -> ConvertedColumn:
    of = ProtectedColumn("public", "t", name, f"c:{name}", 7, "t:public.t", DeclaredType.builtin(type_name), None, (), "d")
    physical = PhysicalColumn(name, type_name, "x", None, ())
    return ConvertedColumn(of, physical, not_null=())


NAME = ("public", "t")
SEALED = bytes.fromhex("f55001000000000000000700" + "00" * 60)
COLUMNS = (column("a", "text"), column("n", "numeric"))


@pytest.fixture
def conn(postgres_server: PostgresServer) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    name = postgres_server.create_database()
    with postgres_server.connect(name) as conn:
        conn.execute(TABLE.encode())
        for statement in prepare(table(), frozenset()):
            conn.execute(statement.encode())
        seal(conn)
        yield conn
    postgres_server.drop_database(name)


def table() -> ConvertedTable:
    part = Part(NAME, 1, "postgres", 1, (), hidden=False)
    return ConvertedTable(NAME, "postgres", (part,), partitioned=False, columns=COLUMNS, orders={}, guards={})


def seal(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    conn.execute("UPDATE t SET phi_new_a = %s, phi_new_n = %s", (SEALED, SEALED))


def filled(conn: psycopg.Connection[tuple[object, ...]]) -> tuple[object, ...]:
    (row,) = conn.execute("SELECT phi_new_a IS NOT NULL, phi_new_n IS NOT NULL FROM t WHERE id = 1").fetchall()
    return row


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("UPDATE t SET a = 'two'", (False, True)),
        ("UPDATE t SET a = NULL", (False, True)),
        ("UPDATE t SET n = 1.00", (True, False)),
        ("UPDATE t SET a = a, n = n, id = id", (True, True)),
        ("UPDATE t SET other = 5", (False, True)),
        ("SET session_replication_role = replica; UPDATE t SET a = 'two', n = 2", (False, False)),
        ("INSERT INTO t VALUES (1, 'x', 2) ON CONFLICT (id) DO UPDATE SET a = excluded.a", (False, True)),
    ],
)
def test_a_value_that_changes(conn: psycopg.Connection[tuple[object, ...]], statement: str, left: tuple[bool, bool]) -> None:
    """By equal numbers of other digits, by a trigger of the application's own, by a subscription: and by nothing else."""
    assert filled(conn) == (True, True)
    conn.execute(statement.encode())
    assert filled(conn) == left


def test_nobody_inserts_a_sealed_value(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    conn.execute("DELETE FROM t")
    conn.execute("INSERT INTO t (id, a, phi_new_a) VALUES (1, 'x', %s)", (SEALED,))
    assert filled(conn) == (False, False)


def test_nothing_but_an_envelope_is_let_in(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        conn.execute("UPDATE t SET phi_new_a = '\\x01'")


def test_all_of_it_is_taken_back(conn: psycopg.Connection[tuple[object, ...]]) -> None:
    for statement in take_back(table(), frozenset({"phi_new_a", "phi_new_n"})):
        conn.execute(statement.encode())
    rows = conn.execute("SELECT attname::text FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped")
    assert [name for (name,) in rows.fetchall()] == ["id", "a", "n", "other"]
    assert conn.execute("SELECT count(*) FROM pg_proc WHERE proname LIKE 'phi%'").fetchall() == [(0,)]
