"""Constant paths over documents with sealed fields: which of them the server reads in clear, and which may give what is sealed.

``doc -> 'a'``, ``doc ->> 'a'``, ``doc -> 0``, ``doc #> '{a,0}'``, ``doc #>> '{a,b}'``, ``doc['a'][0]`` and
``jsonb_extract_path[_text](doc, 'a', 'b')``, also over each other. All else is no path, and so a use of the whole document.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Literal

from phiproxy.access.rules import Masked, in_part
from phiproxy.documents.field_paths import ELEMENTS, Path, spell_path
from phiproxy.documents.walk import Listed, listed
from phiproxy.index.spelling import Constant
from phiproxy.policy.column_types import builtin
from phiproxy.policy.physical_documents import quoted, reached
from phiproxy.policy.protection import DocumentFields, ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import column_of
from phiproxy.sql.resolve.protected_values import Protected
from phiproxy.sql.resolve.scope import Scope, is_whole_row
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.path_steps import path_operator, step_of, steps_of, subscripts


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path: ``key`` takes a member of an object, ``position`` an element of an array, ``either`` what is there."""

    kind: Literal["key", "position", "either"]
    name: str

    @property
    def numeric(self) -> bool:
        """Tell whether it may be a position."""
        return self.kind == "position" or (self.kind == "either" and self.name.strip().lstrip("+-").isdigit())

    def over(self, document: str, *, text: bool) -> str:
        """Return SQL that takes this step over what an expression gives."""
        suffix = "_text" if text else ""
        if self.kind == "key":
            return f"pg_catalog.jsonb_object_field{suffix}({document}, {quoted(self.name)}::text)"
        if self.kind == "position":
            return f"pg_catalog.jsonb_array_element{suffix}({document}, {self.name})"
        return f"pg_catalog.jsonb_extract_path{suffix}({document}, VARIADIC ARRAY[{quoted(self.name)}::text])"


@dataclass(frozen=True, slots=True)
class Spelled:
    """A path as the statement has it: the column under it, its steps, and whether it gives a text."""

    base: Node
    steps: tuple[Step, ...]
    text: bool


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """What a path gives: nothing that is sealed (``value`` is None), or what is shown as a part of the document.

    ``over`` gives SQL of it over the text of the column ``base``.
    """

    base: Node
    value: Protected | None
    over: Callable[[str], str] = str
    source: Protected | None = None
    """The value of the column, which is the same object wherever the column is named."""


Read = Callable[[list[str]], str]
"""Gives the name of PostgreSQL's own function or operator, under any search path; an empty string for another."""
_CALLS = ("jsonb_extract_path", "jsonb_extract_path_text")


def spelled_path(node: Node, own: Read) -> Spelled | None:
    """Return the path that a node is, or None for any other node, a column itself among them."""
    kind, body = only(node)
    match kind:
        case "A_Expr" if operator := path_operator(body, own):
            return _behind(body["lexpr"], _steps(operator, steps_of(operator, body["rexpr"])), own, text=operator.endswith(">>"))
        case "FuncCall" if not set(body) - {"funcname", "args", "funcformat", "location", "func_variadic"}:
            name, arguments = own(strings(body["funcname"])), body.get("args", ())
            if name in _CALLS and len(arguments) > 1:
                return _behind(arguments[0], _steps("#>", _given(body, arguments[1:])), own, text=name.endswith("_text"))
        case "A_Indirection":
            return _behind(body["arg"], _steps("#>", subscripts(body["indirection"])), own, text=False)
    return None


def _given(call: Node, arguments: Sequence[Node]) -> list[Constant] | None:
    if call.get("func_variadic"):
        return steps_of("#>", arguments[0]) if len(arguments) == 1 else None
    steps = [step_of(argument) for argument in arguments]
    texts = [step for step in steps if step is not None and isinstance(step.value, str)]
    return texts if len(texts) == len(steps) else None


def _steps(operator: str, constants: list[Constant] | None) -> tuple[Step, ...]:
    """Return constants as steps of a path; none where they are no constants, or no steps."""
    if operator.startswith("#"):
        return tuple(Step("either", str(constant.value)) for constant in constants or ())
    return tuple(Step("key" if isinstance(c.value, str) else "position", str(c.value)) for c in constants or ())


