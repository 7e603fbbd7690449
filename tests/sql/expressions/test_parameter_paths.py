"""Comparisons with paths whose steps are parameters."""

from __future__ import annotations

import pytest

from tests.fixtures.model import VIEW, planner
from tests.sql.ask import ask


def _slots(condition: str) -> list[int]:
    """Return the slots whose tags are compared."""
    server = ask(f"SELECT id FROM charts WHERE {condition}", VIEW, planner())
    return [slot for slot in range(6) if f"substring(doc, {13 + 16 * slot}, 16)" in server]


@pytest.mark.parametrize(
    ("condition", "slots"),
    [
        ("doc ->> $1 = $2", [0, 1, 4]),
        ("(doc ->> $1::text) = $2::varchar AND ward = $3", [0, 1, 4]),
        ("(doc[$1::text] ->> $2::text) = $3", [0, 1, 4]),
        ("CAST((doc ->> $1::text) AS varchar) = lower($2)", [0, 1, 4]),
        ("lower(doc ->> $1) = lower($2)", [3]),
        ("doc -> 'name' ->> $1 = 'x' OR id = 1", [0, 1, 4]),
        ("NOT doc ->> $1 = $2", []),
        ("(doc ->> $1 = $2) IS TRUE", []),
        ("upper(doc ->> $1) = $2", []),
        ("doc ->> $1::int = $2", []),
        ("doc -> $1 = $2", []),
        ("doc ->> $1 = ward", []),
        ("doc ->> $1 <> $2", []),
        ("raw ->> $1 = $2", []),
    ],
)
def test_the_indexes_that_may_answer_are_asked(condition: str, slots: list[int]) -> None:
    assert _slots(condition) == slots


def test_parameters_are_described_as_texts() -> None:
    plan = planner().statement(b"SELECT id FROM charts WHERE doc ->> $1 = $2 AND id = $3", (), VIEW)
    assert list(plan.described) == [25, 25, None]


def test_a_step_that_is_also_shown_is_refused() -> None:
    assert ask("SELECT id, $1::text FROM charts WHERE doc ->> $1::text = $2", VIEW, planner()) == "0A000"
