"""Rows of the server as relations, and a transaction's own changes over what all see. The queries are run in tests/net."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from phiproxy.errors import CatalogNeeded
from phiproxy.policy.catalog import Catalog, CatalogIndex
from phiproxy.policy.catalog_rows import changed, overlaid, relation
from phiproxy.policy.protection import Check
from phiproxy.policy.signature_queries import rows
from phiproxy.policy.signatures import Signatures

GUARD = "{CONST :consttype 17 :constlen -1 :location 1 :constvalue 6 [ 24 0 0 0 0 7 ]}"

DEFAULT = "{CONST :consttype 17 :consttypmod -1 :constisnull false :location 9 :constvalue 7 [ 28 0 0 0 -11 80 1 1 ]}"
CONDITION = (
    "{OPEXPR :args ({VAR :varno 1 :varattno 3 :vartype 17} {CONST :consttype 23 :constvalue 4 [ 13 0 0 0 0 0 0 0 ]}" + DEFAULT
)


def row(oid: int, name: str, *, guards: object = None, barrier: bool | None = None, by_command: bool = False) -> str:
    columns = [
        ["id", 1, 23, -1, True, True, False, None, None, None, None, None],
        ["ssn", 3, 17, -1, False, True, False, DEFAULT, None, None, None, None],
    ]
    indexes = [["i", True, False, ["id", "ssn"], False], ["t_pkey", True, True, ["id"], True]]
    return json.dumps(
        [
            oid,
            "public",
            name,
            "r",
            False,
            False,
            False,
            columns,
            [1],
            guards,
            indexes,
            [3, 4],
            ["id"],
            True,
            [["c", False, CONDITION]],
            500,
            barrier,
            by_command,
            False,
            False,
        ]
    )


def test_policies_of_single_commands() -> None:
    assert [relation(row(5, "t", by_command=said)).policies_by_command for said in (True, False)] == [True, False]


def test_a_security_barrier() -> None:
    assert [relation(row(5, "t", barrier=said)).barrier for said in (True, False, None)] == [True, False, False]


def test_a_relation() -> None:
    found = relation(row(5, "t", guards=[[3, GUARD, None], [1, "{CONST}", None], [9, None, None]]))
    assert [(c.name, c.attnum, c.not_null) for c in found.columns] == [("id", 1, True), ("ssn", 3, False)]
    assert found.key_columns == {"id"}
    assert (found.parents, set(found.partition_key)) == ((3, 4), {"id"})
    assert found.diverted
    assert [c.default for c in found.columns] == [None, b"\xf5\x50\x01\x01"]
    assert found.checks == (("ssn", Check("c", b"\xf5\x50\x01\x01", validated=False)),)
    assert found.guards == (("ssn", 7),)
    assert found.row_type == 500
    assert found.indexes == (
        CatalogIndex("i", unique=True, constraint=False, columns=("id", "ssn")),
        CatalogIndex("t_pkey", unique=True, constraint=True, columns=("id",), key=True),
    )


def test_a_collation_of_a_column_s_own() -> None:
    told = json.loads(row(5, "t"))
    told[7].append(["name", 4, 25, -1, False, False, False, None, "c", "pg_catalog", '"C"', None])
    found = relation(json.dumps(told))
    assert [(c.collation, c.provider) for c in found.columns] == [("", ""), ("", ""), ('pg_catalog."C"', "c")]


def test_an_overlay() -> None:
    nothing, own = "[null, null, null, null, null, null]", '[null, null, [["old", [], 0, 0, "f", 16]], null, null, null]'
    before = Signatures((rows(nothing), rows(own)))
    relations, views = (relation(row(5, "t")), relation(row(6, "gone"))), {8: "SELECT 1;", 9: "SELECT 2;"}
    base = Catalog(1, 160000, relations, {"v": "view"}, views=views, signatures=before)
    made = '[null, null, [["f", [25], 0, 0, "f", 16]], null, null, null]'
    told = ["[5, 7]", "[]", '[[9, "SELECT 3;"], [10, null]]', made, row(5, "renamed"), row(7, "made")]
    found = overlaid(base, [b64encode(text.encode()).decode() for text in told], (), {"w": "made here"}, lambda *_: b"")
    assert found.views == {8: "SELECT 1;", 9: "SELECT 3;"}
    assert found.signatures is not None
    assert [len(found.signatures.functions(name)) for name in ("f", "old")] == [1, 0]
    assert [r.name for r in found.relations] == ["renamed", "made"]
    assert set(found.reaching) == {"v", "w"}
    assert [r.name for r in base.relations] == ["t", "gone"]


def test_what_was_not_read_is_asked_for_in_the_transaction() -> None:
    base = Catalog(1, 160000, (relation(row(5, "t")),), names=frozenset({"t"}))
    told = ["[5]", "[]", "[]", "[null, null, null, null, null, null]", row(7, "made")]
    found = overlaid(base, [b64encode(text.encode()).decode() for text in told], {"made", "absent"}, {}, lambda *_: b"")
    assert found.find("public", "made") is not None
    assert found.find("public", "absent") is None
    with pytest.raises(CatalogNeeded):
        found.find("public", "other")


def test_a_name_whose_relation_was_dropped_is_no_longer_known_in_the_transaction() -> None:
    """Somebody may have created it again, which the catalogue that all share has not been read for yet."""
    base = Catalog(1, 160000, (relation(row(5, "t")), relation(row(6, "gone"))), names=frozenset({"t", "gone", "never"}))
    told = ["[5]", "[]", "[]", "[null, null, null, null, null, null]"]
    found = overlaid(base, [b64encode(text.encode()).decode() for text in told], {"absent"}, {}, lambda *_: b"")
    assert found.find("public", "t") is not None
    assert found.find("public", "absent") is None
    for name in ("gone", "never"):
        with pytest.raises(CatalogNeeded):
            found.find("public", name)


def test_names_are_quoted() -> None:
    base = Catalog(1, 160000, (relation(row(5, "t")),), names=frozenset({"t"}))
    assert b"ARRAY['a''b', 'c']::pg_catalog.name[]" in changed(base, ["c", "a'b"])
