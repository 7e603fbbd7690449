"""What is put into documents with sealed fields, by ``jsonb_set``, ``||``, ``-``, ``#-`` and subscripts: sealed by its place.

The server computes these over the stored documents. In them keys, and which values are objects, arrays and scalars, are what they
are in the documents themselves, but for what is inside of a field that is sealed as a whole. So where no path leads into such a
field, and each new value is sealed as one that stands where it goes to, the result is the stored form of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from phiproxy.documents.field_paths import ELEMENTS, Path
from phiproxy.documents.path_operators import KeyOrPosition, text_step
from phiproxy.documents.walk import Listed, listed
from phiproxy.policy.column_types import builtin
from phiproxy.policy.protection import DeclaredType, DocumentFields, ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.document_paths import Nowhere, Step, taken
from phiproxy.sql.expressions.expression import clear
from phiproxy.sql.expressions.index_expressions import own_name
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.rewrite.draft import Draft, Insert
from phiproxy.sql.rewrite.order_of_rewrites import Step as Order
from phiproxy.sql.rewrite.references_and_markers import expression_tree
from phiproxy.sql.text.parse import Node, is_plain_call, only, strings
from phiproxy.sql.values.operands import Operand, as_operand, cast_type
from phiproxy.sql.values.path_steps import step_of, steps_of, subscripts
from phiproxy.wire.oids import BUILTIN_TYPES

_SETTERS = frozenset({"jsonb_set", "jsonb_set_lax", "jsonb_insert"})
_BUILDER, _CONVERTER = "jsonb_build_object", "to_jsonb"
# What a document may be joined from: its text can be told from what stands around it.
_JOINED = frozenset({"A_Const", "A_Expr", "CoalesceExpr", "ColumnRef", "FuncCall", "ParamRef", "TypeCast"})
_NEVER_SCALAR = frozenset({"A_Expr", "FuncCall"})
_POLYMORPHIC = ("anyelement", "anynonarray", "anycompatible", "anycompatiblenonarray")
_TAKE_JSONB = frozenset(BUILTIN_TYPES[name].oid for name in ("jsonb", *_POLYMORPHIC))
_TEXT = builtin("text")
_OF_JSON = {name: builtin(name) for name in ("bool", "int2", "int4", "int8", "numeric", "text")} | {"varchar": _TEXT}
"""The types of which JSON is made here: the JSON of a value is the same for all settings of a session."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is put in a document: ``clear``: all that stands there is in clear."""

    path: Path
    listed: Listed | None
    clear: bool


def changed_document(
    a: Analysis,
    node: Node,
    column: ProtectedColumn,
    scope: Scope,
    whole: Callable[[Node], None],
    store: Callable[[Operand, ProtectedColumn], None],
) -> bool:
    """Analyse a document that the server computes of stored ones and of values that are sealed; return False for anything else.

    ``whole`` analyses an expression that is a document of the column, ``store`` notes that a value is stored as a column.

    UPDATE records SET fields = jsonb_set(fields, '{ssn}', $1)
    → UPDATE records SET fields = jsonb_set(fields, '{ssn}', envelope($1))

    UPDATE records SET fields = (fields - 'age') #- '{name,given}'
    → UPDATE records SET fields = (fields - 'age') #- '{name,given}'

    UPDATE records SET fields = jsonb_set(fields, '{extra,a}', '1')
    → refused 0A000
    """
    return _can_be_changed(column) and _Changes(a, column, scope, whole, store).computes(node)


def put_at_place(
    a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, store: Callable[[Operand, ProtectedColumn], None]
) -> bool:
    """Analyse a value that is put at the ``place`` of a column; return False where it is none that can be sealed.

    UPDATE records SET fields['name'] = '{"family": "Smith"}'
    → UPDATE records SET fields['name'] = envelope('{"family": "Smith"}')

    UPDATE records SET fields['ssn'] = fields['name']
    → refused 0A000
    """
    document = column.document
    assert document is not None
    there = listed(document.paths, document.clear).at(column.place)
    return _Changes(a, column, scope, lambda _: None, store).puts(node, Place(column.place, there, clear=False))


def member_place(column: ProtectedColumn, body: Node) -> Place | None:
    """Return where an entry of SET, the body of a ResTarget, puts a value by subscripts; None where that is not known.

    What is not there on the way is made: an array where the next subscript is an integer, and else an object.
    """
    if not _can_be_changed(column) or "val" not in body or "SetToDefault" in body["val"] or "MultiAssignRef" in body["val"]:
        return None
    assert column.document is not None
    steps = subscripts(body["indirection"])
    return None if steps is None else _place(column.document, [str(step.value) for step in steps], makes=True)


def _can_be_changed(column: ProtectedColumn) -> bool:
    """Tell whether the documents of a column are objects, whose members are in sight; JSON's null is there too."""
    if column.document is None or column.checks or column.below:
        return False
    return ELEMENTS not in listed(column.document.paths, column.document.clear).below


