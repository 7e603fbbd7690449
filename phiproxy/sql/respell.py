"""Column references that the server must see under another name: the columns of a join that was given another form."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.scope import Scope, SourceColumn, Spelled, Value, resolve

if TYPE_CHECKING:
    from phiproxy.sql.analysis import Analysis


@dataclass(frozen=True, slots=True)
class Respelled:
    """A reference and how the server is to find its column."""

    node: Node
    spelled: Spelled


def column_of(a: Analysis, node: Node, scope: Scope) -> SourceColumn:
    """Return the column that a ColumnRef node means, and note how the server must be told of it."""
    body = only(node)[1]
    column = resolve(scope, strings(body["fields"]), a.position(body) if "location" in body else 1)
    if column.spelled:
        a.respelled[id(node)] = Respelled(node, column.spelled)
    return column


def value_of(a: Analysis, node: Node, scope: Scope) -> Value:
    """Return the value that a ColumnRef node means."""
    return column_of(a, node, scope).value


def reference(a: Analysis, node: Node) -> Node:
    """Return a copy of a ColumnRef node, as the server must see it, to be spelled elsewhere."""
    found = a.respelled.get(id(node))
    return copy.deepcopy(node) if found is None else spelled_node(found.spelled)


def is_reference(node: Node) -> bool:
    """Tell whether a node is a column, or what ``spelled_node`` made of one."""
    kind, body = only(node)
    return kind == "ColumnRef" or (
        kind == "CoalesceExpr" and all("ColumnRef" in c and "location" not in only(c)[1] for c in body["args"])
    )


def node_text(node: Node) -> str:
    """Return the text of a reference that this package made."""
    kind, body = only(node)
    columns = body["args"] if kind == "CoalesceExpr" else [node]
    pairs = [strings(only(column)[1]["fields"]) for column in columns]
    names = [".".join(quoted(part) for part in pair) for pair in pairs]
    return names[0] if len(names) == 1 else f"COALESCE({', '.join(names)})"


def quoted(name: str) -> str:
    """Return a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def spelled_text(spelled: Spelled) -> bytes:
    """Return the columns as text: ``"t"."c"``, or COALESCE of several."""
    return node_text(spelled_node(spelled)).encode()


def spelled_node(spelled: Spelled) -> Node:
    """Return the tree of ``spelled_text``."""
    columns: list[Node] = [{"ColumnRef": {"fields": [{"String": {"sval": part}} for part in pair]}} for pair in spelled]
    return columns[0] if len(columns) == 1 else {"CoalesceExpr": {"args": columns}}


def apply(respelled: Respelled) -> None:
    """Turn the reference's node into what the server sees; it keeps its place in the text."""
    body = only(respelled.node)[1]
    made = spelled_node(respelled.spelled)
    only(made)[1]["location"] = body.get("location", 0)
    respelled.node.clear()
    respelled.node.update(made)
