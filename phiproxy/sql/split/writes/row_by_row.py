"""The clauses of a write that PostgreSQL evaluates row by row, and that hold nothing over several rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from phiproxy.policy.signatures import Signatures
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.text.parse import Node, Statement, messages, strings

_RETURNING = ("returningClause", "returningList")
_CLAUSES = {
    "DeleteStmt": _RETURNING,
    "InsertStmt": _RETURNING,
    "MergeStmt": _RETURNING,
    "MergeWhenClause": ("condition", "targetList", "values"),
    "UpdateStmt": ("targetList", *_RETURNING),
    "onConflictClause": ("targetList", "whereClause"),
}
_OF_SEVERAL_ROWS = frozenset("aw")


def check_row_by_row(statement: Statement, signatures: Signatures) -> None:
    """Go on where nothing that is given, returned or a condition of MERGE is an aggregate, window function or set; Impossible.

    In the select list of a rest it would be accepted, and mean something else.

    UPDATE patients SET city = 'x' RETURNING max(ssn)
    → refused 42803
    """
    for body in messages({statement.kind: statement.body}):
        for kind, keys in _CLAUSES.items():
            clause = body.get(kind)
            if isinstance(clause, dict):
                for call in _calls([clause.get(key) for key in keys]):
                    _check(call, signatures)
                query = clause.get("selectStmt", {}).get("SelectStmt", {})
                for call in _calls(query.get("valuesLists", ())):
                    _check(call, signatures)


def _calls(tree: Any) -> Iterator[Node]:
    """Yield the calls in a tree, but for those in subqueries."""
    if isinstance(tree, dict):
        if "SubLink" in tree:
            return
        if "FuncCall" in tree or "GroupingFunc" in tree:
            yield tree
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, dict | list):
            yield from _calls(value)


def _check(call: Node, signatures: Signatures) -> None:
    body = call.get("FuncCall", {})
    functions = signatures.functions(strings(body["funcname"])[-1]) if body else ()
    if not body or "over" in body or any(f.kind in _OF_SEVERAL_ROWS or f.rows for f in functions):
        raise Impossible("something of several rows where values are of one")
