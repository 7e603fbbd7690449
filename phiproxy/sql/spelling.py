"""From a tree to an index expression in phiproxy's own spelling (crypto.md section 6): one for all that is written alike.

Names lose their schema, casts that change nothing are gone, and what the server has two names of gets one. Whether a function is in
the closed table is for ``phiproxy.index`` to say.
"""

from __future__ import annotations

from collections.abc import Callable

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, write
from phiproxy.index.transform import short_type, transform
from phiproxy.sql.parse import Node, only, parse, strings

Leaf = Callable[[Node], Expression | None]
OwnName = Callable[[list[str]], str]

_CALL = frozenset({"funcname", "args", "funcformat", "location"})
# The server's other names of one function.
_SAME = {"substr": "substring"}
# Functions whose first argument is a unit, which the server reads in any case.
_OF_A_UNIT = frozenset({"date_trunc", "extract", "date_part"})
# What is a text already: a cast from one to another changes nothing.
_TEXTS = frozenset({"text", "varchar"})


def spelled(node: Node, leaf: Leaf, own: OwnName, type_name: str) -> Expression | None:
    """Return an expression as the registry knows it, or None where it cannot be one.

    ``leaf`` gives what the expression is made of, which is of type ``type_name``, and None for every other node; ``own`` the name
    of a function that is the server's own, else an empty one.
    """
    found = leaf(node)
    if found is not None:
        return found
    kind, body = only(node)
    if kind == "TypeCast":
        inner = spelled(body["arg"], leaf, own, type_name)
        return None if inner is None else _cast(inner, body["typeName"], type_name)
    if kind == "A_Const":
        return _constant(body)
    if kind == "FuncCall" and not set(body) - _CALL:
        name = own(strings(body["funcname"]))
        arguments = [spelled(argument, leaf, own, type_name) for argument in body.get("args", ())]
        known = [argument for argument in arguments if argument is not None]
        if name and known and len(known) == len(arguments):
            if name in _OF_A_UNIT and isinstance(known[0], Constant):
                known[0] = Constant(str(known[0].value).lower())
            return Call(_SAME.get(name, name), tuple(known))
    return None


def _cast(inner: Expression, name: Node, type_name: str) -> Expression | None:
    names = strings(name.get("names"))
    if name.get("typmods") or name.get("arrayBounds") or name.get("setof") or name.get("pct_type"):
        return None
    if len(names) > 1 and names[0] != "pg_catalog":
        return None
    to = short_type(names[-1])
    if isinstance(inner, Constant):
        return inner if isinstance(inner.value, str) and to in _TEXTS else None
    try:
        of = short_type(transform(write(inner), type_name).result)
    except ConfigError:
        of = ""
    return inner if of == to or {of, to} <= _TEXTS else Cast(inner, to)


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
    """Return the spelling of an expression in which the column, by its bare name, stands once; None for any other."""
    seen: list[Node] = []

    def leaf(inner: Node) -> Expression | None:
        kind, body = only(inner)
        if kind != "ColumnRef" or strings(body["fields"]) != [column]:
            return None
        seen.append(inner)
        return Column()

    found = spelled(node, leaf, own, type_name)
    return write(found) if found is not None and len(seen) == 1 else None


def spell(text: str, column: str, type_name: str) -> str:
    """Return the spelling of a DBA's expression over ``column``, which is ``value`` in a domain, of type ``type_name``.

    Raises ConfigError for what is no expression, or none over this column that can be spelled.
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
