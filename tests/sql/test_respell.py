"""References that get another name: one column, or the first of several that is not NULL."""

from __future__ import annotations

from phiproxy.sql.parse import only, parse
from phiproxy.sql.respell import Respelled, apply, is_reference, node_text, quoted, spelled_node, spelled_text

ONE = (("p", "mrn"),)
BOTH = (("p", "mrn"), ('v"w', "mrn"))


def test_the_text_is_what_the_tree_says() -> None:
    assert spelled_text(ONE) == b'"p"."mrn"'
    assert spelled_text(BOTH) == b'COALESCE("p"."mrn", "v""w"."mrn")'
    for spelled in (ONE, BOTH):
        target = parse(b"SELECT " + spelled_text(spelled))[0].body["targetList"][0]
        parsed = only(target)[1]["val"]
        assert node_text(parsed) == node_text(spelled_node(spelled))


def test_only_what_was_made_here_is_a_reference() -> None:
    assert is_reference(spelled_node(ONE))
    assert is_reference(spelled_node(BOTH))
    client = only(parse(b"SELECT coalesce(a, b)")[0].body["targetList"][0])[1]["val"]
    assert not is_reference(client)


def test_a_reference_keeps_its_place() -> None:
    node = {"ColumnRef": {"fields": [{"String": {"sval": "mrn"}}], "location": 7}}
    apply(Respelled(node, BOTH))
    assert node["CoalesceExpr"]["location"] == 7


def test_names_are_quoted() -> None:
    assert quoted('a"b') == '"a""b"'
