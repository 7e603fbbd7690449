"""A statement without what its source answers: the nodes that are left for the rest.

Queries are nested deeply, and their trees are gone through often: so these are loops, and no generators.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from phiproxy.sql.text.parse import LEAVES, PARTS, Node, messages


def nodes(tree: Any, gone: Collection[int]) -> list[tuple[str, Node]]:
    """Return every node with its type, but those with an id in ``gone`` and what is in them; TypeNames have theirs too."""
    found: list[tuple[str, Node]] = []
    pending: list[tuple[str, Any]] = [("", tree)]
    add, take, put = found.append, pending.pop, pending.append
    while pending:
        item = take()
        key, value = item
        if id(value) in gone and value is not tree:
            continue
        if "A" <= key < "[":  # a type's name begins with a capital; what is in a list has no name
            add(item)
        elif key == "typeName":
            add(("TypeName", value))
        if isinstance(value, dict):
            for below in reversed(value.items()):
                if below[1].__class__ not in LEAVES:
                    put(below)
        else:
            for part in reversed(value):
                if part.__class__ not in LEAVES:
                    put(("", part))
    return found


def bodies(tree: Any, gone: Collection[int]) -> list[Node]:
    """Return every message, typed or not, but those with an id in ``gone`` and what is in them."""
    if not gone and isinstance(tree, PARTS):
        return messages(tree)
    found: list[Node] = []
    pending: list[Any] = [tree]
    add, take, put = found.append, pending.pop, pending.append
    while pending:
        value = take()
        if id(value) in gone and value is not tree:
            continue
        if isinstance(value, dict):
            add(value)
            value = value.values()
        for part in reversed(value):
            if part.__class__ not in LEAVES:
                put(part)
    return found
