"""What is stored by one text: rows of one statement, and of several, are never taken for each other."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.rewritten_text import prove, rendered_of
from phiproxy.sql.result import Answered, Edit
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import parse
from phiproxy.sql.values.uses import Store
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ciphers

VIEW = View(PATH, "clinic", catalog_fresh=True)
TEXT = (
    "INSERT INTO patients (ssn, notes) VALUES ('a', 'b'), ('c', 'd'); UPDATE patients SET ssn = 'e'; DELETE FROM visits; "
    "INSERT INTO visits (mrn) VALUES ('f')"
)


def tree(text: bytes) -> EditedTree:
    (statement,) = parse(text)
    return EditedTree({statement.kind: statement.body})


def test_statements_of_one_string_store_into_rows_of_their_own() -> None:
    planner = Planner(PROTECTION, CATALOG, full_ciphers())
    made = planner.script(TEXT.encode(), VIEW).rendered
    assert made is not None
    rows = [o.use.row for o in made.occurrences if isinstance(o.use, Store)]
    assert rows[0] == rows[1]
    assert rows[2] == rows[3]
    assert len({rows[0], rows[2], rows[4], rows[5]}) == 4
    # The template of simple queries of the shape tells them apart too.
    found = planner.simple_query(TEXT.encode(), PATH, frozenset())
    assert found is not None
    assert [use.row for use, _, _ in found[0].outputs if isinstance(use, Store)] == rows


def test_nothing_is_rewritten() -> None:
    assert rendered_of(b"SELECT 1", [Answered("select", 0, 8)]) is None
    prove(b"SELECT 1", [Answered("select", 0, 8)])


def test_a_rewrite_that_is_not_what_was_meant_is_refused() -> None:
    answer = Answered("select", 0, 8, edits=[Edit(7, 8, b"2")], tree=tree(b"SELECT 2"))
    prove(b"SELECT 1", [answer])
    assert answer.tree is None, "nobody keeps it"
    answer.tree = tree(b"SELECT 3")
    with pytest.raises(StatementRefused, match="not what was meant"):
        prove(b"SELECT 1", [answer])
