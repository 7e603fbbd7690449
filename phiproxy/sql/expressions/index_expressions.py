"""Indexed expressions of a protected column: ``lower(n)``, ``left(n, 3)``, ``extract(year from dob)``.

To the other rules such an expression is a column with an identity of its own, whose tag is that of the expression's slot. The
server sees the column's envelope or that tag; where the expression is shown, the proxy computes it from the opened value.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from phiproxy.errors import ConfigError, StatementRefused
from phiproxy.frozen import dataclass
from phiproxy.index.function_table import row
from phiproxy.index.registered_form import normal, twins
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, read, write
from phiproxy.index.transform import result_type, short_type, transform
from phiproxy.policy.column_types import builtin, parse_type
from phiproxy.policy.physical_columns import tag_of
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import keep, protected_column, reference
from phiproxy.sql.expressions.document_paths import DocumentPart, as_its_type, document_part
from phiproxy.sql.expressions.expression import Grouping, equality_slot, grouping_of, unsupported
from phiproxy.sql.resolve.protected_values import Protected, group_key
from phiproxy.sql.resolve.scope import Scope, Spelled, is_whole_row
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.common_changes import ByRule
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.references_and_markers import (
    expression_tree,
    representative,
    represented,
    spelled_node,
    spelled_text,
    tag_text,
    tag_tree,
)
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.index_spelling import read_tree
from phiproxy.sql.values.operands import peel
from phiproxy.sql.values.path_steps import path_operator
from phiproxy.types.casts import FLOATS, INTEGERS, NoCast, NotCast, explicit

_KINDS = ("FuncCall", "TypeCast", "A_Indirection")
Shape = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Derived:
    """An indexed expression of a column.

    ``result`` is its value, ``inner`` the reference in it to ``value``. ``total``: it is NULL only for NULL. ``spelled``: how the
    server must name the column. ``by`` is the slot by which its query is grouped, where that is by the column and not by the
    expression. ``over`` gives what the value is over the reference: of a document, the value ``source``, what stands at a path.
    """

    node: Node
    inner: Node
    value: Protected
    result: Protected
    total: bool
    spelled: Spelled
    grouping: Grouping = Grouping.NONE
    by: Slot | None = None
    over: Shape = str
    source: Protected | None = None

    @property
    def key(self) -> tuple[int, str]:
        """The key of the expression in ``Scope.grouped``."""
        return group_key(*self._key(self.result.column))

    def _key(self, column: ProtectedColumn) -> tuple[Protected, str]:
        if self.source is None:
            return self.value, column.expression
        return self.source, f"{self.value.column.identity}\0{column.expression}"

    def reference(self) -> Node:
        """Return a copy of the column reference as the server must see it."""
        return spelled_node(self.spelled) if self.spelled else copy.deepcopy(self.inner)

    def grouped(self, a: Analysis, scope: Scope) -> Derived:
        """Return the expression with its grouping: by itself in this query only, by its column also further out."""
        value, expression = self._key(self.result.column)
        own = grouping_of(a, replace(scope, outer=None), value, self.node, expression)
        if own != Grouping.NONE or scope.called:
            return replace(self, grouping=own)
        value, expression = self._key(self.value.column)
        inner = grouping_of(a, scope if self.source is None else replace(scope, outer=None), value, self.node, expression)
        return self if inner == Grouping.NONE else replace(self, grouping=inner, by=equality_slot(a, self.value.column, self.node))

    def tag(self, a: Analysis, slot: Slot, *, stored: bool = False) -> None:
        """Replace the expression by its tag, of any row of a group by the column; ``stored``: by the generated column, if any."""
        name = self.value.stored_tag(slot) if stored and self.grouping == Grouping.NONE and not self.spelled else None
        if name is not None:
            self._become(a, partial(tag_text, slot=slot, stored=name), partial(tag_tree, slot=slot, stored=name))
            return
        any_value = self.by is not None or self.grouping == Grouping.OUTSIDE
        sets = self.by is not None and self.grouping == Grouping.SETS
        version = a.context.catalog.server_version

        def shape(named: str) -> str:
            return tag_of(represented(version, named, self.by or slot, sets=sets) if any_value else named, slot)

        self._become(a, shape)

    def show(self, a: Analysis) -> None:
        """Replace the expression by the envelope from which the proxy computes it."""
        column = self.result.column
        if self.result.type.family == LOCAL:
            why = f"It depends on the time zone. Select {self.value.column.name}, or what is cut of it ::timestamp."
            raise unsupported(a, column, self.node, why)
        if not self.total:
            self._show_partial(a, equality_slot(a, column, self.node))
            return
        if not _never_fails(read((column.shown_of or column).expression)) and column.slot_for("@") is None:
            raise unsupported(
                a, column, self.node, "An index on it would show that it can be computed of every value. Compute it in the client."
            )
        if self.grouping == Grouping.NONE:
            self._become(a, str)
            return
        slot, sets = self.by or equality_slot(a, column, self.node), self.grouping == Grouping.SETS
        version = a.context.catalog.server_version
        self._become(a, lambda named: represented(version, named, slot, sets=sets))

    def _show_partial(self, a: Analysis, slot: Slot) -> None:
        """Replace the expression by the envelope, or by NULL where its tag tells that it is NULL."""
        sets, version = self.grouping == Grouping.SETS, a.context.catalog.server_version

        def shape(named: str) -> str:
            value = f"CASE WHEN {tag_of(named, slot)} IS NOT NULL THEN {named} END"
            if self.grouping == Grouping.NONE:
                return value
            value = representative(version, value)
            return f"CASE WHEN grouping({tag_of(named, self.by or slot)}) = 0 THEN {value} END" if sets else value

        self._become(a, shape)

    def _become(self, a: Analysis, shape: Shape, tree: Callable[[Node], Node] | None = None) -> None:
        """Replace the expression by the text ``shape`` over the column's name; ``tree`` makes its tree."""
        form = shape(self.over(_HOLE))
        before = a.rewrites.of(ByRule, self.node)
        if before is None:
            make = tree or (lambda reference: expression_tree(form, {_HOLE: reference}))
            a.rewrites.add(ByRule(partial(_replace, expression=self, shape=shape, tree=make), form=form), self.node)
        elif before.form != form:
            why = f"{self.result.column.label} is used in two ways in one place"
            raise a.refuse(why, only(self.node)[1], hint="Write the expression twice.")


