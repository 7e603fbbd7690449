"""Types of parameters, as PostgreSQL 15 told them of the same statements."""

from __future__ import annotations

import pytest

from phiproxy.errors import AmbiguousParameter, StatementRefused
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ciphers

PLANNER = Planner(PROTECTION, CATALOG, full_ciphers())
VIEW = View(PATH, "clinic", catalog_fresh=True)
TEXT, VARCHAR = 25, 1043
CONFLICT = "INSERT INTO patients (id, mrn) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET "


def described(text: str) -> tuple[int | None, ...]:
    return PLANNER.statement(text.encode(), (), VIEW).described


@pytest.mark.parametrize(
    ("text", "oid"),
    [
        ("INSERT INTO patients (mrn) VALUES (lower($1))", TEXT),
        ("INSERT INTO patients (mrn, ssn) VALUES (lower($1), $1)", TEXT),
        ("INSERT INTO patients (mrn) VALUES ($1), (lower($1))", VARCHAR),
        ("INSERT INTO patients (mrn) VALUES (lower($1)), ($1)", TEXT),
        (CONFLICT + "ssn = lower($1)", VARCHAR),
        (CONFLICT + "(mrn) = ROW (lower($1))", VARCHAR),
        ("UPDATE patients SET ssn = lower($1) WHERE mrn = $1", TEXT),
        ("UPDATE patients SET mrn = lower($1::varchar)", VARCHAR),
    ],
)
def test_the_place_that_is_looked_at_first_decides(text: str, oid: int) -> None:
    assert described(text) == (oid,)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO patients (mrn, ssn) VALUES ($1, $1)",
        "INSERT INTO patients (mrn, ssn) VALUES ($1, lower($1))",
        "UPDATE patients SET mrn = $1, ssn = lower($1)",
        "SELECT 1 FROM patients WHERE mrn IN ($1, lower($1))",
        "SELECT 1 FROM patients WHERE $1 IS NULL OR mrn = $1",
    ],
)
def test_places_that_do_not_agree(text: str) -> None:
    with pytest.raises(AmbiguousParameter):
        described(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 FROM patients WHERE ssn = coalesce(coalesce(CAST($1 AS varchar), $1), lower($1)::varchar(2))",
        "SELECT 1 FROM patients WHERE ssn = coalesce(coalesce($1, $1), upper(CAST($1 AS varchar)))",
        "SELECT 1 FROM patients WHERE ssn = coalesce(coalesce($1, 'zz z'::varchar(1)), $1 || 'x'::text)",
        "UPDATE patients SET ssn = coalesce(ssn, coalesce($1::varchar, $1), lower($1))",
    ],
)
def test_values_of_a_choice_in_which_another_place_may_be_looked_at_first(text: str) -> None:
    """PostgreSQL accepts these."""
    with pytest.raises(StatementRefused, match="stands twice in one comparison"):
        described(text)


def test_expressions_that_do_not_agree() -> None:
    with pytest.raises(StatementRefused, match="two types in expressions"):
        described("INSERT INTO patients (mrn, ssn) VALUES (lower($1::varchar), lower($1))")
