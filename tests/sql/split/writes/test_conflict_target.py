"""ON CONFLICT DO UPDATE to what is computed of the row: which triggers and policies stand in the way, and which do not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import Catalog
from phiproxy.sql.context import Context
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Refused, Split
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import VIEW, planner

INTO = "INSERT INTO members AS m (mrn, email) VALUES ('a', 'b') ON CONFLICT (mrn) DO UPDATE SET email = m.email || "
SEVERAL = INTO.replace("('a', 'b')", "('a', 'b'), ('c', 'd')")
OF_A_QUERY = INTO.replace("VALUES ('a', 'b')", "SELECT mrn, notes FROM patients")


def _split(text: str, **of_members: Any) -> tuple[Split | None, str | None]:
    """Return how a statement is split where the table is such, and the hint of its refusal."""
    there = planner(15)
    relations = tuple(dataclasses.replace(r, **of_members) if r.name == "members" else r for r in there.catalog.relations)
    catalog: Catalog = dataclasses.replace(there.catalog, relations=relations)
    context = Context(there.protection, catalog, VIEW.path, VIEW.database, default_text=there.ciphers.default_text)
    (statement,) = parse(text.encode())
    outcome = analyse(statement, text.encode(), context)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, StatementRefused)
    return split_statement(statement, text.encode(), context, outcome.error), outcome.error.hint


@pytest.mark.parametrize("text", [INTO, SEVERAL, OF_A_QUERY])
def test_policies_do_not_stand_in_the_way(text: str) -> None:
    for by_command in (True, False):
        split, _ = _split(text + "EXCLUDED.email", row_security=True, policies_by_command=by_command)
        assert split is not None
        assert split.write is not None
        assert split.write.again


@pytest.mark.parametrize("text", [INTO, SEVERAL, OF_A_QUERY])
def test_with_triggers_before_it_is_of_the_row_that_is_there(text: str) -> None:
    """It is never executed again, which would run the triggers a second time."""
    split, _ = _split(text + "'!'", diverted=True)
    assert split is not None
    assert split.write is not None
    assert not split.write.again
    for changed in ("EXCLUDED.email", "'!' WHERE m.email > 'a'", "'!' WHERE m.note = 'a'"):
        split, hint = _split(text + changed, diverted=True)
        assert split is None
        assert "place of EXCLUDED" in (hint or "")


@pytest.mark.parametrize("text", [INTO, SEVERAL, OF_A_QUERY])
def test_a_proposed_value_that_a_default_takes_the_place_of(text: str) -> None:
    for word, taken in (("SYSTEM", True), ("USER", False)):
        overriding = text.replace("email) ", f"email) OVERRIDING {word} VALUE ", 1)
        split, _ = _split(overriding + "'!'")
        assert (split is not None) == taken


@pytest.mark.parametrize("triggers", ["row_triggers", "diverted", "statement_triggers"])
def test_triggers_may_look_at_what_rows_before_have_drawn(triggers: str) -> None:
    several = SEVERAL.replace("(mrn, email)", "(mrn, id)").replace("'b'", "1").replace("'d'", "2") + "nextval('numbers')"
    split, _ = _split(several)
    assert split is not None
    split, hint = _split(several, **{triggers: True})
    assert split is None
    assert "SELECT nextval" in (hint or "")


@pytest.mark.parametrize("by_command", [True, False])
def test_what_is_chosen_by_the_plaintext_needs_policies_for_all_commands(*, by_command: bool) -> None:
    statements = (
        "DELETE FROM members WHERE email ILIKE 'a%'",
        "MERGE INTO members m USING visits v ON v.mrn = m.mrn WHEN MATCHED THEN UPDATE SET email = m.email || v.room",
    )
    for text in statements:
        split, hint = _split(text, row_security=True, policies_by_command=by_command)
        assert (split is None) == by_command
        assert ("FOR ALL" in (hint or "")) == by_command
    split, _ = _split("UPDATE members SET email = email || 'x'", row_security=True, policies_by_command=by_command)
    assert split is not None, "PostgreSQL, too, changes the rows only that may be seen and changed"