@dataclass(frozen=True, slots=True)
class IndexOperand:
    """A protected column or an indexed expression of one, as an operand that is answered by tags.

    ``value`` is the operand, ``source`` the column, ``column`` a reference to it; ``grouped``: the query is grouped by the operand.
    """

    value: Protected
    source: Protected
    column: Node
    grouped: bool = False

    def stored(self, slot: Slot) -> str | None:
        """Return the name of the generated column that holds a tag of it, or None."""
        plain = not self.grouped and "location" in only(self.column)[1]
        return self.source.stored_tag(slot) if plain else None


def index_operand(a: Analysis, node: Node, scope: Scope) -> IndexOperand | None:
    """Return a node as such an operand, or None; decides nothing. Refused where the query groups by another part of the column."""
    expression, inner, _ = derived_under(a, node, scope)
    if expression is not None:
        whole_only(a, expression)
        expression = expression.grouped(a, scope)
        _check_grouping(a, expression.result, inner, Grouping.SETS if expression.by is not None else expression.grouping)
        return IndexOperand(expression.result, expression.value, expression.reference(), expression.grouping == Grouping.BY)
    value = protected_column(a, inner, scope)
    if value is None:
        return None
    grouping = grouping_of(a, scope, value, inner)
    _check_grouping(a, value, inner, grouping)
    column_reference = reference(a, inner)
    keep(a, inner)
    return IndexOperand(value, value, column_reference, grouping == Grouping.BY)


def whole_only(a: Analysis, expression: Derived) -> None:
    """Refuse what stands at a path of a document where only a column, or an expression of one, is understood.

    SELECT id FROM records WHERE fields ->> 'ssn' LIKE '9%'
    → refused 0A000
    """
    if expression.over is not str:
        why = "Select it in a subquery of FROM, and use its column."
        raise unsupported(a, expression.value.column, expression.node, why)


def grouped_operand(a: Analysis, value: Protected, node: Node) -> StatementRefused:
    """Return the refusal of such an operand in a query that is grouped by it.

    SELECT lower(name) LIKE 'smi%' FROM people GROUP BY name
    → refused 0A000
    """
    return unsupported(a, value.column, node, "Match it in WHERE, or in a subquery of FROM, and group there what is found.")


def _check_grouping(a: Analysis, value: Protected, node: Node, grouping: Grouping) -> None:
    if grouping not in (Grouping.NONE, Grouping.BY):
        raise grouped_operand(a, value, node)


