"""Operators over protected columns: which have no rule, and what is said of them."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, refusal

SELECT = 'SELECT id FROM "public".patients WHERE '


@pytest.mark.parametrize(
    "client",
    [
        "(ssn, city) < ('a', 'b')",
        "(ssn, city) = (SELECT city, city FROM patients)",
        "ssn = ANY (ARRAY[city])",
        "ssn = ANY (string_to_array($1, ','))",
        "CASE ssn WHEN city THEN true END",
        "$1 = city OR $1 = ssn",
        "ssn > ANY (SELECT ssn FROM patients)",
        "nullif(ssn, full_name) IS NULL",
    ],
)
def test_other_operators_and_unprotected_operands_are_refused(client: str) -> None:
    assert ask(SELECT + client) == "0A000"


@pytest.mark.parametrize(
    ("client", "hint"),
    [
        ("full_name LIKE 'a%'", "left(full_name,1)"),
        ("full_name ILIKE 'a%'", "lower(full_name)"),
        ("ssn < 'a'", "no order"),
        ("ssn BETWEEN 'a' AND 'b'", "no order"),
        ("ssn || 'x' = 'y'", "in the client"),
        ("upper(ssn) = 'X'", "Add `upper(ssn)` to the indexes"),
        ("(SELECT max(ssn) FROM patients) = 'x'", "no order"),
        ("(SELECT array_agg(ssn) FROM patients) IS NULL", "in the client"),
        ("ssn ~ 'x'", "a prefix ('^abc')"),
    ],
)
def test_a_refusal_says_what_would_work(client: str, hint: str) -> None:
    refused = refusal(SELECT + client)
    assert hint in (refused.hint or "")
    assert refused.position is not None
