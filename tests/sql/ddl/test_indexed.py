"""Functions of blind indexes in constraints; what they judge on data is in ``integration/test_checks.py``."""

from __future__ import annotations

from typing import Any

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.policy.conditions import compiled
from tests.sql.ddl.test_conditions import sealed

LEFT = ["index", "left(@,2)", "text", ["value"]]


@pytest.mark.parametrize(
    ("check", "condition"),
    [
        ("left(ssn, 2) = 'ab'", ["=", LEFT, ["constant", "ab"]]),
        ("pg_catalog.left(ssn::text, 2) IN ('ab')", ["or", ["=", LEFT, ["constant", "ab"]]]),
        ("length(substr(ssn, 1, 2)) > 1", [">", ["length", LEFT], ["constant", 1]]),
        ("substring(ssn from 2) <> ''", ["<>", ["index", "substring(@,2)", "text", ["value"]], ["constant", ""]]),
    ],
)
def test_what_is_sealed(check: str, condition: list[Any]) -> None:
    assert sealed(check) == [condition]


@pytest.mark.parametrize(
    "check",
    [
        "left(lower(ssn), 2) = 'ab'",
        "soundex(ssn) = 'A100'",
        r"regexp_replace(ssn, '\D', '', 'g') <> ''",
        "left(ssn, 2) > 'a'",
        "reverse(ssn) = 'a'",
        "left(ssn, id) = 'a'",
        "extract(year from ssn) = 1",
    ],
)
def test_what_is_not_understood(check: str) -> None:
    with pytest.raises(StatementRefused):
        sealed(check)


def test_a_part_that_is_null_is_no_violation() -> None:
    judge = compiled(["=", ["number", ["index", "extract('month',@)", "date", ["value"]]], ["constant", 1]])
    assert [judge(value) for value in ("2000-01-31", "2000-02-01", "infinity", None)] == [True, False, None, None]
