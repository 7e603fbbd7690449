"""Given arrays and documents in FROM, as VALUES that have their columns: what is made of a column is made of its part of these."""

from __future__ import annotations

from typing import Final

from phiproxy.policy.signatures import Signatures
from phiproxy.sql.pg_errors.from_clause import unnested_arrays
from phiproxy.sql.text.parse import Node, is_plain_call, only, strings

RECORDS: Final = frozenset({"json_to_record", "json_to_recordset", "jsonb_to_record", "jsonb_to_recordset"})
"""Functions that give the members of a document, or of each in an array of them, as columns of the same names."""


def unnested_rows(signatures: Signatures, item: Node) -> Node | None:
    """Return the body of VALUES whose columns are the parts of given values that an item of FROM gives; None of any other item.

    ``unnest($1::text[], $2::text[]) WITH ORDINALITY`` → ``VALUES ($1::text[], $2::text[], NULL)``

    ``jsonb_to_recordset($1) AS x (id int, note text)`` → ``VALUES (($1).id, ($1).note)``
    """
    kind, body = only(item)
    if kind != "RangeFunction":
        return None
    parts = _members(signatures, body) if "coldeflist" in body else unnested_arrays(signatures, body)
    if not parts:
        return None
    numbered: list[Node] = [{"A_Const": {"isnull": True}}] if body.get("ordinality") else []
    return {"valuesLists": [{"List": {"items": [*parts, *numbered]}}]}


def member_of(node: Node) -> str:
    """Return the name of the member that such a column is of its document; "" of any other expression."""
    (*_, name) = node.get("A_Indirection", {}).get("indirection", [{}])
    return str(name.get("String", {}).get("sval", ""))


def _members(signatures: Signatures, body: Node) -> list[Node]:
    """Return the columns of a given document, of which each has another member of it; none of any other item."""
    (function, *others) = (only(node)[1]["items"] for node in body["functions"])
    kind, call = only(function[0])
    *schema, name = strings(call.get("funcname")) or [""]
    if others or kind != "FuncCall" or not is_plain_call(call) or schema not in ([], ["pg_catalog"]) or name not in RECORDS:
        return []
    document = call["args"][0]
    while "TypeCast" in document:
        document = document["TypeCast"]["arg"]
    names = [only(node)[1]["colname"] for node in body["coldeflist"]]
    given = not document.keys().isdisjoint(("ParamRef", "A_Const"))
    if not given or len(set(names)) < len(names) or signatures.own_functions(name):
        return []
    return [{"A_Indirection": {"arg": call["args"][0], "indirection": [{"String": {"sval": member}}]}} for member in names]
