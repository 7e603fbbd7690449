"""What tags tell, and when it is too much."""

from typing import Any

import psycopg
import pytest

from phiproxy.ops.leakage import (
    Leakage,
    Measurement,
    declared_complaints,
    measure,
    plaintext_complaints,
    stored_complaints,
)
from phiproxy.policy.bind import assemble
from tests.policy.build import make_catalog, make_layout, make_policy

POLICY = make_policy({"public.t": {"a": {"type": "text", "indexes": ["a"]}}})
COLUMN = assemble(POLICY, make_layout(POLICY), "phiproxy").by_name["public", "t"].columns["a"]


def leak(measured: Measurement | None = None, declared: int | None = None, accepted: str | None = None) -> Leakage:
    return Leakage("public.t.a", "@", measured, declared, accepted, "p.yaml:1:1")


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (leak(), None),
        (leak(declared=1000), None),
        (leak(declared=999), "declared distinct: 999 (below 1000)"),
        (leak(Measurement(9999, 3, 9000)), None),
        (leak(Measurement(9999, 3, 9000), declared=5), "declared distinct: 5 (below 1000)"),
        (leak(Measurement(10000, 999, 11)), "only 999 distinct values among 10000 (below 1000)"),
        (leak(Measurement(10000, 1000, 501)), "5.0% of the values are one value (above 5%)"),
        (leak(Measurement(10000, 1000, 500)), None),
        (leak(Measurement(10000, 5000, 2), declared=5), None),
    ],
)
def test_too_much(found: Leakage, problem: str | None) -> None:
    assert found.problem == problem
    assert (found.complaint is None) == (problem is None)


def test_accepted() -> None:
    found = leak(declared=5, accepted="officer")
    assert found.problem is not None
    assert found.complaint is None
    assert "frequencies may tell the values" in found.learns


def test_declared() -> None:
    columns = make_policy({"public.t": {"a": {"type": "text", "indexes": ["a"], "distinct": {"a": 12}}}}).columns()
    (line,) = declared_complaints(columns)
    assert line.startswith("policy.yaml: index @ of public.t.a: declared distinct: 12")
    assert 'accept_leakage: "<who, why>"' in line


async def test_measure(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("CREATE TABLE t (a bytea)")
    assert await measure(conn, COLUMN, [0]) == Measurement(0, 0, 0)
    head = "repeat('00', 11)"
    await conn.execute(f"INSERT INTO t SELECT decode({head} || '01' || md5((g % 4)::text), 'hex') FROM generate_series(1, 9) g")
    await conn.execute("INSERT INTO t VALUES (NULL)")
    assert await measure(conn, COLUMN, [0]) == Measurement(9, 4, 3)
    # where the expression is NULL there is no tag; a value that is older than a slot has other bytes there
    await conn.execute(f"INSERT INTO t SELECT decode({head} || '01' || repeat('00', 16), 'hex') FROM generate_series(1, 2)")
    await conn.execute(f"INSERT INTO t SELECT decode({head} || '00' || md5(g::text), 'hex') FROM generate_series(1, 7) g")
    found = await measure(conn, COLUMN, [0])
    assert found == Measurement(9, 4, 3, without=2)
    assert "which 2 rows have none" in leak(found).learns
    assert Measurement(9, 4, 3).share == pytest.approx(1 / 3)


async def test_what_may_not_be_read_is_not_measured(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("CREATE TABLE t (a bytea); SET ROLE pg_read_all_stats")
    assert await measure(conn, COLUMN, [0]) is None


async def test_all_tags_of_a_column_together(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("CREATE TABLE t (a bytea)")
    await conn.execute(
        "INSERT INTO t SELECT decode(repeat('00', 11) || '02' || md5((g % 3)::text) || md5((g % 4)::text), 'hex')"
        " FROM generate_series(1, 24) g"
    )
    assert [await measure(conn, COLUMN, slots) for slots in ([0], [1], [0, 1])] == [
        Measurement(24, 3, 8),
        Measurement(24, 4, 6),
        Measurement(24, 12, 2),
    ]


async def test_what_is_stored_is_measured_before_what_is_declared(conn: psycopg.AsyncConnection[Any]) -> None:
    policy = make_policy({"public.t": {"a": {"type": "text", "indexes": ["a"], "distinct": 5}}})
    protection, catalog = assemble(policy, make_layout(policy), "phiproxy"), make_catalog(policy)
    await conn.execute("CREATE TABLE t (a bytea)")
    (line,) = await stored_complaints(conn, policy.columns(), protection, catalog)
    assert "declared distinct: 5" in line
    tags = "INSERT INTO t SELECT decode(repeat('00', 11) || '01' || md5((g % {})::text), 'hex') FROM generate_series(1, 10000) g"
    await conn.execute(tags.format(2000).encode())
    assert await stored_complaints(conn, policy.columns(), protection, catalog) == []
    await conn.execute(b"TRUNCATE t; " + tags.format(999).encode())
    (line,) = await stored_complaints(conn, policy.columns(), protection, catalog)
    assert "only 999 distinct values among 10000" in line
    assert await stored_complaints(conn, policy.columns(), protection, make_catalog(policy, 25)) != []


async def test_a_new_index_over_plaintext_is_measured_by_its_values(conn: psycopg.AsyncConnection[Any]) -> None:
    indexes = ["left(a, 1)", "a", "soundex(a)"]
    policy = make_policy({"public.t": {"a": {"type": "text", "indexes": indexes}}})
    await conn.execute("CREATE TABLE t (a text); INSERT INTO t SELECT md5(g::text) FROM generate_series(1, 10000) g")
    (line,) = await plaintext_complaints(conn, policy.columns(), make_catalog(policy, 25))
    assert "index left(@,1) of public.t.a: only 16 distinct values among 10000" in line
    assert await plaintext_complaints(conn, policy.columns(), make_catalog(policy)) == []


def test_what_a_thief_learns_of_an_expression() -> None:
    policy = make_policy({"public.t": {'"A b"': {"type": "text", "indexes": ['left(lower("A b"), 3)']}}})
    (wanted,) = policy.columns()
    (expression,) = wanted.expressions
    assert 'which rows have equal `left(lower("A b"),3)`, and how often each occurs' in Leakage.of(wanted, expression).learns
