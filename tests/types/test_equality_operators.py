"""As what two operands are compared: what the server says of every pair of types."""

from __future__ import annotations

from itertools import product

import psycopg

from phiproxy.policy.column_types import array_of, builtin, named_type
from phiproxy.types.casts import NoCast
from phiproxy.types.declared import DeclaredType
from phiproxy.types.equality_operators import equality, stays_apart
from phiproxy.types.names import sql_name
from tests.harness.server import PostgresServer

NAMES = (
    "bool", "int2", "int4", "int8", "numeric", "float4", "float8", "text", "varchar", "bpchar", "date", "time", "timetz",
    "timestamp", "timestamptz", "interval", "uuid", "bytea", "json", "jsonb", "inet", "cidr",
)  # fmt: skip
TYPES = [*map(builtin, NAMES), *(array_of(builtin(name)) for name in ("int4", "int8", "text"))]


def spelled(declared: DeclaredType) -> str:
    return "bpchar" if declared.family == "bpchar" else sql_name(declared)


def ours(one: DeclaredType, other: DeclaredType) -> tuple[int, int] | None:
    try:
        found = equality(one, other)
    except NoCast:
        return None
    return found.left.oid, found.right.oid


def theirs(conn: psycopg.Connection[tuple[object, ...]], one: DeclaredType, other: DeclaredType) -> tuple[int, int] | None:
    """Return the operands' types: that of NULLIF is what its left one becomes (parse_expr.c, transformAExprNullIf)."""
    found = []
    for left, right in ((one, other), (other, one)):
        try:
            row = conn.execute(
                f"SELECT pg_typeof(nullif(NULL::{spelled(left)}, NULL::{spelled(right)}))::oid::int".encode()
            ).fetchone()
        except psycopg.errors.UndefinedFunction:
            return None
        assert row is not None
        found.append(int(str(row[0])))
    return found[0], found[1]


def test_every_pair_as_the_server_says(postgres_server: PostgresServer) -> None:
    with postgres_server.connect() as conn:
        pairs = list(product(TYPES, repeat=2))
        found = {pair: ours(*pair) for pair in pairs}
        expected = {pair: theirs(conn, *pair) for pair in pairs}
    assert {pair: (found[pair], said) for pair, said in expected.items() if found[pair] != said} == {}


def test_the_type_at_which_they_are_compared() -> None:
    pairs = {
        ("int2", "int8"): "int8",
        ("float4", "float4"): "float4",
        ("float4", "float8"): "float8",
        ("float4", "numeric"): "float8",
        ("date", "timestamptz"): "timestamptz",
        ("char(3)", "varchar(5)"): "bpchar",
        ("char(3)", "text"): "text",
        ("char(3)", "char(5)"): "bpchar",
        ("varchar(3)", "varchar(5)"): "text",
        ("cidr", "cidr"): "inet",
    }
    assert {pair: equality(*map(named_type, pair)).at.name for pair in pairs} == pairs


def test_what_stays_equal_to_the_same_values() -> None:
    pairs = {
        ("int4", "int8"): True,
        ("int4", "numeric"): True,
        ("int4", "float8"): True,
        ("int4", "float4"): False,
        ("int8", "float8"): False,
        ("numeric", "float8"): False,
        ("numeric(6,3)", "numeric"): True,
        ("float4", "float8"): True,
        ("float8", "float4"): False,
        ("varchar(3)", "text"): True,
        ("char(3)", "text"): True,
        ("text", "char(3)"): False,
        ("date", "timestamp"): True,
        ("date", "timestamptz"): False,
        ("cidr", "inet"): True,
    }
    assert {pair: stays_apart(*map(named_type, pair)) for pair in pairs} == pairs