# Casts of what an index may use that fail of no value.
_SHOWN_CASTS = frozenset({"text", "int4", "int8", "numeric", "date"})
# Casts to these fail of no value.
_TEXTS = frozenset({"text", "varchar"})
# Nor do these, and are NULL of none. What PostgreSQL may fail to cast, it may also fail to cast in rows that nobody is shown.
_SURE = frozenset(
    {
        ("bool", "int4"), ("cidr", "inet"), ("time", "interval"), ("timestamptz", "date"), ("timestamptz", "timestamp"),
        ("float4", "float8"), *((one, "numeric") for one in FLOATS), *((one, to) for one in INTEGERS for to in FLOATS),
    }
)  # fmt: skip


def _never_fails(expression: Expression) -> bool:
    """Tell whether an expression is computed whatever the value is; others of a value that an index would refuse are not."""
    match expression:
        case Call(name=name, arguments=arguments):
            function = row(name)
            return function is not None and function.never_fails and all(map(_never_fails, arguments))
        case Cast(argument=argument, type=target):
            return target in _SHOWN_CASTS and _never_fails(argument)
    return True


_HOLE = "phi_x"


def _replace(draft: Draft, *, expression: Derived, shape: Shape, tree: Callable[[Node], Node]) -> Iterator[Edit]:
    named = spelled_text(expression.spelled) if expression.spelled else draft.named(expression.inner)
    draft.tree.replace(expression.node, tree(expression.reference()))
    yield Edit(*draft.spans.expression(expression.node), shape(expression.over(named)).encode())


def derived(a: Analysis, node: Node, scope: Scope) -> Derived | None:
    """Return an indexed expression of one protected column, or None for any other expression; decides nothing.

    SELECT id FROM people WHERE left(name, 3) = $1
    → SELECT id FROM people WHERE tag2(name) = tag2($1)

    SELECT lower(name) FROM people
    → SELECT name AS "lower" FROM people

    SELECT id FROM people WHERE left(name, 2) = 'x'
    → refused 0A000

    SELECT id FROM charts WHERE doc -> 'name' ->> 'family' = $1
    → SELECT id FROM charts WHERE NULLIF(tag1(doc), zeros) = tag1($1)
    """
    kind, body = only(node)
    if a.physical or not (kind in _KINDS or (kind == "A_Expr" and path_operator(body, partial(own_name, a)))):
        return None
    references: list[Node] = []
    parts: list[DocumentPart] = []

    def leaf(part: Node) -> Expression | None:
        kind, body = only(part)
        at_path = document_part(a, part, scope, partial(own_name, a))
        if at_path is not None:
            references.append(at_path.base)
            parts.append(at_path)
            return Column()
        if kind != "ColumnRef" or strings(body["fields"])[-1] == "*":
            return None
        references.append(part)
        return Column()

    expression = read_tree(node, leaf, partial(own_name, a))
    if expression is None or len(references) != 1:
        return None
    (inner,) = references
    part = parts[0] if parts else None
    if part is None and is_whole_row(scope, strings(only(inner)[1]["fields"])):
        return None
    value = part.value if part is not None else protected_column(a, inner, scope)
    if value is None:
        return None
    if value.column.masked is not None and not (part is not None and isinstance(expression, Column)):
        return None  # of a masked column nothing is computed; what stands at a path of a document is only taken out of it
    return _derived(a, expression, part or DocumentPart(inner, value), node)


def _derived(a: Analysis, expression: Expression, of: DocumentPart, node: Node) -> Derived | None:
    """Return an expression of a column, or of what stands at a path of a document, or None where it has none."""
    value, inner = of.value, of.base
    assert value is not None
    typed = as_its_type(value)
    if typed is not None:
        own = _without(expression, short_type(typed.type.name))
        expression, value = (expression, value) if own == expression else (own, typed)
    if isinstance(expression, Column) and of.over is not str:
        return Derived(node, inner, value, value, total=True, spelled=keep(a, inner), over=of.over, source=of.source)
    column = value.column
    base = column.base or column
    own_column = _of_table(base, _over(expression, read(column.expression)))
    if own_column is None and isinstance(expression, Cast):
        argument = _over(expression.argument, read(column.expression))
        own_column = _whole_cast(base, argument, expression.type) or _shown_cast(base, argument, expression.type)
    if own_column is None or own_column[0].expression == column.expression:
        return None
    spelled = keep(a, inner)
    # A cast between text and varchar is no part of the expression, but what it gives is of its type.
    shown = builtin(expression.type) if isinstance(expression, Cast) and expression.type in _TEXTS else own_column[0].type
    result = Protected(own_column[0], shown, cast=True)
    return Derived(node, inner, value, result, own_column[1], spelled, over=of.over, source=of.source)


