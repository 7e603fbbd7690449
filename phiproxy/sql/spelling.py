"""From a tree to an index expression in phiproxy's own spelling (crypto.md section 6): one for all that is written alike.

A tree is read here; that equal expressions are one, and which there are, is for ``phiproxy.index`` to say.
"""

from __future__ import annotations

from collections.abc import Callable

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.index.normal import normal
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, write
from phiproxy.sql.parse import Node, only, parse, strings

Leaf = Callable[[Node], Expression | None]
OwnName = Callable[[list[str]], str]

_CALL = frozenset({"funcname", "args", "funcformat", "location"})


def read_tree(node: Node, leaf: Leaf, own: OwnName) -> Expression | None:
    """Return a tree as an expression, or None where it cannot be one.

    ``leaf`` gives what the expression is made of, and None for every other node; ``own`` the name of a function that is the
    server's own, else an empty one.
    """
    found = leaf(node)
    if found is not None:
        return found
    kind, body = only(node)
    if kind == "TypeCast":
        return _cast(read_tree(body["arg"], leaf, own), body["typeName"])
    if kind == "A_Const":
        return _constant(body)
    if kind == "FuncCall" and not set(body) - _CALL:
        name = own(strings(body["funcname"]))
        arguments = [read_tree(argument, leaf, own) for argument in body.get("args", ())]
        known = [argument for argument in arguments if argument is not None]
        if name and known and len(known) == len(arguments):
            return Call(name, tuple(known))
    return None


def _cast(inner: Expression | None, name: Node) -> Expression | None:
    names = strings(name.get("names"))
    if inner is None or name.get("typmods") or name.get("arrayBounds") or name.get("setof") or name.get("pct_type"):
        return None
    if len(names) > 1 and names[0] != "pg_catalog":
        return None
    if isinstance(inner, Constant):  # 'UTC'::text
        return inner if isinstance(inner.value, str) and names[-1] in ("text", "varchar") else None
    return Cast(inner, names[-1])


def _constant(body: Node) -> Constant | None:
    if "sval" in body:
        return Constant(body["sval"].get("sval", ""))
    if "ival" in body:
        return Constant(body["ival"].get("ival", 0))
    return None


def bare_name(names: list[str]) -> str:
    """Return the name of a function that is taken for the server's own, whatever its schema: in a policy nothing hides it."""
    return names[-1]


def over_column(node: Node, column: str, own: OwnName, type_name: str) -> str | None:
    """Return the spelling of an expression in which the column, by its bare name, stands once; None where it cannot be one.

    ConfigError, with what would do, for one that is not in the table.
    """
    seen: list[Node] = []

    def leaf(inner: Node) -> Expression | None:
        kind, body = only(inner)
        if kind != "ColumnRef" or strings(body["fields"]) != [column]:
            return None
        seen.append(inner)
        return Column()

    found = read_tree(node, leaf, own)
    return write(normal(found, type_name)) if found is not None and len(seen) == 1 else None


def spell(text: str, column: str, type_name: str) -> str:
    """Return the spelling of a DBA's expression over ``column``, which is ``value`` in a domain, of type ``type_name``.

    Raises ConfigError for what is no expression, none over this column, or not in the table.
    """
    tree = _expression(text)
    found = None if tree is None else over_column(tree, column, bare_name, type_name)
    if found is None:
        raise ConfigError(f"{text!r} is no index expression: it must be made of {column!r} by functions that are known")
    return found


def _expression(text: str) -> Node | None:
    try:
        (statement,) = parse(f"SELECT {text}".encode())
    except (PhiproxyError, ValueError):
        return None
    body = statement.body
    targets = body.get("targetList", ())
    if statement.kind != "SelectStmt" or set(body) - {"targetList", "limitOption", "op"} or len(targets) != 1:
        return None
    target = only(targets[0])[1]
    expression: Node | None = None if "name" in target else target["val"]
    return expression
