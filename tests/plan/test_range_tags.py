"""The ends of ranges on their way to the server."""

from __future__ import annotations

import pytest

from phiproxy.errors import PhiproxyError, ValueRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.range_tags import NO_TAG, Bounds, bound_pair, is_lower, paired, range_tags
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.sql.values.uses import Search
from phiproxy.types.styles import Styles
from phiproxy.wire.arrays import Array
from tests.fixtures.model import VIEW, planner
from tests.plan.rings import full_ring

BETWEEN = "SELECT id FROM stays WHERE born BETWEEN $1 AND $2"


def plan_of(statement: str) -> StatementPlan:
    return planner().statement(statement.encode(), (), VIEW)


def test_each_lower_end_finds_its_upper_one() -> None:
    (answer,) = planner().answers(b"SELECT 1 FROM stays WHERE born BETWEEN $2 AND $1 AND admitted >= $3 AND admitted < $4", VIEW)
    pairs = [bound_pair(o) for o in paired(answer.occurrences) if is_lower(o)]
    assert {tuple(pair.numbers()) for pair in pairs} == {(1, 0), (2, 3)}


def subjects(lower: bytes | None, upper: bytes | None) -> list[int | None]:
    plan = plan_of(BETWEEN)
    ciphers = Ciphers(full_ring(protection=planner().protection))
    found = [range_tags(ciphers, use, Bounds(lower, upper)) for use, _, _ in plan.outputs if isinstance(use, Search)]
    for tags in found:
        assert tags is None or (list(tags.elements) == sorted(tags.elements, key=lambda e: e or b"") and tags.bounds[0][1] == 1)
    return [None if tags is None else len(tags.elements) for tags in found]


def test_tags_are_sorted_so_that_their_order_says_nothing() -> None:
    assert subjects(b"1980-01-01", b"1984-12-31") == [5, 1]


def test_null_is_null_and_nothing_is_no_tag() -> None:
    assert subjects(None, None) == [None, None]
    ciphers = Ciphers(full_ring(protection=planner().protection))
    use = next(use for use, _, _ in plan_of(BETWEEN).outputs if isinstance(use, Search))
    assert range_tags(ciphers, use, Bounds(b"1981-01-01", b"1980-01-01")) == Array(((1, 1),), (NO_TAG,))


def test_ends_are_read_in_the_session_s_style() -> None:
    plan = plan_of("SELECT id FROM stays WHERE born BETWEEN '31/12/1980' AND $1")
    plan.check_literals(Styles(date_order="DMY"))
    with pytest.raises(PhiproxyError):
        plan.check_literals(Styles(date_order="MDY"))


@pytest.mark.parametrize(
    "ends",
    ["born > NULL::date AND born < $1", "born < $1 AND born > NULL", "born > $1 AND born < NULL", "born BETWEEN NULL AND $1"],
)
def test_a_parameter_is_read_also_beside_an_end_that_is_null(ends: str) -> None:
    plan = plan_of(f"SELECT id FROM stays WHERE {ends}")
    ciphers = Ciphers(full_ring(protection=planner().protection))
    assert not any(plan.parameters(ciphers, [b"1980-01-01"]))
    with pytest.raises(ValueRefused, match="incorrect binary data format"):
        plan.parameters(ciphers, [b"1980-01-01"], [1])
