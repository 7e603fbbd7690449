"""Functions that a blind index may use, in conditions: of a constraint over one value they are computed as an index is.

Not those that need to know upper and lower case or digits beyond ASCII, which the server's locale decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from phiproxy.errors import ConfigError
from phiproxy.index.normal import normal
from phiproxy.index.spelling import Call, Cast, Column, Expression, write
from phiproxy.index.transform import short_type, transform
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.derived import own_name
from phiproxy.sql.parse import Node, only
from phiproxy.sql.spelling import read_tree

_KNOWN = frozenset({"left", "right", "substring", "replace", "translate", "extract", "date_part", "date_trunc"})
# What is made of a result's canonical form to be compared, and what it is called in a condition.
_RESULTS = {
    "text": (None, "text"),
    "numeric": ("number", "number"),
    "float8": ("double", "float"),
    "timestamp": ("moment", "timestamp"),
}


def indexed_term(a: Analysis, node: Node, column: ProtectedColumn) -> tuple[list[Any], str] | None:
    """Return a call of such functions over the one value as a term of a condition, and what it is; None for any other."""
    found = read_tree(node, _value, partial(own_name, a))
    if found is None or not _KNOWN.issuperset(_names(found)):
        return None
    over = column.type.indexed_as
    try:
        spelled = write(normal(found, over))
        result = _RESULTS.get(short_type(transform(spelled, over).result))
    except ConfigError:
        return None
    if result is None:
        return None
    kind, name = result
    tree: list[Any] = ["index", spelled, over, ["value"]]
    return (tree if kind is None else [kind, tree]), name


def _value(node: Node) -> Expression | None:
    return Column() if only(node)[0] == "ColumnRef" else None


def _names(expression: Expression) -> Iterator[str]:
    match expression:
        case Call(name=name, arguments=arguments):
            yield {"substr": "substring"}.get(name, name)
            for argument in arguments:
                yield from _names(argument)
        case Cast(argument=argument):
            yield from _names(argument)
