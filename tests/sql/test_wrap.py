"""What is put around: the order of inserts at one place, and trees from SQL with holes."""

from __future__ import annotations

from phiproxy.policy.guards import tag_of
from phiproxy.policy.protection import Slot
from phiproxy.sql.parse import only, parse, without_locations
from phiproxy.sql.wrap import Insert, expression_tree, merged


def test_inner_ones_are_inside() -> None:
    found = merged(
        [Insert(3, b"i("), Insert(9, b")i", closing=True), Insert(3, b"o("), Insert(9, b")o", closing=True), Insert(9, b"n(")]
    )
    assert found == {3: b"o(i(", 9: b")i)on("}


def test_holes_are_filled_with_copies() -> None:
    column = {"ColumnRef": {"fields": [{"String": {"sval": "c"}}], "location": 7}}
    made = expression_tree(tag_of("phi_x", Slot(1, "@", 1, "active")), {"phi_x": column})
    (statement,) = parse(b"SELECT pg_catalog.substring(c, 29, 16)")
    assert without_locations(made) == without_locations(only(statement.body["targetList"][0])[1]["val"])
    assert made["FuncCall"]["args"][0] is not column
