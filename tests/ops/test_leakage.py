"""What tags tell, and when it is too much."""

from typing import Any

import psycopg
import pytest

from phiproxy.ops.leakage import Leakage, Measurement, declared_complaints, measure
from phiproxy.policy.bind import assemble
from tests.policy.build import make_layout, make_policy

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
    await conn.execute("INSERT INTO t SELECT decode(repeat('00', 12) || md5((g % 4)::text), 'hex') FROM generate_series(1, 9) g")
    await conn.execute("INSERT INTO t VALUES (NULL)")
    assert await measure(conn, COLUMN, [0]) == Measurement(9, 4, 3)
    assert Measurement(9, 4, 3).share == pytest.approx(1 / 3)


async def test_what_may_not_be_read_is_not_measured(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("CREATE TABLE t (a bytea); SET ROLE pg_read_all_stats")
    assert await measure(conn, COLUMN, [0]) is None
