"""The type that values of several types share: what the server says of every pair, in both orders."""

from __future__ import annotations

from itertools import product

import psycopg
import pytest

from phiproxy.policy.column_types import array_of, builtin, named_type
from phiproxy.types.casts import NoCast
from phiproxy.types.common_type import changes_little, shared
from phiproxy.types.declared import DeclaredType
from phiproxy.types.names import sql_name
from tests.harness.server import PostgresServer

NAMES = (
    "bool", "int2", "int4", "int8", "numeric", "float4", "float8", "text", "varchar", "bpchar", "date", "time", "timetz",
    "timestamp", "timestamptz", "interval", "uuid", "bytea", "json", "jsonb", "inet", "cidr",
)  # fmt: skip
TYPES = [named_type("char(1)").unlimited if name == "bpchar" else builtin(name) for name in NAMES]
ARRAYS = [array_of(builtin(name)) for name in ("int4", "int8", "text")]


def ours(types: tuple[DeclaredType, ...]) -> int:
    try:
        return shared(types).oid
    except NoCast:
        return 0


def theirs(conn: psycopg.Connection[tuple[object, ...]], types: tuple[DeclaredType, ...]) -> int:
    nulls = ", ".join(f"NULL::{'bpchar' if t.family == 'bpchar' else sql_name(t)}" for t in types)
    try:
        found = conn.execute(f"SELECT pg_typeof(coalesce({nulls}))::oid::int".encode()).fetchone()
    except (psycopg.errors.DatatypeMismatch, psycopg.errors.CannotCoerce):
        return 0
    assert found is not None
    return int(str(found[0]))


@pytest.mark.parametrize("others", [TYPES, ARRAYS], ids=["scalars", "arrays"])
def test_every_pair_as_the_server_says(postgres_server: PostgresServer, others: list[DeclaredType]) -> None:
    with postgres_server.connect() as conn:
        pairs = list(product(others, repeat=2))
        assert {pair: ours(pair) for pair in pairs} == {pair: theirs(conn, pair) for pair in pairs}


def test_several_are_looked_at_in_their_order(postgres_server: PostgresServer) -> None:
    several = [
        ("varchar", "text", "varchar"),
        ("int2", "numeric", "float4"),
        ("date", "timestamptz", "timestamp"),
        ("int4", "int8", "text"),
    ]
    with postgres_server.connect() as conn:
        for names in several:
            types = tuple(map(builtin, names))
            assert ours(types) == theirs(conn, types), names


def test_a_length_is_nobodys_in_common() -> None:
    assert shared([named_type("numeric(5,2)"), builtin("numeric")]).typmod == -1


def test_what_a_value_becomes_first_may_show_in_the_end() -> None:
    assert changes_little(builtin("int4"), builtin("numeric"))
    assert changes_little(builtin("varchar"), builtin("text"))
    assert not changes_little(builtin("date"), builtin("timestamp"))
    assert not changes_little(builtin("int8"), builtin("float8"))
