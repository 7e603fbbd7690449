"""Paths into documents as index expressions: PostgreSQL's operators are functions, and equal paths are one spelling.

``doc->'name'->>'family'``, ``doc #>> '{name,family}'`` and ``doc['name']->>'family'`` are
``jsonb_extract_path_text(@,'name','family')``, which is what the operator ``#>>`` calls. What ``#>`` would take for something
else stays what it is: the key ``'0'``, which must not be the element of an array, and the element ``0``, which must not be the
member of an object.

Over ``json``, whose keys may be repeated, ``#>`` is not several ``->``: there each step stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from phiproxy.documents import json_paths
from phiproxy.documents.path_operators import ABSENT, Key, Path, Position, Step, text_step
from phiproxy.index.spelling import Call, Constant, Expression, read, write
from phiproxy.types.json_types import parse, spell

OPERATORS: Final = frozenset({"->", "->>", "#>", "#>>", "[]"})
"""What takes something out of a document; ``[]`` are subscripts, which only ``jsonb`` has."""
_FUNCTIONS: Final = ("object_field", "array_element", "extract_path")


class DocumentPath(NamedTuple):
    """A path out of the document ``operand``; ``as_text``: what is there as text, and not as json or jsonb."""

    operand: Expression
    path: Path
    as_text: bool


def function_call(operator: str, arguments: tuple[Expression, ...], family: str) -> tuple[str, tuple[Expression, ...]]:
    """Return the function that an operator calls over a type, and its arguments; the operator itself where it has none.

    ``->`` of ``@`` and ``'ssn'`` over jsonb → ``jsonb_object_field(@,'ssn')``
    """
    if family not in ("json", "jsonb") or (operator == "[]" and family == "json"):
        return operator, arguments
    kind = "extract_path"
    if operator.startswith("-"):
        match arguments[1:]:
            case (Constant(value=int()),):
                kind = "array_element"
            case (Constant(value=str()),):
                kind = "object_field"
            case _:
                return operator, arguments
    return f"{family}_{kind}{'_text' if operator.endswith('>>') else ''}", arguments


def names() -> Iterator[tuple[str, str, str]]:
    """Yield each function that takes something out of a document: its name, the type that it takes, what kind it is."""
    for family in ("json", "jsonb"):
        for kind in _FUNCTIONS:
            for suffix in ("", "_text"):
                yield f"{family}_{kind}{suffix}", family, kind


_KINDS: Final = {name: kind for name, _, kind in names()}


def path_of(expression: Expression) -> DocumentPath | None:
    """Return the path that an expression of ``jsonb`` takes, all its steps together; None for any other expression.

    ``jsonb_array_element_text(jsonb_extract_path(@,'a'),0)`` → the path ``a``, 0 of ``@``, as text
    """
    if not isinstance(expression, Call) or not expression.name.startswith("jsonb_") or expression.name not in _KINDS:
        return None
    operand, *others = expression.arguments
    constants = [other.value for other in others if isinstance(other, Constant)]
    own = steps(expression.name, constants) if len(constants) == len(others) else None
    if own is None:
        return None
    inner = path_of(operand)
    if inner is not None and not inner.as_text:
        return DocumentPath(inner.operand, inner.path.then(*own.steps), expression.name.endswith("_text"))
    return DocumentPath(operand, own, expression.name.endswith("_text"))


def steps(function: str, constants: Sequence[str | int]) -> Path | None:
    """Return the path of one call with these constants; None where they do not fit."""
    match _KINDS[function], constants:
        case "array_element", [int(number)]:
            return Path((Position(number),))
        case "object_field", [str(name)]:
            return Path((Key(name),))
        case "extract_path", texts:
            return Path.of_texts(map(str, texts)) if all(isinstance(text, str) for text in texts) else None
    return None


def registered(call: Call) -> Expression:
    """Return the equal expression that is registered.

    ``jsonb_object_field_text(jsonb_object_field(@,'a'),'b')`` → ``jsonb_extract_path_text(@,'a','b')``
    """
    whole = path_of(call)
    if whole is not None:
        return _spelled(whole)
    match call:
        case Call(name="json_object_field" | "json_object_field_text" as name, arguments=(_, Constant(value=str(key)))):
            return Call(name.replace("object_field", "extract_path"), call.arguments) if text_step(key) == Key(key) else call
    return call


def spelled_path(over: str, path: Path) -> str:
    """Return the spelling of a path, as jsonb, out of what is spelled ``over``."""
    inner = path_of(read(over))
    whole = DocumentPath(read(over), path, as_text=False)
    return write(_spelled(whole if inner is None else DocumentPath(inner.operand, inner.path.then(*path.steps), as_text=False)))


def _spelled(whole: DocumentPath) -> Expression:
    calls: list[tuple[str, list[Step]]] = []
    for step in whole.path.steps:
        kind = _function(step)
        if calls and kind == calls[-1][0] == "extract_path":
            calls[-1][1].append(step)
        else:
            calls.append((kind, [step]))
    if not calls and whole.as_text:
        calls = [("extract_path", [])]
    expression = whole.operand
    for i, (kind, taken) in enumerate(calls, start=1):
        name = f"jsonb_{kind}{'_text' if whole.as_text and i == len(calls) else ''}"
        constants = [Constant(step.number if isinstance(step, Position) else step.name) for step in taken]
        expression = Call(name, (expression, *constants))
    return expression


def _function(step: Step) -> str:
    """Return which function takes a step."""
    if isinstance(step, Position):
        return "array_element"
    return "object_field" if isinstance(step, Key) and text_step(step.name) != step else "extract_path"


def of_jsonb(path: Path, *, as_text: bool) -> Callable[[bytes], bytes | None]:
    """Return what takes the path in a canonical ``jsonb``: canonical ``jsonb`` again, or text; None for NULL."""
    return partial(_of_jsonb, path=path, as_text=as_text)


def _of_jsonb(document: bytes, path: Path, *, as_text: bool) -> bytes | None:
    value = path.find(parse(document))
    if value is ABSENT or (as_text and value is None):
        return None
    return value.encode() if as_text and isinstance(value, str) else spell(value)


def of_json(path: Path, *, as_text: bool) -> Callable[[bytes], bytes | None]:
    """Return what takes the path in a ``json``; it raises what ``json_paths.at_path`` raises."""
    return partial(json_paths.at_path, steps=path.steps, as_text=as_text)