def _place(document: DocumentFields, steps: Sequence[str], *, makes: bool = False) -> Place | None:
    """Return where steps of ``#>`` lead; None where they go into a field, or only the stored values say where.

    ``makes``: what is not there on the way is made, and has to be what the policy says.
    """
    there: Listed | None = listed(document.paths, document.clear)
    path: Path = ()
    for name in steps:
        if _is_clear(there, document):
            return Place(path, there, clear=True)
        step = Step("either", name)
        if there is not None and there.number is not None:
            return None
        # Of what is not there PostgreSQL makes an array where the text is an integer, and of nothing that only looks like one.
        if makes and there is not None and there.fields and isinstance(text_step(name), KeyOrPosition) != (ELEMENTS in there.below):
            return None
        took = taken(there, step, others=document.others_sealed)
        if isinstance(took, Nowhere):
            return None
        there, path = (there.below.get(took) if there is not None else None), (*path, took)
    return Place(path, there, clear=_is_clear(there, document))


def _is_clear(there: Listed | None, document: DocumentFields) -> bool:
    if there is not None and (there.clear or there.number is not None):
        return there.clear
    return not document.others_sealed and (there is None or not there.fields)


def _leads_into_field(document: DocumentFields, steps: Sequence[str]) -> bool:
    """Tell whether steps of ``#>`` may lead to something inside of a field."""
    there: Listed | None = listed(document.paths, document.clear)
    for name in steps:
        if there is None:
            return False
        if there.number is not None:
            return True
        took = taken(there, Step("either", name), others=document.others_sealed)
        there = None if isinstance(took, Nowhere) else there.below.get(took)
    return False


@dataclass(frozen=True, slots=True)
class _Changes:
    """The analysis of one value of a document column: its methods tell whether they understand an expression."""

    a: Analysis
    column: ProtectedColumn
    scope: Scope
    whole: Callable[[Node], None]
    store: Callable[[Operand, ProtectedColumn], None]

    def computes(self, node: Node) -> bool:
        """Analyse what gives a document."""
        kind, body = only(node)
        if kind == "TypeCast":
            return _is_jsonb(cast_type(body)) and (self._is_column(body["arg"]) or self.computes(body["arg"]))
        if kind == "A_Expr" and body["kind"] == "AEXPR_OP" and "lexpr" in body:
            name, left, right = _operator(self.a, strings(body["name"])), body["lexpr"], body["rexpr"]
            return self._joins(left, right) if name == "||" else name in ("-", "#-") and self._takes_away(name, left, right)
        if kind != "FuncCall" or not is_plain_call(body):
            return False
        name, arguments = _function(self.a, strings(body["funcname"])), body.get("args", [])
        if name == _BUILDER:
            return self._builds(arguments, Place((), self._root, clear=False))
        return name in _SETTERS and len(arguments) > 2 and self._sets(arguments)

    def puts(self, node: Node, place: Place, *, of_any: bool = False) -> bool:
        """Analyse what is put at a place: JSON, or (``of_any``) something of which PostgreSQL makes JSON."""
        if place.clear:
            clear(self.a, node, self.scope)
            return True
        operand = as_operand(node)
        if operand is not None:
            column = self._stored_as(operand, place, of_any=of_any)
            if column is not None:
                self.store(operand, column)
            return column is not None
        body = node.get("FuncCall", {})
        if not body or not is_plain_call(body):
            return False
        name, arguments = _function(self.a, strings(body["funcname"])), body.get("args", [])
        if name == _CONVERTER and len(arguments) == 1:
            inner = as_operand(arguments[0])
            return inner is not None and bool(inner.types) and self.puts(arguments[0], place, of_any=True)
        return name == _BUILDER and self._builds(arguments, place)

    @property
    def _root(self) -> Listed:
        assert self.column.document is not None
        return listed(self.column.document.paths, self.column.document.clear)

    def _is_column(self, node: Node) -> bool:
        if "ColumnRef" in node:
            self.whole(node)
        return "ColumnRef" in node

    def _joins(self, left: Node, right: Node) -> bool:
        """Analyse ``||``: of objects, for what JSON's null is joined with becomes an array.

        UPDATE records SET fields = fields || $1
        → UPDATE records SET fields = pg_catalog.jsonb_set(fields, '{}'::text[], 'null'::jsonb) ||
          pg_catalog.jsonb_set(envelope($1), '{}'::text[], 'null'::jsonb)
        """
        sides = left, right
        operands = [as_operand(side) for side in sides]
        if not all(operand is None or _may_be_jsonb(operand) for operand in operands):
            return False
        if all(operand is not None and not operand.types for operand in operands):
            return False  # of two texts
        if not all(only(side)[0] in _JOINED for side in sides):
            return False
        for side in sides:
            self.whole(side)
            if not _is_never_scalar(side):
                self.a.rewrite(_as_object, Order.WHOLE, node=side)
        return True

    def _takes_away(self, name: str, left: Node, right: Node) -> bool:
        """Analyse ``-``, of a member, and ``#-``.

        UPDATE records SET fields = fields - $1
        → UPDATE records SET fields = fields - $1

        UPDATE records SET fields = fields #- '{extra,a}'
        → refused 0A000
        """
        operand = as_operand(left)
        if operand is not None and not (operand.types and _may_be_jsonb(operand)):
            return False
        if name == "#-":
            steps = steps_of("#-", right)
            assert self.column.document is not None
            if steps is None or _leads_into_field(self.column.document, [str(step.value) for step in steps]):
                return False
        self.whole(left)
        clear(self.a, right, self.scope)
        return True

    def _sets(self, arguments: Sequence[Node]) -> bool:
        """Analyse ``jsonb_set`` and the like, of a constant path.

        UPDATE records SET fields = jsonb_set(fields, '{ward}', to_jsonb(upper($1)))
        → UPDATE records SET fields = jsonb_set(fields, '{ward}', to_jsonb(upper($1)))
        """
        document, path, value, *others = arguments
        operand, steps = as_operand(document), steps_of("#>", path)
        assert self.column.document is not None
        place = _place(self.column.document, [str(step.value) for step in steps]) if steps else None
        if place is None or (operand is not None and not _may_be_jsonb(operand)):
            return False
        self.whole(document)
        for argument in (path, *others):
            clear(self.a, argument, self.scope)
        return self.puts(value, place)

    def _builds(self, arguments: Sequence[Node], place: Place) -> bool:
        """Analyse ``jsonb_build_object`` of constant keys.

        INSERT INTO records (id, fields) VALUES (5, jsonb_build_object('ssn', $1::text, 'ward', upper($2)))
        → INSERT INTO records (id, fields) VALUES (5, jsonb_build_object('ssn', envelope($1), 'ward', upper($2)))
        """
        there = place.listed
        if len(arguments) % 2 or (there is not None and (there.number is not None or ELEMENTS in there.below)):
            return False
        return all(self._is_member(key, value, place) for key, value in _pairs(arguments))

    def _is_member(self, key: Node, value: Node, place: Place) -> bool:
        name, document = step_of(key), self.column.document
        if name is None or not isinstance(name.value, str) or document is None:
            return False
        there = place.listed.below.get(name.value) if place.listed is not None else None
        clear(self.a, key, self.scope)
        return self.puts(value, Place((*place.path, name.value), there, clear=_is_clear(there, document)), of_any=True)

    def _stored_as(self, operand: Operand, place: Place, *, of_any: bool) -> ProtectedColumn | None:
        """Return as which column a value is sealed at a place; None where it is no JSON, and none that is made of it."""
        if _may_be_jsonb(operand) and (operand.types or not of_any or operand.kind == "null"):
            return self.column.placed(place.path)
        if not of_any or (operand.kind == "param" and not operand.types):
            return None
        given = operand.types[-1] if operand.types else _TEXT
        type_ = _OF_JSON.get(given.family) if given.element is None and not given.schema else None
        return None if type_ is None else self.column.placed(place.path, type_)


