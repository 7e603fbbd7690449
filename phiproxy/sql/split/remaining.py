"""A statement without what its source answers: the nodes that are left for the rest.

Queries are nested deeply, and their trees are gone through often: so these are loops, and no generators inside of generators.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from phiproxy.sql.text.parse import PARTS, Node


def nodes(tree: Any, gone: Collection[int]) -> Iterator[tuple[str, Node]]:
    """Yield every node with its type, but those with an id in ``gone`` and what is in them; TypeNames have theirs too."""
    pending = _parts(tree)
    while pending:
        key, value = pending.pop()
        if id(value) in gone:
            continue
        if key[:1].isupper():
            yield key, value
        elif key == "typeName":
            yield "TypeName", value
        if isinstance(value, PARTS):
            pending += _parts(value)


def _parts(tree: Any) -> list[tuple[str, Any]]:
    """Return what is directly below, the last first; what is in a list has no name."""
    parts = list(tree.items()) if isinstance(tree, dict) else [("", value) for value in tree if isinstance(value, PARTS)]
    parts.reverse()
    return parts


def bodies(tree: Any, gone: Collection[int]) -> Iterator[Node]:
    """Yield every message, typed or not, but those with an id in ``gone`` and what is in them."""
    pending = [tree]
    while pending:
        value = pending.pop()
        if id(value) in gone and value is not tree:
            continue
        if isinstance(value, dict):
            yield value
        parts = list(value.values() if isinstance(value, dict) else value)
        parts.reverse()
        pending += [part for part in parts if isinstance(part, PARTS)]
