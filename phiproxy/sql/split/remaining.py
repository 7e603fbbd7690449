"""A statement without what its source answers: the nodes that are left for the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from phiproxy.sql.text.parse import Node


def nodes(tree: Any, gone: Collection[int]) -> Iterator[tuple[str, Node]]:
    """Yield every node with its type, but those with an id in ``gone`` and what is in them; TypeNames have theirs too."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if id(value) in gone:
                continue
            if key[:1].isupper():
                yield key, value
            elif key == "typeName":
                yield "TypeName", value
            if isinstance(value, dict | list):
                yield from nodes(value, gone)
    else:
        for value in tree:
            if isinstance(value, dict | list) and id(value) not in gone:
                yield from nodes(value, gone)


def bodies(tree: Any, gone: Collection[int]) -> Iterator[Node]:
    """Yield every message, typed or not, but those with an id in ``gone`` and what is in them."""
    if isinstance(tree, dict):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, dict | list) and id(value) not in gone:
            yield from bodies(value, gone)