def _behind(inner: Node, steps: tuple[Step, ...], own: Read, *, text: bool) -> Spelled | None:
    """Return the path of an operand with steps behind it; None without any, and over what is no column and no JSON."""
    if not steps:
        return None
    kind, body = only(inner)
    if kind == "ColumnRef":
        return None if strings(body["fields"])[-1] == "*" else Spelled(inner, steps, text)
    before = spelled_path(inner, own)
    return None if before is None or before.text else Spelled(before.base, (*before.steps, *steps), text)


# -- what is there ---------------------------------------------------------------------------------------------------------------


def document_part(a: Analysis, node: Node, scope: Scope, own: Read) -> DocumentPart | None:
    """Return what a path over a document with sealed fields gives; None for all else, which may be another use of a document.

    Of what is masked in it nothing, unless it is a result column: then it is shown with its masks, as the whole is.

    SELECT id FROM records WHERE fields ->> 'ward' = 'B2'
    → SELECT id FROM "public".records WHERE fields ->> 'ward' = 'B2'
    """
    spelled = spelled_path(node, own) if a.context.protection.has_documents else None
    if spelled is None or is_whole_row(scope, strings(only(spelled.base)[1]["fields"])):
        return None
    value = column_of(a, spelled.base, scope, for_path=True).value
    if not isinstance(value, Protected):
        return None
    column, part = value.column, value.column.part
    of = part.of if part is not None else column
    if of.document is None or (part is not None and part.text) or column.base is not None:
        return None
    classified = _classified(of, part.path if part is not None else (), spelled)
    if classified is not None and of.masked is not None:
        classified = _as_seen(a, node, of.masked, of.document, classified)
    return None if classified is None else replace(classified, source=value)


def _as_seen(a: Analysis, node: Node, masked: Masked, document: DocumentFields, part: DocumentPart) -> DocumentPart | None:
    """Return a part of a document of which masks are seen; None of any where the whole is masked.

    Of one in which masks are, only where it is a result column, and none of them denies. In a judgement (``Context.judging``)
    nothing else counts as protected.
    """
    if not masked.in_part:
        return None  # of a masked column nothing is taken, not what is in clear either
    if part.value is None:
        return part
    column = part.value.column
    assert column.part is not None
    masks = _masks_at(masked, document, column.part.path)
    if masks is not None:
        shown = id(node) in a.shown and not masks.show.denies
        return replace(part, value=replace(part.value, column=replace(column, masked=masks))) if shown else None
    return replace(part, value=None if a.context.judging else replace(part.value, column=replace(column, masked=None)))


def _masks_at(masked: Masked, document: DocumentFields, here: Path) -> Masked | None:
    """Return the masks in what stands at a path: of itself, of what holds it, and of what is in it; None where there are none."""
    masks = dict(masked.fields)
    return in_part(
        (field.path, masks[field.path])
        for path, field in zip(document.paths, document.fields, strict=True)
        if field.path in masks and all(one == other for one, other in zip(path, here, strict=False))
    )


def object_at(a: Analysis, node: Node, scope: Scope, own: Read) -> bool:
    """Tell whether a node is a document, or a part of one, that is an object wherever it is there, whose keys are in clear.

    The policy lists a field in it, and a document in which something else stands there is not stored.
    """
    if not a.context.protection.has_documents:
        return False
    spelled = Spelled(node, (), text=False) if "ColumnRef" in node else spelled_path(node, own)
    if spelled is None or spelled.text or is_whole_row(scope, strings(only(spelled.base)[1]["fields"])):
        return False
    starred = strings(only(spelled.base)[1]["fields"])[-1] == "*"
    value = None if starred else column_of(a, spelled.base, scope, for_path=True).value
    column = value.column if isinstance(value, Protected) and value.column.base is None else None
    if column is None or column.document is None or (column.masked is not None and not column.masked.in_part):
        return False
    listed_here: Listed | None = listed(column.document.paths, column.document.clear)
    path: Path = ()
    for step in spelled.steps:
        took = taken(listed_here, step, others=column.document.others_sealed)
        if listed_here is None or not listed_here.fields or isinstance(took, Nowhere):
            return False
        listed_here, path = listed_here.below.get(took), (*path, took)
    if column.masked is not None and _masks_at(column.masked, column.document, path) is not None:
        return False
    return listed_here is not None and listed_here.fields and ELEMENTS not in listed_here.below


def in_clear(column: ProtectedColumn, spelled: Spelled) -> bool:
    """Tell whether a path over a column gives nothing that is sealed, of any document that may be stored."""
    classified = _classified(column, (), spelled) if column.document is not None and column.part is None else None
    return classified is not None and classified.value is None


