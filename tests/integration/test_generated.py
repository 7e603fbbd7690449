"""Random statements: through the proxy each answers as PostgreSQL does, or is refused; never anything else, and nothing leaks."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from psycopg.pq.abc import PGconn

from tests.fixtures.cases import fill
from tests.fixtures.grammar import over_expressions, statements
from tests.fixtures.grammar_ranges import over_ranges
from tests.fixtures.grammar_recursive import recursive
from tests.fixtures.grammar_typed import Typed
from tests.fixtures.grammar_writes import writes
from tests.fixtures.live import Twins
from tests.harness import explore, results
from tests.harness.explore import EXPLORE
from tests.harness.results import Outcome

pytestmark = pytest.mark.timeout(600 + 2 * EXPLORE)
Way = tuple[str, int, int, bool]
Values = tuple[str | bytes | None, ...]
Types = tuple[int, ...] | None


@pytest.fixture
def twins(kept_twins: Twins) -> Twins:
    return kept_twins


def one(conn: PGconn, statement: str, params: Values, types: Types, way: Way) -> tuple[list[Outcome], tuple[int, ...]]:
    protocol, sent, got, named = way
    if protocol == "simple" and not params:
        return results.simple(conn, statement), ()
    form = results.Form(types, sent, got)
    if named:
        return results.prepared(conn, statement, params, form)
    return results.extended(conn, statement, params, form), ()


def encoded(twins: Twins, params: tuple[str | Typed | None, ...], way: Way) -> tuple[Values, Types]:
    """Return the values of parameters as they are sent, and the types that Parse declares of them.

    A value with a type of its own is, in binary form, what PostgreSQL itself would send.
    """
    values: list[str | bytes | None] = []
    types = [0] * len(params)
    for n, param in enumerate(params):
        text = param.text if isinstance(param, Typed) else param
        values.append(None if text is None else fill(text, twins.value))
        if isinstance(param, Typed):
            cast = f"SELECT $1::text::{param.kind}, '{param.kind}'::regtype::oid"
            form = results.Form(None, 0, way[1])
            (row,) = results.extended(twins.both.plain, cast, (values[n],), form)[-1].rows
            oid = row[1] or b""
            types[n] = param.declared * (int.from_bytes(oid, "big") if way[1] else int(oid))
            values[n] = row[0] if way[1] else values[n]
    return tuple(values), tuple(types) if any(types) else None


def answer(twins: Twins, statement: str, params: Values, types: Types, way: Way) -> str:
    """Run it both ways; return what became of it, or fail."""
    twins.restart()
    found, found_types = one(twins.both.proxied, statement, params, types, way)
    last = found[-1]
    refused = last.message.startswith("phiproxy:")
    if refused and last.sqlstate == "0A000":
        return "refused"
    expected, expected_types = one(twins.both.plain, statement, params, types, way)
    if (refused or last.sqlstate == "42702") and last.sqlstate != expected[-1].sqlstate:
        # Of several errors another one may be found first, a name that fits two columns too; but an error there must be.
        assert expected[-1].sqlstate is not None, f"refused with {last.sqlstate} what PostgreSQL accepts: {last.message}"
        return "error"
    for a, b in zip(found, expected, strict=True):
        assert a.visible(ordered=False) == b.visible(ordered=False), a.difference(b, ordered=False)
    assert found_types == expected_types
    if last.sqlstate is not None:
        return "error"
    if not statement.startswith("SELECT"):
        twins.same_state()
    return "equal"


Generated = tuple[str, tuple[str | None, ...]] | tuple[str, tuple[Typed, ...]] | tuple[str, tuple[str | Typed | None, ...]]


def tried(twins: Twins, generated: st.SearchStrategy[Generated], examples: int) -> Counter[str]:
    """Run what is generated, each in some way, and count what became of it: ``examples`` of them, or as long as is explored."""
    ways = st.tuples(st.sampled_from(["simple", "extended"]), st.sampled_from([0, 1]), st.sampled_from([0, 1]), st.booleans())

    def run(case: tuple[Generated, Way]) -> Counter[str]:
        (statement, params), way = case
        values, types = encoded(twins, params, way)
        with twins.rolled_back():
            return Counter([answer(twins, fill(statement, twins.value), values, types, way)])

    try:
        return explore.tried(st.tuples(generated, ways), examples, run)
    finally:
        twins.restart()


@pytest.mark.slow
def test_random_statements(twins: Twins) -> None:
    became = tried(twins, st.one_of(statements(), writes()), 200)
    # A generator whose statements are all refused, or all wrong, would prove nothing.
    explore.enough(became, "equal", 50)
    explore.enough(became, "refused", 25)


@pytest.mark.slow
def test_random_statements_over_indexed_expressions(twins: Twins) -> None:
    became = tried(twins, over_expressions(), 75)
    explore.enough(became, "equal", 5)
    explore.enough(became, "refused", 5)


@pytest.mark.slow
def test_random_ranges(twins: Twins) -> None:
    became = tried(twins, over_ranges(), 125)
    explore.enough(became, "equal", 10)
    explore.enough(became, "refused", 2)


@pytest.mark.slow
def test_random_recursive_queries(twins: Twins) -> None:
    became = tried(twins, recursive(), 30)
    explore.enough(became, "equal", 2)
    explore.enough(became, "refused", 2)
