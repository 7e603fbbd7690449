"""An edited tree: what stands in the place of a part, beside a tree that stays what it was."""

from __future__ import annotations

import copy
from typing import Any

from phiproxy.policy.column_types import builtin
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.text.parse import parse
from phiproxy.sql.values.operands import Named


def tree(text: str) -> EditedTree:
    (statement,) = parse(text.encode())
    return EditedTree({statement.kind: statement.body})


def target(of: EditedTree) -> Any:
    return of.root["SelectStmt"]["targetList"][0]["ResTarget"]["val"]


def says(of: EditedTree, text: str) -> bool:
    return of.same(tree(text).root)


def test_the_client_s_tree_stays_what_it_was() -> None:
    edited = tree("SELECT a + b FROM t")
    before = copy.deepcopy(edited.root)
    operator = target(edited)["A_Expr"]
    edited.replace(operator["lexpr"], operator["rexpr"])
    edited.edit(edited.root["SelectStmt"])["whereClause"] = operator["rexpr"]
    assert says(edited, "SELECT b + b FROM t WHERE b")
    assert edited.root == before


def test_what_is_replaced_later_is_replaced_wherever_it_went() -> None:
    edited = tree("SELECT a::text FROM t")
    cast = target(edited)
    edited.replace(cast, cast["TypeCast"]["arg"])
    edited.replace(cast["TypeCast"]["arg"], target(tree("SELECT f(b)")))
    assert says(edited, "SELECT f(b) FROM t")


def test_something_around_a_part() -> None:
    edited = tree("SELECT a FROM t")
    around = target(tree("SELECT f(x)"))
    around["FuncCall"]["args"] = [dict(edited.now(target(edited)))]
    edited.replace(target(edited), around)
    assert says(edited, "SELECT f(a) FROM t")


def test_a_list_is_edited_too_and_a_copy_has_all_of_it() -> None:
    edited = tree("SELECT a FROM t")
    targets = edited.root["SelectStmt"]["targetList"]
    edited.edit(targets).append(tree("SELECT b").root["SelectStmt"]["targetList"][0])
    assert edited.edit(targets) is edited.edit(targets)
    assert len(targets) == 1
    assert says(EditedTree(edited.copy(edited.root)), "SELECT a, b FROM t")


def test_a_copy_keeps_what_is_known_of_types() -> None:
    named = Named({"names": []}, builtin("text"))
    edited = EditedTree({"TypeCast": {"typeName": named}})
    assert edited.copy(edited.root)["TypeCast"]["typeName"] is named


def test_trees_that_are_not_the_same() -> None:
    for text in (
        "SELECT b FROM t",
        "SELECT a, b FROM t",
        "SELECT a",
        "SELECT a FROM t LIMIT 1",
        "SELECT 1 FROM t",
        "DELETE FROM t",
    ):
        assert not says(tree("SELECT a FROM t"), text)
    assert says(tree("SELECT a FROM t"), "select   a\nfrom t")
