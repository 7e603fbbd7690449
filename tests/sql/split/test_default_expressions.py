"""Which expressions may be defaults: those that an engine computes as PostgreSQL does, whoever asks, and whenever."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.sql.values.uses import Define
from tests.fixtures.model import VIEW, planner

SET = "ALTER TABLE {} ALTER {} SET DEFAULT {}"


def definition(expression: str, *, table: str = "tasks", column: str = "task_text", engine: bool = True) -> bytes:
    """Return the text that is sealed; StatementRefused."""
    there = planner()
    facts = EngineFacts() if engine else None
    own = Planner(there.protection, there.catalog, there.ciphers, facts)
    (answer,) = own.answers(SET.format(table, column, expression).encode(), VIEW)
    (occurrence,) = answer.occurrences
    assert isinstance(occurrence.use, Define)
    assert occurrence.use.default
    assert occurrence.literal is not None
    return occurrence.literal


@pytest.mark.parametrize(
    "expression",
    [
        "upper('x')",
        "'M' || to_char(now(), 'YYYY')",
        "current_user",
        "now()::text",
        "current_date",
        "gen_random_uuid()::text",
        "CASE WHEN extract(hour FROM localtime) < 12 THEN 'morning' ELSE 'afternoon' END",
        "(current_date - interval '1 day')::text",
        "session_user || ''",
        "repeat('x', 3)",
        "(timestamptz '2024-01-01 00:00+00' + interval '2 days 3 hours')::text",
        "'12 Main Street'::text || ''",
        "md5('12/11/10'::text)",
    ],
)
def test_computed(expression: str) -> None:
    assert definition(expression) == expression.encode()


def test_as_another_type() -> None:
    assert definition("current_date + 30", column="task_due") == b"current_date + 30"
    assert definition("now()", column="task_due") == b"now()"  # an assignment makes a date of it, as in PostgreSQL


@pytest.mark.parametrize(
    ("expression", "sqlstate", "said"),
    [
        ("nextval('numbers')", "0A000", "Built-in"),
        ("random()::text", "0A000", "Built-in"),
        ("current_setting('a.b')", "0A000", "without a constant"),
        ("'tomorrow'::date::text || ''", "0A000", "without a constant"),
        ("to_regclass('x')::text", "0A000", ""),
        ("date '01/02/2024' || ''", "0A000", "YYYY-MM-DD"),
        ("age(now(), 'Jan 8 1999')::text", "0A000", "YYYY-MM-DD"),
        ("timestamptz '2024-01-01 00:00' || ''", "0A000", "offset"),
        ("interval '-1 2:03' || ''", "0A000", "interval in words"),
        (r"upper('\xf5500101')", "0A000", "past the proxy"),
        ("ward || 'x'", "0A000", "application"),
        ("(SELECT 'x' || 'y')", "0A000", "application"),
        ("pairs()::text", "0A000", ""),
    ],
)
def test_refused(expression: str, sqlstate: str, said: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        definition(expression)
    assert refused.value.sqlstate == sqlstate
    assert said in (refused.value.hint or "")
    assert refused.value.position is not None


def test_of_another_type() -> None:
    with pytest.raises(StatementRefused, match="default expression is of type text") as refused:
        definition("md5('x')", column="task_due")
    assert refused.value.sqlstate == "42804"


def test_without_an_engine() -> None:
    with pytest.raises(StatementRefused, match="the server would compute a default") as refused:
        definition("upper('x')", engine=False)
    assert "compute.engine: embedded" in (refused.value.hint or "")
