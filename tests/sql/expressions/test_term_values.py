"""Terms as results: what is shown of them, and as which type."""

from __future__ import annotations

import pytest

from tests.sql.ask import PLANNER, VIEW, ask, columns, tag

SSN = tag("ssn")


@pytest.mark.parametrize(
    ("target", "server"),
    [
        ("coalesce(ssn, 'x')", "coalesce(ssn, $1)"),
        ("CASE WHEN active THEN ssn ELSE $1 END AS s", "CASE WHEN active THEN ssn ELSE $1 END AS s"),
        ("coalesce(CASE city WHEN 'a' THEN ssn END, NULL)", "coalesce(CASE city WHEN 'a' THEN ssn END, NULL::bytea)"),
        ("nullif(ssn, '')", f'CASE WHEN {SSN} = $1 THEN NULL ELSE ssn END AS "nullif"'),
        ("nullif(coalesce(ssn, 'x'), 'y') = 'z'", f"nullif(coalesce({SSN}, $1), $2) = $3"),
        ("(SELECT ssn)", "(SELECT ssn)"),
    ],
)
def test_parts_of_a_result_are_envelopes_and_of_a_comparison_tags(target: str, server: str) -> None:
    assert ask(f"SELECT {target} FROM public.patients") == f"SELECT {server} FROM public.patients"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("mrn", "varchar(12)"),
        ("coalesce(mrn, mrn)", "varchar(12)"),
        ("CASE WHEN active THEN mrn END", "varchar"),
        ("coalesce(mrn, 'x')", "varchar"),
        ("coalesce(mrn, 'x'::text)", "varchar"),
        ("coalesce('x'::text, mrn)", "text"),
        ("CASE WHEN active THEN 'x'::text ELSE mrn END", "varchar"),
        ("coalesce(mrn, mrn)::text", "text"),
    ],
)
def test_a_result_has_the_common_type_of_its_parts(target: str, shown: str) -> None:
    plan = PLANNER.statement(f"SELECT {target} FROM patients".encode(), (), VIEW)
    assert plan.columns is not None
    (reveal,) = plan.columns.reveals
    assert reveal is not None
    assert reveal.type.name == shown


def test_given_values_are_shown_when_they_are_protected_elsewhere() -> None:
    assert columns("SELECT $1, 'y', ssn FROM patients WHERE ssn = $1") == ["ssn", None, "ssn"]


@pytest.mark.parametrize(
    "target",
    [
        "coalesce(ssn, city)",
        "coalesce(ssn, full_name)",
        "CASE WHEN active THEN ssn ELSE upper(city) END",
        "nullif('x', ssn)",
        "greatest(ssn, 'x')",
        "coalesce(ssn, city) IS NULL",
    ],
)
def test_parts_of_other_identities_or_unprotected_are_refused(target: str) -> None:
    assert ask(f"SELECT {target} FROM patients") == "0A000"
