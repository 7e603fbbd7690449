"""ALTER VIEW of views over protected tables. Fixtures: views_and_functions.sql."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from tests.fixtures.model import VIEW, planner


def sent(statement: str) -> str:
    return planner().statement(statement.encode(), (), VIEW).sql.decode()


@pytest.mark.parametrize(
    "what",
    ["RENAME TO shelbyville", "RENAME COLUMN social TO number", "SET SCHEMA archive", "OWNER TO somebody",
     "SET (security_barrier = true)", "RESET (security_invoker)"],
)  # fmt: skip
def test_it_is_sent_with_the_schema_of_the_view(what: str) -> None:
    assert sent(f"ALTER VIEW springfield {what}") == f"ALTER VIEW public.springfield {what}"


@pytest.mark.parametrize("what", ["RENAME TO patients", "ALTER social SET DEFAULT 'x'"])
def test_refused(what: str) -> None:
    with pytest.raises(StatementRefused):
        sent(f"ALTER VIEW springfield {what}")


def test_a_view_of_nothing_protected_is_the_server_s() -> None:
    assert sent("ALTER VIEW elsewhere RENAME TO there") == "ALTER VIEW elsewhere RENAME TO there"
