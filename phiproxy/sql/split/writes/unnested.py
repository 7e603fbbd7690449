"""``unnest`` of given arrays in FROM, as VALUES that have its columns: what is made of a column is made of its array."""

from __future__ import annotations

from phiproxy.policy.signatures import Signatures
from phiproxy.sql.pg_errors.from_clause import unnested_arrays
from phiproxy.sql.text.parse import Node, only


def unnested_rows(signatures: Signatures, item: Node) -> Node | None:
    """Return the body of VALUES whose columns are the arrays that an item of FROM unnests; None of any other item.

    ``unnest($1::text[], $2::text[]) WITH ORDINALITY`` → ``VALUES ($1::text[], $2::text[], NULL)``
    """
    kind, body = only(item)
    arrays = unnested_arrays(signatures, body) if kind == "RangeFunction" else None
    if not arrays:
        return None
    numbered: list[Node] = [{"A_Const": {"isnull": True}}] if body.get("ordinality") else []
    return {"valuesLists": [{"List": {"items": [*arrays, *numbered]}}]}
