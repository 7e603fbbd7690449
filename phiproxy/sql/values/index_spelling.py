"""Trees of index expressions to phiproxy's own spelling (spec/stored-format 6.2): one spelling for all that means the same.

Only the reading is done here; which expressions there are, and which of them are equal, is decided in ``phiproxy.index``. Hints
name the blind index that would answer a refused condition, and what must be done before it does.
"""

import re
from collections.abc import Callable, Iterable

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.index.registered_form import normal
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, write
from phiproxy.policy.identifiers import yaml_text
from phiproxy.policy.protection import Slot
from phiproxy.sql.text.parse import Node, only, parse, strings
from phiproxy.sql.values.path_steps import constant, path_operator, steps_of, subscripts

Leaf = Callable[[Node], Expression | None]
OwnName = Callable[[list[str]], str]

_CALL = frozenset({"funcname", "args", "funcformat", "location"})


def read_tree(node: Node, leaf: Leaf, own: OwnName, *, bound: bool = False) -> Expression | None:
    """Return a tree as an index expression, or None where it is none.

    ``leaf`` returns the column or constant that a node is, or None; ``own`` the name of PostgreSQL's own function, or an empty one.
    ``bound``: steps of paths may be parameters (``path_steps.Bound``).
    """
    part = leaf(node)
    if part is not None:
        return part
    kind, body = only(node)
    if kind == "TypeCast":
        return _cast(read_tree(body["arg"], leaf, own, bound=bound), body["typeName"])
    if kind == "A_Const":
        return constant(body)
    if kind in ("A_Expr", "A_Indirection"):
        return _at_path(kind, body, leaf, own, bound=bound)
    if kind == "FuncCall" and not set(body) - _CALL:
        name = own(strings(body["funcname"]))
        arguments = [read_tree(argument, leaf, own, bound=bound) for argument in body.get("args", ())]
        readable = [argument for argument in arguments if argument is not None]
        if name and readable and len(readable) == len(arguments):
            return Call(name, tuple(readable))
    return None


def _at_path(kind: str, body: Node, leaf: Leaf, own: OwnName, *, bound: bool) -> Expression | None:
    """Return what an operator or subscripts take out of a document, as a call of that operator.

    ``doc -> 'a'``, ``doc #>> '{a,b}'``, ``doc #> ARRAY['a']``, ``doc['a'][0]``
    """
    if kind == "A_Indirection":
        name, document = "[]", body["arg"]
        constants = subscripts(body["indirection"], bound=bound)
    else:
        name, document = path_operator(body, own), body.get("lexpr")
        constants = steps_of(name, body["rexpr"], bound=bound) if name else None
    inner = read_tree(document, leaf, own, bound=bound) if constants is not None else None
    return Call(name, (inner, *constants)) if inner is not None and constants is not None else None


def _cast(inner: Expression | None, name: Node) -> Expression | None:
    names = strings(name.get("names"))
    if inner is None or name.get("typmods") or name.get("arrayBounds") or name.get("setof") or name.get("pct_type"):
        return None
    if len(names) > 1 and names[0] != "pg_catalog":
        return None
    if isinstance(inner, Constant):  # 'UTC'::text
        return inner if isinstance(inner.value, str) and names[-1] in ("text", "varchar") else None
    return Cast(inner, names[-1])


def bare_name(names: list[str]) -> str:
    """Return the name of a function without its schema: in a policy, every name means PostgreSQL's own function."""
    return names[-1]


def over_column(node: Node, column: str, own: OwnName, type_name: str) -> str | None:
    """Return the spelling of an expression in which the column occurs once; None where it is no index expression.

    Raises ConfigError, with a hint, for an expression that is not in the table.
    """
    seen: list[Node] = []

    def leaf(inner: Node) -> Expression | None:
        kind, body = only(inner)
        if kind != "ColumnRef" or strings(body["fields"]) != [column]:
            return None
        seen.append(inner)
        return Column()

    expression = read_tree(node, leaf, own)
    return write(normal(expression, type_name)) if expression is not None and len(seen) == 1 else None


def spell(text: str, column: str, type_name: str) -> str:
    """Return the spelling of a policy's index expression over ``column`` (of a domain: ``value``); ConfigError for any other."""
    tree = _expression(text)
    expression = None if tree is None else over_column(tree, column, bare_name, type_name)
    if expression is None:
        raise ConfigError(f"{text!r} is no index expression: it must be made of {column!r} by functions that are known")
    return expression


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


# Written as a call, ``extract('year',born)`` is in no grammar.
_EXTRACT = re.compile(r"\bextract\('(\w+)',")

# A name in quotes needs others around these in a policy.
_QUOTED = re.compile(r'`([^`]*"[^`]*)`')


def waiting(slots: Iterable[Slot]) -> frozenset[str]:
    """Return the index expressions that have a slot, but no slot that answers yet."""
    live = [slot for slot in slots if slot.state != "dropped"]
    return frozenset(s.expression for s in live) - {s.expression for s in live if s.state == "active"}


def add_index(shown: str, owner: str) -> str:
    """Return the hint to add an index to the policy. ``shown`` is one expression in backquotes, or several joined by ``or``."""
    shown = _QUOTED.sub(lambda m: f"`{yaml_text(m[1])}`", _EXTRACT.sub(r"extract(\1 from ", shown))
    filled = f"If the column holds values, phiproxy reindex {owner} then gives them its tags."
    return f"Add {shown} to the indexes of {owner} in the policy, then run phiproxy keys init. {filled}"


def await_index(shown: str) -> str:
    """Return the hint that tells why an index of the policy does not answer yet."""
    return (
        f"The index on {shown} is there and answers nothing yet: values stored before it lack its tag (`phiproxy check` counts"
        " them). phiproxy reindex gives it to them."
    )
