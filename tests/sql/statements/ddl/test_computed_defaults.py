"""The text of a computed default: without comments, and in the catalogue inside of a call that fails."""

from __future__ import annotations

import pytest

from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.policy.physical_columns import COMPUTED_DEFAULT
from phiproxy.sql.result import Answered
from phiproxy.sql.rewrite.apply_edits import Rendered
from tests.fixtures.model import VIEW, planner


def _answer(text: str) -> Answered:
    there = planner()
    (answer,) = Planner(there.protection, there.catalog, there.ciphers, EngineFacts()).answers(text.encode(), VIEW)
    return answer


def _sent(text: str) -> str:
    answer = _answer(text)
    return Rendered(text.encode(), answer.edits, answer.occurrences).fill(lambda _i, _o: b"'x'::bytea").decode()


def test_comments_are_no_part_of_it() -> None:
    answer = _answer("ALTER TABLE tasks ALTER task_text SET DEFAULT upper( /* why */ 'x') -- now\n || 'y'\n  'z'")
    assert answer.occurrences[0].literal == b"upper( 'x')\n|| 'y'\n  'z'"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("ALTER TABLE tasks ALTER task_text SET DEFAULT upper('x'), ALTER ward SET DEFAULT 'y'", "SET DEFAULT {}, ALTER"),
        ("ALTER TABLE tasks ALTER task_text SET DEFAULT NULL", "ALTER COLUMN task_text DROP DEFAULT"),
        ("ALTER TABLE tasks ALTER task_text DROP DEFAULT", "ALTER task_text DROP DEFAULT"),
    ],
)  # fmt: skip
def test_what_the_server_gets(text: str, sent: str) -> None:
    lead, trail = COMPUTED_DEFAULT
    assert sent.format(f"{lead}'x'::bytea{trail}") in _sent(text)


def test_a_column_that_is_added_gets_it_behind() -> None:
    text = "ALTER TABLE tasks ADD COLUMN task_due date DEFAULT current_date + 1 NOT NULL, ADD COLUMN city text DEFAULT 'x'"
    sent, (lead, trail) = _sent(text), COMPUTED_DEFAULT
    assert f", ALTER COLUMN task_due SET DEFAULT {lead}'x'::bytea{trail}, ADD COLUMN city" in sent
    assert "current_date" not in sent
    assert "NOT NULL" in sent