def _classified(of: ProtectedColumn, before: Path, spelled: Spelled) -> DocumentPart | None:
    assert of.document is not None
    root = listed(of.document.paths, of.document.clear)
    others = of.document.others_sealed
    node, path = root.at(before), before
    for step in spelled.steps:
        if node is not None and node.number is not None:
            return None  # inside of what is sealed as a whole
        if node is not None and node.clear:
            return DocumentPart(spelled.base, None)
        took = taken(node, step, others=others)
        if isinstance(took, Nowhere):
            return DocumentPart(spelled.base, None) if took is Nowhere.NOTHING else None
        node, path = (node.below.get(took) if node is not None else None), (*path, took)
    over = partial(_over, spelled.steps, text=spelled.text)
    if node is not None and node.number is not None:
        return DocumentPart(spelled.base, _leaf(of, of.document.fields[node.number], path, text=spelled.text), over)
    if (node is not None and node.clear) or (not others and (node is None or not node.fields)):
        return DocumentPart(spelled.base, None)
    return DocumentPart(spelled.base, _part(of, path, text=spelled.text), over)


class Nowhere(Enum):
    """Why a step leads to nothing that is listed: it gives NULL of every document, or only the values say what it takes."""

    NOTHING = 0
    UNKNOWN = 1


def taken(node: Listed | None, step: Step, *, others: bool) -> str | Nowhere | None:
    """Return a step from what is listed as it stands in paths of the policy; ``others``: what is not listed is sealed."""
    if node is not None and node.fields:
        # What stands there is what the policy says: documents with anything else are not stored.
        if ELEMENTS in node.below:
            return ELEMENTS if step.numeric else Nowhere.NOTHING
        return Nowhere.NOTHING if step.kind == "position" else step.name
    if others and step.kind == "either" and step.numeric:
        return Nowhere.UNKNOWN
    return ELEMENTS if step.kind == "position" else step.name


def _over(steps: tuple[Step, ...], document: str, *, text: bool) -> str:
    if all(step.kind != "position" and not step.numeric for step in steps):
        return reached(document, tuple(step.name for step in steps), text=text)
    for number, step in enumerate(steps, start=1):
        document = step.over(document, text=text and number == len(steps))
    return document


# Values of these are spelled in one way only, so that two are equal where their texts are.
_SPELLED_ONCE = frozenset({"date", "uuid", "int2", "int4", "int8"})


def _leaf(of: ProtectedColumn, field: ProtectedColumn, path: Path, *, text: bool) -> Protected:
    """Return a field as an expression gives it, with the indexes that answer it in that type."""
    slots = [s for s in field.slots if _answers(field, s.expression, text=text)]
    column = _part(of, path, text=text).column
    form = column.form
    return _shown(
        replace(
            column,
            identity=f"{field.identity}\0{spell_path(path)}{'->>' if text else '->'}",
            number=field.number,
            slots=tuple(replace(slot, form=form) for slot in slots),
            tags_of=field.identity if text and field.type.family == "text" else f"{field.identity}\0{'->>' if text else '->'}",
        )
    )


# Of these a cast of the text is the value that was stored.
_CAST = _SPELLED_ONCE | {"numeric"}


def as_its_type(value: Protected) -> Protected | None:
    """Return the text of a field as a cast to the field's own type gives it; None of what is no such text.

    ``(doc ->> 'age')::int`` of a field of type integer has the tags of that.
    """
    part = value.column.part
    document = part.of.document if part is not None and part.text else None
    field = dict(zip(document.paths, document.fields, strict=True)).get(part.path) if document and part else None
    if field is None or field.type.family not in _CAST:
        return None
    slots = tuple(replace(slot, form="text") for slot in field.slots)
    identity = f"{value.column.identity}::{field.type.name}"
    return _shown(replace(value.column, identity=identity, type=field.type, slots=slots, tags_of=field.identity))


def _answers(field: ProtectedColumn, expression: str, *, text: bool) -> bool:
    family = field.type.family
    if not text:
        return expression == "@"
    return family == "text" or (family in _SPELLED_ONCE and expression == "@")


def _part(of: ProtectedColumn, path: Path, *, text: bool) -> Protected:
    """Return what stands at a path and may hold what is sealed, as an expression gives it."""
    type_ = builtin("text") if text else builtin("jsonb")
    return _shown(of.part_at(path, type_, text=text))


def _shown(column: ProtectedColumn) -> Protected:
    return Protected(column, column.type, cast=True)
