"""``phiproxy explain`` in words: uses of parameters, literals and columns; never a value."""

from __future__ import annotations

from phiproxy.plan.cache import Planner
from phiproxy.plan.explain import explain
from tests.clinic_model import CATALOG, PROTECTION
from tests.plan.rings import full_ciphers

PLANNER = Planner(PROTECTION, CATALOG, full_ciphers())


def test_a_rewritten_statement() -> None:
    told = explain(PLANNER, b"SELECT ssn, city FROM patients WHERE ssn = $1 AND city = $2 AND full_name = 'Ada'", "clinic")
    assert told.answer == "rewritten"
    assert told.parameters == (
        ("$1 from $1", "tag of public.patients.ssn (ssn)"),
        ("$2 from $2", "sent as it is"),
        ("$3 from a literal", "tag of public.patients.full_name (full_name)"),
    )
    assert told.columns == ("opened: public.patients.ssn as text", "unprotected")
    assert "Ada" not in repr(told)


def test_the_other_answers() -> None:
    assert explain(PLANNER, b"SELECT 1", "clinic").answer == "forwarded"
    refused = explain(PLANNER, b"SELECT upper(ssn) FROM patients", "clinic")
    assert (refused.answer, refused.sqlstate, refused.position) == ("refused", "0A000", 14)
    assert refused.hint


def test_a_string_of_statements_is_explained_as_a_simple_query() -> None:
    told = explain(PLANNER, b"INSERT INTO patients (ssn) VALUES ('Ada'); SELECT 1", "clinic")
    assert told.answer == "rewritten"
    assert told.parameters == (("literal at 36", "sealed for public.patients.ssn"),)
    assert "Ada" not in repr(told)
