"""The steps of paths into documents, as they stand in trees of operators and subscripts: constants, or parameters of type text."""

from collections.abc import Callable

from phiproxy.errors import ValueRefused
from phiproxy.frozen import dataclass
from phiproxy.index.document_paths import OPERATORS
from phiproxy.index.spelling import Constant
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.operands import as_operand, cast_type, peel
from phiproxy.wire.arrays import array_from_text


@dataclass(frozen=True, slots=True)
class Bound(Constant):
    """A step that a parameter gives when it is bound; until then its ``value`` is any key."""

    number: int


def path_operator(body: Node, own: Callable[[list[str]], str]) -> str:
    """Return the operator of an expression that takes something out of a document; an empty string for any other."""
    if body["kind"] != "AEXPR_OP" or "lexpr" not in body or (names := strings(body["name"]))[-1] not in OPERATORS:
        return ""
    return own(names)


def subscripts(indirection: list[Node], *, bound: bool = False) -> list[Constant] | None:
    """Return the texts of constant subscripts; None where one is something else: ``doc['a'][0]`` → ``'a'``, ``'0'``.

    ``bound``: parameters count too.
    """
    texts = []
    for kind, body in map(only, indirection):
        step = None if kind != "A_Indices" or body.get("is_slice") else step_of(body["uidx"], bound=bound)
        if step is None:
            return None
        texts.append(step if isinstance(step.value, str) else Constant(str(step.value)))
    return texts


def steps_of(operator: str, node: Node, *, bound: bool = False) -> list[Constant] | None:
    """Return the constants of the right side of an operator; None for anything else: of ``#> '{a,b}'``, ``'a'`` and ``'b'``.

    ``bound``: a parameter is a step too.
    """
    if operator.startswith("-"):
        step = step_of(node, bound=bound)
        return None if step is None else [step]
    inner, _ = peel(node, array=True)
    kind, body = only(inner)
    if kind == "A_ArrayExpr":
        steps = [step_of(element) for element in body.get("elements", ())]
        texts = [step for step in steps if step is not None and isinstance(step.value, str)]
        return texts if len(texts) == len(steps) else None
    if kind != "A_Const" or "sval" not in body:
        return None
    try:
        array = array_from_text(body["sval"].get("sval", "").encode())
    except ValueRefused:
        return None
    names = [Constant(element.decode()) for element in array.elements if element is not None]
    return names if len(array.bounds) < 2 and len(names) == len(array.elements) else None


def step_of(node: Node, *, bound: bool = False) -> Constant | None:
    """Return a constant that is a step of a path, perhaps cast to text or integer; ``bound``: or a parameter that is a text."""
    if bound and (parameter := as_operand(node)) is not None and parameter.kind == "param":
        return Bound("a", parameter.number) if parameter.textual else None  # PostgreSQL takes it for a text by itself
    inner, casts = node, []
    while "TypeCast" in inner:
        casts.append(cast_type(only(inner)[1]))
        inner = only(inner)[1]["arg"]
    kind, body = only(inner)
    step = constant(body) if kind == "A_Const" else None
    if step is None:
        return None
    types = ("text", "varchar") if isinstance(step.value, str) else ("int4", "int2")
    return step if all(c is not None and c.family in types and c.typmod == -1 for c in casts) else None


def constant(body: Node) -> Constant | None:
    """Return a string or an integer, the body of an A_Const; None for any other constant."""
    if "sval" in body:
        return Constant(body["sval"].get("sval", ""))
    if "ival" in body:
        return Constant(body["ival"].get("ival", 0))
    return None
