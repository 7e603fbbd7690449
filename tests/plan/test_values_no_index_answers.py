"""Which values of a statement no index answers, and that it is split for these."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from phiproxy.errors import ValueRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.plan.values_no_index_answers import perhaps_unanswered, unanswered, unanswered_constants, unanswered_inputs
from phiproxy.plan.without_engine import WITH_ENGINE
from phiproxy.sql.result import Waiting
from phiproxy.types.styles import Styles
from tests.fixtures.model import VIEW, planner
from tests.plan.rings import full_ring

RANGE = "SELECT id FROM stays WHERE born BETWEEN $1 AND $2"
STYLES = Styles.CANONICAL
REFUSED = type("Refused", (ValueRefused,), {"sqlstate": "0A000"})


@pytest.fixture(scope="module")
def ciphers() -> Ciphers:
    return Ciphers(full_ring(protection=planner().protection))


@pytest.fixture(scope="module")
def with_engine() -> Planner:
    there = planner()
    return Planner(there.protection, there.catalog, there.ciphers, EngineFacts())


def plan_of(text: str) -> StatementPlan:
    return planner().statement(text.encode(), (), VIEW)


def waiting(numbers: Sequence[int] = (), *constants: bytes) -> Waiting:
    return Waiting(frozenset(numbers), frozenset(constants))


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        (RANGE, (b"1980-01-01", b"1980-12-31"), waiting()),
        (RANGE, (b"1980-01-15", b"1980-12-31"), waiting((1, 2))),
        (RANGE, (None, b"1980-12-31"), waiting()),
        ("SELECT id FROM stays WHERE born BETWEEN '1980-01-01' AND $1", (b"1980-12-30",), waiting((1,), b"1980-01-01")),
        ("SELECT id FROM stays WHERE born BETWEEN '1980-01-01' AND '1980-12-30' AND id = $1", (b"5",),
         waiting((), b"1980-01-01", b"1980-12-30")),
        ("SELECT id FROM people WHERE name LIKE $2 AND code = $1", (b"x", b"Sm%"), waiting((2,))),
        ("SELECT id FROM people WHERE name LIKE $2 AND code = $1", (b"x", b"Smi%"), waiting()),
        ("SELECT id FROM people WHERE born = $1", (b"J2444270",), waiting((1,))),
        ("SELECT id FROM people WHERE lower(name) = lower($1 || 'Y')", ("\u0130".encode(),), waiting()),
    ],
)  # fmt: skip
def test_of_a_bind(ciphers: Ciphers, text: str, values: Sequence[bytes | None], expected: Waiting) -> None:
    plan = plan_of(text)
    assert unanswered_inputs(plan, ciphers, values, (0,) * len(values), STYLES) == expected
    if expected == waiting():
        plan.parameters(ciphers, values)
    else:
        with pytest.raises(ValueRefused) as refused:
            plan.parameters(ciphers, values)
        assert perhaps_unanswered(refused.value)


def test_what_postgresql_would_refuse_too(ciphers: Ciphers) -> None:
    with pytest.raises(ValueRefused) as refused:
        unanswered_inputs(plan_of(RANGE), ciphers, (b"yesteryear", b"1980-12-31"), (0, 0), STYLES)
    assert not perhaps_unanswered(refused.value)


def test_of_texts(ciphers: Ciphers) -> None:
    text = (
        b"SELECT 1 FROM stays WHERE born BETWEEN '1980-01-15' AND '1980-12-31' AND admitted BETWEEN '1980-01-01' AND '1980-01-01'"
    )
    rendered = planner().script(text, VIEW).rendered
    assert rendered is not None
    assert unanswered(rendered.occurrences, ciphers, STYLES) == waiting((), b"1980-01-15", b"1980-12-31")
    copied = plan_of("COPY (SELECT id FROM stays WHERE born BETWEEN '1980-01-15' AND '1980-12-31') TO STDOUT")
    assert unanswered_constants(copied, ciphers, STYLES) == waiting((), b"1980-01-15", b"1980-12-31")
    spelled = plan_of("SELECT id FROM people WHERE born = 'J2444270'")
    assert unanswered_constants(spelled, ciphers, STYLES) == waiting((), b"J2444270")


def test_the_planner_splits_what_is_refused_for_values(with_engine: Planner) -> None:
    text, refused = RANGE.encode(), REFUSED("no index", hint="Wait.")
    ordinary = with_engine.statement(text, (), VIEW)
    plan = with_engine.waiting(text, (), VIEW, waiting((1, 2)), refused)
    assert isinstance(plan, SplitPlan)
    assert b"born" not in plan.split.source.partition(b"FROM")[2]
    assert with_engine.statement(text, (), VIEW) is ordinary
    assert with_engine.waiting(text, (), VIEW, waiting((1, 2)), refused) is plan
    write = with_engine.waiting(b"DELETE FROM stays WHERE born BETWEEN $1 AND $2", (), VIEW, waiting((1, 2)), refused)
    assert write.split.write is not None
    with pytest.raises(ValueRefused) as raised:
        with_engine.waiting(b"SELECT id INTO copies FROM stays WHERE born BETWEEN $1 AND $2", (), VIEW, waiting((1, 2)), refused)
    assert raised.value is refused


def test_no_plan_with_constants_is_kept(with_engine: Planner) -> None:
    text, of = b"SELECT id FROM stays WHERE born BETWEEN '1980-01-15' AND '1980-12-31'", waiting((), b"1980-01-15", b"1980-12-31")
    refused = REFUSED("no index")
    assert with_engine.waiting(text, (), VIEW, of, refused) is not with_engine.waiting(text, (), VIEW, of, refused)


def test_without_an_engine_it_is_refused_with_a_hint() -> None:
    refused = REFUSED("no index", hint="Wait.")
    with pytest.raises(ValueRefused) as raised:
        planner().waiting(RANGE.encode(), (), VIEW, waiting((1, 2)), refused)
    assert raised.value is refused
    assert refused.hint == f"Wait. {WITH_ENGINE}"