def _function(a: Analysis, names: list[str]) -> str:
    """Return the name of a function that is PostgreSQL's own, whatever the arguments are; else an empty string."""
    signatures, name = a.context.catalog.signatures, own_name(a, names)
    others = len(names) == 1 and (signatures is None or bool(signatures.own_functions(name)))
    return "" if others else name


def _operator(a: Analysis, names: list[str]) -> str:
    """Return the name of an operator that is PostgreSQL's own with a jsonb on either side; else an empty string."""
    signatures, name = a.context.catalog.signatures, own_name(a, names)
    there = signatures.own_operators(name) if signatures is not None else None
    others = len(names) == 1 and (there is None or any(not _TAKE_JSONB.isdisjoint((o.left, o.right)) for o in there))
    return "" if others else name


def _pairs(arguments: Sequence[Node]) -> Iterator[tuple[Node, Node]]:
    return zip(arguments[::2], arguments[1::2], strict=True)


def _is_jsonb(declared: DeclaredType | None) -> bool:
    return declared is not None and declared.family == "jsonb" and not declared.schema


def _may_be_jsonb(operand: Operand) -> bool:
    """Tell whether a value is a jsonb where one is expected: a literal, a parameter or NULL, whose last cast, if any, says so."""
    return operand.kind != "constant" and (not operand.types or _is_jsonb(operand.types[-1]))


def _is_never_scalar(node: Node) -> bool:
    """Tell whether a document that is computed is no scalar, or an error: only jsonb_set_lax may return one as it is."""
    kind, body = only(node)
    return kind in _NEVER_SCALAR and strings(body.get("funcname"))[-1:] != ["jsonb_set_lax"]


def _as_object(draft: Draft, *, node: Node) -> Iterator[Insert]:
    """Let the server refuse a scalar: to set nothing in a document changes none, and is an error in a scalar."""
    start, end = draft.spans.expression(node)
    head, tail = "pg_catalog.jsonb_set(", ", '{}'::text[], 'null'::jsonb)"
    draft.tree.replace(node, expression_tree(f"{head}phi_x{tail}", {"phi_x": draft.tree.copy(node)}))
    yield Insert(start, head.encode())
    yield Insert(end, tail.encode(), closing=True)
