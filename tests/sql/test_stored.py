"""Tags are read from the generated columns that a table with row-level security has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.policy.guards import hidden_name
from phiproxy.sql.parse import parse
from phiproxy.sql.scope import Protected
from phiproxy.sql.stored import stored_tag, tag_text, tag_tree
from tests.session.screenplay import COLUMNS

COLUMN = next(c for c in COLUMNS if c.slots)
SLOT = COLUMN.slots[0]


@pytest.mark.parametrize(("named", "text"), [("c", ""), ("p.c", "p."), ('"P".\n"x.y"', '"P".\n')])
def test_a_tag_is_read_beside_its_column(named: str, text: str) -> None:
    stored = hidden_name(COLUMN, SLOT.number)
    assert tag_text(named, SLOT, stored) == f"{text}{stored}"
    assert "substring" in tag_text(named, SLOT, None)


def test_the_tree_is_that_of_the_text() -> None:
    (made,) = parse(b"SELECT p.c")
    reference = made.body["targetList"][0]["ResTarget"]["val"]
    for stored in ("phi_tag_c_0", None):
        (wanted,) = parse(f"SELECT {tag_text('p.c', SLOT, stored)}".encode())
        tree = tag_tree(reference, SLOT, stored)
        assert _placeless(tree) == _placeless(wanted.body["targetList"][0]["ResTarget"]["val"])


def _placeless(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: _placeless(value) for key, value in tree.items() if key != "location"}
    return [_placeless(part) for part in tree] if isinstance(tree, list) else tree


def test_only_tags_that_the_table_has_are_read() -> None:
    value = Protected(COLUMN, COLUMN.type, tags=((SLOT.number, "phi_tag_x"),))
    assert stored_tag(value, SLOT) == "phi_tag_x"
    assert stored_tag(value, replace(SLOT, number=9)) is None
