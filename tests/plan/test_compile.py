"""Occurrences become parameters: the client's numbers stay, every further use comes behind them."""

from __future__ import annotations

import pytest

from phiproxy.errors import PhiproxyError, StatementRefused
from phiproxy.plan.compile import UndefinedParameter
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.sql.values.uses import NULLNESS, Plain, Search, Store
from phiproxy.wire.oids import BYTEA_OID
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ciphers

PLANNER = Planner(PROTECTION, CATALOG, full_ciphers())
VIEW = View(PATH, "clinic", catalog_fresh=True)


def plan(text: str, *oids: int) -> StatementPlan:
    return PLANNER.statement(text.encode(), oids, VIEW)


def test_a_parameter_keeps_its_number_and_further_uses_come_behind() -> None:
    made = plan("UPDATE patients SET ssn = $2, city = $1 WHERE ssn = $2 AND ssn <> $2")
    kinds = [type(use) for use, _, _ in made.outputs]
    assert kinds == [Plain, Store, Search]
    assert [n for _, n, _ in made.outputs] == [0, 1, 1]
    assert made.oids == (0, BYTEA_OID, BYTEA_OID)
    assert b"SET ssn = $2, city = $1" in made.sql
    assert made.sql.count(b"$3") == 2


def test_a_stored_occurrence_is_never_shared() -> None:
    made = plan("INSERT INTO patients (ssn) VALUES ($1), ($1)")
    assert len(made.outputs) == 2


def test_nullness_beside_a_search() -> None:
    made = plan("SELECT id FROM patients WHERE $1::text IS NULL OR ssn = $1")
    assert made.outputs[0][0] is NULLNESS
    assert made.described == (25,)


def test_literals_come_behind_the_parameters() -> None:
    made = plan("SELECT id FROM patients WHERE city = $1 AND ssn IN ('a', 'b', 'a')")
    assert [(n, literal) for _, n, literal in made.outputs] == [(0, None), (-1, b"a"), (-1, b"b")]
    assert made.inputs == 1


@pytest.mark.parametrize(
    ("text", "oids", "described"),
    [
        ("SELECT 1 FROM patients WHERE mrn = $1", (), (25,)),
        ("INSERT INTO patients (mrn) VALUES ($1)", (), (1043,)),
        ("INSERT INTO patients (mrn) VALUES ($1)", (25,), (25,)),
        ("SELECT 1 FROM patients WHERE ssn = $1 AND id = $2", (0, 23), (25, None)),
        ("SELECT 1 FROM patients WHERE ssn = $2", (23,), (None, 25)),
    ],
)
def test_the_client_sees_its_own_types(text: str, oids: tuple[int, ...], described: tuple[int | None, ...]) -> None:
    assert plan(text, *oids).described == described


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("SELECT 1 FROM patients WHERE ssn = $1", "42883"),
        ("INSERT INTO patients (ssn) VALUES ($1::date::int4)", "42846"),
        ("UPDATE patients SET city = 'x' WHERE ssn = ANY ($1::int4[])", "42846"),
    ],
)
def test_a_parameter_declared_as_another_type_is_refused(text: str, state: str) -> None:
    with pytest.raises(PhiproxyError) as caught:
        plan(text, 23)
    assert caught.value.sqlstate == state


def test_a_number_is_assigned_to_a_text_as_by_the_server() -> None:
    made = plan("INSERT INTO patients (ssn) VALUES ($1)", 23)
    assert made.described == (23,)


def test_a_simple_query_has_no_parameters() -> None:
    with pytest.raises(PhiproxyError):
        PLANNER.script(b"SELECT 1 FROM patients WHERE ssn = $1", VIEW)


def test_a_parameter_that_does_not_occur_is_not_sent() -> None:
    made = plan("SELECT id FROM public.patients WHERE ssn = $2", 25, 25)
    assert made.parameters(full_ciphers(), [b"secret", b"x"])[0] is None
    assert made.oids == (25, BYTEA_OID)
    assert made.describe_parameters((25, BYTEA_OID)) == [25, 25]
    only_declared = plan("SELECT ssn FROM public.patients", 25)
    assert only_declared.parameters(full_ciphers(), [b"secret"]) == [None]
    assert only_declared.oids == (25,)


@pytest.mark.parametrize("count", [500, 3000])
def test_chains_of_operators_are_understood(count: int) -> None:
    ored = " OR ".join(f"ssn = 'x{i}'" for i in range(count))
    nested = "(ssn = 'x' OR " * (count // 6) + "true" + ")" * (count // 6)
    added = "+".join(["1"] * count)
    made = plan(f"SELECT {added} FROM public.patients WHERE ({ored}) AND {nested}")
    assert len(made.outputs) == count + 1


def test_what_the_grammar_itself_does_not_nest_is_refused() -> None:
    with pytest.raises(StatementRefused) as caught:
        PLANNER.statement(b"SELECT " + b"+".join([b"1"] * 60000) + b" FROM patients", (), VIEW)
    assert caught.value.sqlstate == "0A000"


def test_plans_that_fit_all_values_take_parameters_in_simple_queries() -> None:
    """Each use of a parameter has a number of its own, as in the extended protocol; literals of such a statement are never sent."""
    text = b"EXPLAIN (GENERIC_PLAN, COSTS off) SELECT id FROM patients WHERE ssn = $1 AND mrn = 'x' OR city = $2 OR mrn = $1"
    sent, _ = PLANNER.script(text, VIEW).render(full_ciphers())
    for again in (text, text.replace(b"'x'", b"'y'")):
        assert PLANNER.script(again, VIEW).render(full_ciphers())[0] == sent
    tags = [b"pg_catalog.substring(%s, 13, 16) = $%d" % pair for pair in ((b"ssn", 1), (b"mrn", 3), (b"mrn", 4))]
    assert sent.endswith(tags[0] + b" AND " + tags[1] + b" OR city = $2 OR " + tags[2])
    for other in (b"GENERIC_PLAN off", b"GENERIC_PLAN 0", b"ANALYZE"):
        with pytest.raises(UndefinedParameter):
            PLANNER.script(text.replace(b"GENERIC_PLAN", other, 1), VIEW)
    with pytest.raises(UndefinedParameter):
        PLANNER.script(text + b"; SELECT 1", VIEW)
