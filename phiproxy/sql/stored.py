"""Tags that a table has in generated columns of its own: read there instead of being computed where row-level security asks first.

The server asks its policies before it calls what is not leakproof, and ``substring`` is not (crypto.md section 1).
"""

from __future__ import annotations

import copy

from phiproxy.policy.guards import tag_of
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import Slot
from phiproxy.sql.parse import Node, only, tokens
from phiproxy.sql.scope import Protected
from phiproxy.sql.wrap import expression_tree

_HOLE = "phi_x"


def stored_tag(value: Protected, slot: Slot) -> str | None:
    """Return the generated column that holds a tag of a table's column, or None where there is none."""
    return dict(value.tags).get(slot.number)


def tag_text(named: str, slot: Slot, stored: str | None) -> str:
    """Return the text of a tag of the column that ``named`` refers to: ``stored`` of the same table, or what is computed."""
    if stored is None:
        return tag_of(named, slot)
    text = named.encode()
    return text[: tokens(text)[-1].start].decode() + quote_ident(stored)


def tag_tree(column: Node, slot: Slot, stored: str | None) -> Node:
    """Return the tree of the same, over a reference to the column."""
    if stored is None:
        return expression_tree(tag_of(_HOLE, slot), {_HOLE: column})
    made = copy.deepcopy(column)
    only(made)[1]["fields"][-1] = {"String": {"sval": stored}}
    return made
