"""Trees from SQL with holes, and texts that parse to the trees beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.policy.physical_columns import hidden_name, tag_of
from phiproxy.policy.protection import Slot
from phiproxy.sql.resolve.protected_values import Protected
from phiproxy.sql.result import Occurrence
from phiproxy.sql.rewrite.references_and_markers import (
    expression_tree,
    fixed_word,
    is_reference,
    marked_node,
    marker,
    node_text,
    spelled_node,
    spelled_text,
    tag_text,
    tag_tree,
)
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import only, parse, without_locations
from phiproxy.sql.values.uses import NULLNESS, Search, Store, Use
from tests.clinic_model import ACTIVE, PATIENTS
from tests.session.screenplay import COLUMNS


def test_holes_are_filled_with_copies() -> None:
    column = {"ColumnRef": {"fields": [{"String": {"sval": "c"}}], "location": 7}}
    tree = expression_tree(tag_of("phi_x", Slot(1, "@", 1, "active")), {"phi_x": column})
    (statement,) = parse(b"SELECT pg_catalog.substring(c, 29, 16)")
    assert without_locations(tree) == without_locations(only(statement.body["targetList"][0])[1]["val"])
    assert tree["FuncCall"]["args"][0] is not column


COLUMN = next(c for c in COLUMNS if c.slots)
SLOT = COLUMN.slots[0]


@pytest.mark.parametrize(("named", "text"), [("c", ""), ("p.c", "p."), ('"P".\n"x.y"', '"P".\n')])
def test_a_tag_is_read_beside_its_column(named: str, text: str) -> None:
    stored = hidden_name(COLUMN, SLOT.number)
    assert tag_text(named, SLOT, stored) == f"{text}{stored}"
    assert "substring" in tag_text(named, SLOT, None)


def test_the_tree_is_that_of_the_text() -> None:
    (statement,) = parse(b"SELECT p.c")
    reference = statement.body["targetList"][0]["ResTarget"]["val"]
    for stored in ("phi_tag_c_0", None):
        (wanted,) = parse(f"SELECT {tag_text('p.c', SLOT, stored)}".encode())
        tree = tag_tree(reference, SLOT, stored)
        assert without_locations(tree) == without_locations(wanted.body["targetList"][0]["ResTarget"]["val"])


def test_only_tags_that_the_table_has_are_read() -> None:
    value = Protected(COLUMN, COLUMN.type, tags=((SLOT.number, "phi_tag_x"),))
    assert value.stored_tag(SLOT) == "phi_tag_x"
    assert value.stored_tag(replace(SLOT, number=9)) is None


SSN = PATIENTS.columns["ssn"]


@pytest.mark.parametrize(
    "use", [Store(SSN, 1), Search(SSN, ACTIVE[0], SSN.type), Search(SSN, ACTIVE[0], SSN.type, elements=True), NULLNESS]
)
@pytest.mark.parametrize("null", [False, True])
def test_the_text_parses_to_the_node(use: Use, null: bool) -> None:
    text = b"SELECT " + marker(Occurrence(0, 1, use, literal=None if null else b"x"))
    parsed = parse(text)[0].body["targetList"][0]["ResTarget"]["val"]
    assert EditedTree(marked_node(use, null=null)).same(parsed)
    assert fixed_word(use) is None


ONE = (("p", "mrn"),)
BOTH = (("p", "mrn"), ('v"w', "mrn"))


def test_the_text_is_what_the_tree_says() -> None:
    assert spelled_text(ONE) == '"p"."mrn"'
    assert spelled_text(BOTH) == 'COALESCE("p"."mrn", "v""w"."mrn")'
    for spelled in (ONE, BOTH):
        target = parse(f"SELECT {spelled_text(spelled)}".encode())[0].body["targetList"][0]
        parsed = only(target)[1]["val"]
        assert node_text(parsed) == node_text(spelled_node(spelled))


def test_only_what_was_made_here_is_a_reference() -> None:
    assert is_reference(spelled_node(ONE))
    assert is_reference(spelled_node(BOTH))
    client = only(parse(b"SELECT coalesce(a, b)")[0].body["targetList"][0])[1]["val"]
    assert not is_reference(client)
