"""LIKE and ILIKE through blind indexes; what they answer on data is in the fixture pairs."""

import dataclasses

import pytest

from phiproxy.plan.planner import Planner
from phiproxy.policy.column_types import parse_type
from phiproxy.sql.values.patterns import Like
from phiproxy.sql.values.uses import Search
from tests.clinic_model import CATALOG
from tests.clinic_model import INDEXED as PROTECTION
from tests.sql.ask import INDEXED, VIEW, ask, refusal

SELECT = "SELECT 1 FROM patients WHERE "


def test_each_index_that_may_answer_a_parameter_has_one_of_its_own() -> None:
    plan = INDEXED.statement(f"{SELECT}full_name LIKE $1".encode(), (), VIEW)
    uses = [use for use, *_ in plan.outputs]
    chosen = [use.chosen for use in uses if isinstance(use, Search)]
    assert [c.part for c in chosen if isinstance(c, Like)] == [("whole", 0), ("left", 3), ("all", 0)]
    assert [n for _, n, _ in plan.outputs] == [0, 0, 0]


def test_a_literal_is_not_taken_for_another_of_the_same_shape() -> None:
    planned = [INDEXED.statement(f"{SELECT}full_name LIKE '{p}'".encode(), (), VIEW).sql for p in ("abc%", "abc", "xyz%")]
    assert planned[0] == planned[2] != planned[1]


@pytest.mark.parametrize("replaced", ["~~", "="])
def test_somebodys_own_operator_is_not_understood(replaced: str) -> None:
    planner = Planner(PROTECTION, dataclasses.replace(CATALOG, replaced=frozenset({replaced})), INDEXED.ciphers)
    assert ask(f"{SELECT}full_name LIKE 'abc'", VIEW, planner) == "0A000"


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("full_name LIKE 'ab%'", "Add `left(full_name,2)` to the indexes of public.patients.full_name"),
        ("full_name ILIKE '%ab'", "Add `right(lower(full_name),2)` to the indexes of public.patients.full_name"),
        ("ssn ILIKE $1", "Add `lower(ssn)` or `left(lower(ssn),n)` or `right(lower(ssn),n)` to the indexes of public.patients.ssn"),
        ("full_name LIKE '%ab%'", "a prefix ('abc%')"),
        ("full_name LIKE city", "a literal or a parameter"),
    ],
)
def test_a_refusal_names_the_index_that_would_answer(condition: str, hint: str) -> None:
    refused = refusal(SELECT + condition, VIEW, INDEXED)
    assert hint in (refused.hint or "")
    assert refused.position is not None


def test_char_and_other_types_have_no_patterns_here() -> None:
    column = dataclasses.replace(PROTECTION.tables[0].columns["full_name"], type=parse_type("char(5)"))
    table = dataclasses.replace(PROTECTION.tables[0], columns={**PROTECTION.tables[0].columns, "full_name": column})
    protection = dataclasses.replace(PROTECTION, tables=(table, PROTECTION.tables[1]))
    planner = Planner(protection, CATALOG, INDEXED.ciphers)
    assert ask(f"{SELECT}full_name LIKE 'abc'", VIEW, planner) == "0A000"
    assert ask(f"{SELECT}full_name::text LIKE 'abc'", VIEW, planner) == "0A000"
    assert b"substring" in planner.statement(f"{SELECT}full_name::text LIKE 'abc%'".encode(), (), VIEW).sql