def _without(expression: Expression, type_name: str) -> Expression:
    """Return an expression without the cast of its column to a type."""
    match expression:
        case Cast(argument=Column(), type=target) if target == type_name:
            return Column()
        case Cast(argument=argument, type=target):
            return Cast(_without(argument, type_name), target)
        case Call(name=name, arguments=arguments):
            return Call(name, tuple(_without(argument, type_name) for argument in arguments))
    return expression


def _of_table(base: ProtectedColumn, expression: Expression) -> tuple[ProtectedColumn, bool] | None:
    """Return an expression of a column as a column, and whether it is NULL only for NULL; None where it is not in the table."""
    if isinstance(expression, Column):
        return base, True
    try:
        local = _of_midnights(expression, base.type.indexed_as)
        spelled = write(normal(expression if local is None else local, base.type.indexed_as))
        transformed = transform(spelled, base.type.indexed_as)
        column = base.derived(spelled, parse_type(transformed.result if local is None else LOCAL))
        # Without an index of its own an expression has the tags of its twin.
        same = twins(read(column.expression)) if column.slot_for("@") is None else ()
        slots = [slot for other in same for slot in base.derived(write(other), column.type).slots if slot.state == "active"]
        return (replace(column, slots=tuple(slots[:1])) if slots else column), transformed.total and local is None
    except (ConfigError, ValueError):
        return None


# The type of what is cut of a date, to which midnights in the session's time zone are compared (``plan.value_formats``).
LOCAL = "timestamptz"


def _of_midnights(expression: Expression, type_name: str) -> Expression | None:
    """Return ``date_trunc`` of a date over a timestamp: PostgreSQL uses the session's time zone, which no index can."""
    match expression:
        case Call(name="date_trunc", arguments=(Constant() as field, operand)):
            if short_type(result_type(normal(operand, type_name), type_name)) == "date":
                return Call("date_trunc", (field, Cast(operand, "timestamp")))
    return None


def _whole_cast(base: ProtectedColumn, argument: Expression, target: str) -> tuple[ProtectedColumn, bool] | None:
    """Return a cast of a whole-numbered field to another number type, which has the same tags.

    SELECT id FROM people WHERE extract(year FROM born)::int = 1980
    → refused 0A000
    """
    own_column = _of_table(base, argument)
    if own_column is None or not twins(Cast(read(own_column[0].expression), target)):
        return None
    return replace(own_column[0].cast_to(builtin(target)), slots=own_column[0].slots), own_column[1]


def _shown_cast(base: ProtectedColumn, argument: Expression, target: str) -> tuple[ProtectedColumn, bool] | None:
    """Return a cast without an index that fails for no value: it can be shown, as the session's settings spell it."""
    own_column = _of_table(base, argument)
    if own_column is None or (own_column[0].base is not None and own_column[0].type.family == LOCAL):
        return None
    if target not in _TEXTS and (own_column[0].type.underlying.family, target) not in _SURE:
        return None
    try:
        explicit(own_column[0].type, builtin(target))
    except (NoCast, NotCast):
        return None
    return own_column[0].cast_to(builtin(target)), own_column[1]


def derived_under(a: Analysis, node: Node, scope: Scope) -> tuple[Derived | None, Node, tuple[Node, ...]]:
    """Return the indexed expression under casts that change nothing, the node, and those casts from the outside in."""
    inner, casts = peel(node)
    expression = derived(a, casts[-1], scope) if casts else None  # of what is no text itself
    if expression is not None:
        return expression, casts[-1], casts[:-1]
    return derived(a, inner, scope), inner, casts


def _over(expression: Expression, column: Expression) -> Expression:
    match expression:
        case Column():
            return column
        case Call(name=name, arguments=arguments):
            return Call(name, tuple(_over(argument, column) for argument in arguments))
        case Cast(argument=argument, type=target):
            return Cast(_over(argument, column), target)
    return expression


def own_name(a: Analysis, names: list[str]) -> str:
    """Return the name of a function or operator that is PostgreSQL's own under any search path, else an empty string."""
    name = names[-1]
    indexed = row(name)
    of_extension = indexed is not None and indexed.extension is not None
    if len(names) == 2 and (names[0] == "pg_catalog" or of_extension):
        return "" if of_extension and name in a.context.catalog.replaced else name
    return name if len(names) == 1 and name not in a.context.catalog.replaced else ""
