"""Rows of the server as relations, and a transaction's own changes over what all see. The queries are run in tests/net."""

from __future__ import annotations

import json

from phiproxy.policy.catalog import Catalog, CatalogIndex
from phiproxy.policy.snapshot import changed, overlaid, relation

GUARD = "{CONST :consttype 17 :constlen -1 :location 1 :constvalue 6 [ 24 0 0 0 0 7 ]}"


def row(oid: int, name: str, *, guards: object = None) -> str:
    columns = [["id", 1, 23, -1, True, True, False], ["ssn", 3, 17, -1, False, False, False]]
    indexes = [["i", True, False, ["id", "ssn"]]]
    return json.dumps([oid, "public", name, "r", False, False, False, columns, [1], guards, indexes, [3, 4], ["id"], True])


def test_a_relation() -> None:
    found = relation(row(5, "t", guards=[[3, GUARD], [1, "{CONST}"], [9, None]]))
    assert [(c.name, c.attnum, c.not_null) for c in found.columns] == [("id", 1, True), ("ssn", 3, False)]
    assert found.key_columns == {"id"}
    assert (found.parents, set(found.partition_key)) == ((3, 4), {"id"})
    assert found.diverted
    assert found.guards == (("ssn", 7),)
    assert found.indexes == (CatalogIndex("i", unique=True, constraint=False, columns=("id", "ssn")),)


def test_an_overlay() -> None:
    base = Catalog(1, 160000, (relation(row(5, "t")), relation(row(6, "gone"))), {"v": "view"})
    found = overlaid(base, ["[5, 7]", row(5, "renamed"), row(7, "made")], {"w": "made here"})
    assert [r.name for r in found.relations] == ["renamed", "made"]
    assert set(found.reaching) == {"v", "w"}
    assert [r.name for r in base.relations] == ["t", "gone"]


def test_names_are_quoted() -> None:
    assert b"ARRAY['a''b', 'c']::pg_catalog.name[]" in changed(["c", "a'b"])
