"""What functions of the closed table make of a protected column: ``lower(n)``, ``left(n, 3)``, ``extract(year from dob)``.

To the rest of the analysis it is a column of an identity of its own, whose tag is the one of the expression's slot. The server sees
the envelope of the column, or that tag; where it is shown the proxy computes it from what it opens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from phiproxy.errors import ConfigError, StatementRefused
from phiproxy.index.normal import WHOLE, normal, twins
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, read, write
from phiproxy.index.transform import result_type, short_type, transform
from phiproxy.policy.guards import tag_of
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.policy.types import builtin, parse_type
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.expressions import Grouping, equality_slot, grouping_of, unsupported
from phiproxy.sql.meaning import Edit
from phiproxy.sql.parse import Node, location, only, strings
from phiproxy.sql.respell import reference, spelled_node, spelled_text, value_of
from phiproxy.sql.scope import Protected, Scope, Spelled, is_whole_row
from phiproxy.sql.sinks import peel
from phiproxy.sql.spelling import read_tree
from phiproxy.sql.stored import stored_tag, tag_text, tag_tree
from phiproxy.sql.wrap import expression_tree, representative, represented
from phiproxy.sql.wrap import replace as replace_node
from phiproxy.types.casts import FLOATS, INTEGERS, NoCast, NotCast, explicit

if TYPE_CHECKING:
    from phiproxy.sql.finish import Spans

# Functions of the extension fuzzystrmatch, which is installed into a schema of somebody's choice.
_EXTENSION = frozenset({"soundex", "metaphone", "dmetaphone", "dmetaphone_alt"})
_KINDS = ("FuncCall", "TypeCast")
Shape = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Derived:
    """An expression and what it is (``made``); ``inner`` is the reference in it to ``value``, ``total``: NULL for no value.

    ``by`` is the slot by which its query is grouped where that is by the column itself, and not by the expression.
    """

    node: Node
    inner: Node
    value: Protected
    made: Protected
    total: bool
    spelled: Spelled
    grouping: Grouping = Grouping.NONE
    by: Slot | None = None

    def reference(self) -> Node:
        """Return a copy of the reference, as the server must see it, to be spelled elsewhere."""
        return spelled_node(self.spelled) if self.spelled else copy.deepcopy(self.inner)

    def grouped(self, a: Analysis, scope: Scope) -> Derived:
        """Return the same as it is grouped in a query: by itself here only, by its column also further out."""
        own = grouping_of(a, replace(scope, outer=None), self.value, self.node, self.made.column.expression)
        if own != Grouping.NONE or scope.called:
            return replace(self, grouping=own)
        inner = grouping_of(a, scope, self.value, self.node)
        return self if inner == Grouping.NONE else replace(self, grouping=inner, by=equality_slot(a, self.value.column, self.node))

    def tag(self, a: Analysis, slot: Slot, *, stored: bool = False) -> None:
        """Let the server see the tag, of any value of the group where that is not grouped by; ``stored``: from where it is kept."""
        name = stored_tag(self.value, slot) if stored and self.grouping == Grouping.NONE and not self.spelled else None
        if name is not None:
            self._become(a, partial(tag_text, slot=slot, stored=name), partial(tag_tree, slot=slot, stored=name))
            return
        any_value = self.by is not None or self.grouping == Grouping.OUTSIDE
        sets = self.by is not None and self.grouping == Grouping.SETS

        def shape(named: str) -> str:
            return tag_of(represented(a, named, self.by or slot, sets=sets) if any_value else named, slot)

        self._become(a, shape)

    def show(self, a: Analysis) -> None:
        """Let the server see the envelope of whose value the expression is shown."""
        column = self.made.column
        if self.made.type.family == LOCAL:
            why = f"It depends on the time zone. Select {self.value.column.name}, or what is cut of it ::timestamp."
            raise unsupported(a, column, self.node, why)
        if not self.total:
            self._show_partial(a, equality_slot(a, column, self.node))
            return
        if not _SHOWN.issuperset(_functions(read((column.shown_of or column).expression))) and column.slot_for("@") is None:
            raise unsupported(
                a, column, self.node, "An index on it would show that it can be computed of every value. Compute it in the client."
            )
        if self.grouping == Grouping.NONE:
            self._become(a, str)
            return
        slot, sets = self.by or equality_slot(a, column, self.node), self.grouping == Grouping.SETS
        self._become(a, lambda named: represented(a, named, slot, sets=sets))

    def _show_partial(self, a: Analysis, slot: Slot) -> None:
        """Let the server see NULL where the expression is, as its tag tells: whatever is done with it there is then right."""
        sets = self.grouping == Grouping.SETS

        def shape(named: str) -> str:
            value = f"CASE WHEN {tag_of(named, slot)} IS NOT NULL THEN {named} END"
            if self.grouping == Grouping.NONE:
                return value
            value = representative(a, value)
            return f"CASE WHEN grouping({tag_of(named, self.by or slot)}) = 0 THEN {value} END" if sets else value

        self._become(a, shape)

    def _become(self, a: Analysis, shape: Shape, tree: Callable[[Node], Node] | None = None) -> None:
        """Let the server see what ``shape`` makes of the column's name instead of the expression; ``tree`` makes its tree."""
        form = shape(_HOLE)
        if id(self.node) not in a.derived:
            a.derived[id(self.node)] = form
            made = tree or (lambda reference: expression_tree(form, {_HOLE: reference}))
            a.changes.append(partial(_replace, found=self, shape=shape, tree=made))
        elif a.derived[id(self.node)] != form:
            why = f"{self.made.column.label} is used in two ways in one place"
            raise a.refuse(why, only(self.node)[1], hint="Write the expression twice.")


@dataclass(frozen=True, slots=True)
class Operand:
    """What an operator or pattern is about: a column, or an expression of one, that is ``value``; ``column`` refers to the former.

    ``source`` is the value of that reference, ``grouped``: its query is grouped by just this.
    """

    value: Protected
    source: Protected
    column: Node
    grouped: bool = False

    def stored(self, slot: Slot) -> str | None:
        """Return the generated column that holds a tag of it, or None where that is computed."""
        plain = not self.grouped and "location" in only(self.column)[1]
        return stored_tag(self.source, slot) if plain else None


def operand(a: Analysis, node: Node, scope: Scope) -> Operand | None:
    """Return a node as an operand of which tags are compared, or None where it is none; decides nothing.

    Refuses one in a query that is grouped by something else that its value is known by.
    """
    found, inner, _ = derived_under(a, node, scope)
    if found is not None:
        found = found.grouped(a, scope)
        _check_grouping(a, found.made, inner, Grouping.SETS if found.by is not None else found.grouping)
        return Operand(found.made, found.value, found.reference(), found.grouping == Grouping.BY)
    kind, body = only(inner)
    if kind != "ColumnRef" or strings(body["fields"])[-1] == "*":
        return None
    value = value_of(a, inner, scope)
    if not isinstance(value, Protected):
        return None
    grouping = grouping_of(a, scope, value, inner)
    _check_grouping(a, value, inner, grouping)
    made = reference(a, inner)
    a.respelled.pop(id(inner), None)
    return Operand(value, value, made, grouping == Grouping.BY)


def grouped_operand(a: Analysis, value: Protected, node: Node) -> StatementRefused:
    """Return the refusal of an operand in a query that is grouped by it."""
    return unsupported(a, value.column, node, "Match it in WHERE, or in a subquery of FROM, and group there what is found.")


def _check_grouping(a: Analysis, value: Protected, node: Node, grouping: Grouping) -> None:
    if grouping not in (Grouping.NONE, Grouping.BY):
        raise grouped_operand(a, value, node)


# Whatever the value is, these are computed; others of a value that an index would refuse are not.
_SHOWN = frozenset(
    {
        "left", "right", "substring", "btrim", "ltrim", "rtrim", "replace", "translate",
        "cast to text", "cast to int4", "cast to int8", "cast to numeric", "cast to date",
    }
)  # fmt: skip
# Casts to these fail of no value.
_TEXTS = frozenset({"text", "varchar"})
# Nor do these, and are NULL of none. What PostgreSQL may fail to cast, it may also fail to cast in rows that nobody is shown.
_SURE = frozenset(
    {
        ("bool", "int4"), ("cidr", "inet"), ("time", "interval"), ("timestamptz", "date"), ("timestamptz", "timestamp"),
        ("float4", "float8"), *((one, "numeric") for one in FLOATS), *((one, to) for one in INTEGERS for to in FLOATS),
    }
)  # fmt: skip


def _functions(expression: Expression) -> Iterator[str]:
    match expression:
        case Call(name=name, arguments=arguments):
            yield name
            for argument in arguments:
                yield from _functions(argument)
        case Cast(argument=argument, type=target):
            yield f"cast to {target}"
            yield from _functions(argument)


_HOLE = "phi_x"


def _replace(spans: Spans, text: bytes, *, found: Derived, shape: Shape, tree: Callable[[Node], Node]) -> Edit:
    start, end = spans.brackets.expression(found.node)
    if found.spelled:
        named = spelled_text(found.spelled)
    else:
        first, last = spans.column_ref(location(only(found.inner)[1]))
        named = text[first:last]
    replace_node(found.node, tree(found.reference()))
    return Edit(start, end, shape(named.decode()).encode())


def derived(a: Analysis, node: Node, scope: Scope) -> Derived | None:
    """Return an expression of one protected column that is in the closed table, or None for any other; decides nothing."""
    kind, _ = only(node)
    if a.physical or kind not in _KINDS:
        return None
    references: list[Node] = []

    def leaf(part: Node) -> Expression | None:
        kind, body = only(part)
        if kind != "ColumnRef" or strings(body["fields"])[-1] == "*":
            return None
        references.append(part)
        return Column()

    found = read_tree(node, leaf, partial(own_name, a))
    if found is None or len(references) != 1:
        return None
    (inner,) = references
    if is_whole_row(scope, strings(only(inner)[1]["fields"])):
        return None
    value = value_of(a, inner, scope)
    if not isinstance(value, Protected):
        return None
    column = value.column
    base = column.base or column
    made = _of_table(base, _over(found, read(column.expression)))
    if made is None and isinstance(found, Cast):
        argument = _over(found.argument, read(column.expression))
        made = _whole_cast(base, argument, found.type) or _shown_cast(base, argument, found.type)
    if made is None or made[0].expression == column.expression:
        return None
    known = a.respelled.pop(id(inner), None)
    # A cast between text and varchar is no part of the expression, but what it gives is of its type.
    shown = builtin(found.type) if isinstance(found, Cast) and found.type in _TEXTS else made[0].type
    result = Protected(made[0], shown, cast=True)
    return Derived(node, inner, value, result, made[1], known.spelled if known is not None else ())


def _of_table(base: ProtectedColumn, expression: Expression) -> tuple[ProtectedColumn, bool] | None:
    """Return an expression of a column as a column, and whether it is NULL for no value; None where it is not in the table."""
    if isinstance(expression, Column):
        return base, True
    try:
        local = _of_midnights(expression, base.type.indexed_as)
        spelled = write(normal(expression if local is None else local, base.type.indexed_as))
        made = transform(spelled, base.type.indexed_as)
        column = base.derived(spelled, parse_type(made.result if local is None else LOCAL))
        return _or_of_twin(base, column), made.total and local is None
    except (ConfigError, ValueError):
        return None


def _or_of_twin(base: ProtectedColumn, column: ProtectedColumn) -> ProtectedColumn:
    """Return an expression as a column with the tags of its twin where it has none of its own."""
    same = twins(read(column.expression)) if column.slot_for("@") is None else ()
    slots = [slot for other in same for slot in base.derived(write(other), column.type).slots if slot.state == "active"]
    return replace(column, slots=tuple(slots[:1])) if slots else column


# The type of what is cut of a date, to which midnights in the session's time zone are compared (plan.reading).
LOCAL = "timestamptz"


def _of_midnights(expression: Expression, type_name: str) -> Expression | None:
    """Return what ``date_trunc`` of a date is made of: PostgreSQL takes the midnights of the session's time zone, an index none."""
    match expression:
        case Call(name="date_trunc", arguments=(Constant() as field, operand)):
            if short_type(result_type(normal(operand, type_name), type_name)) == "date":
                return Call("date_trunc", (field, Cast(operand, "timestamp")))
    return None


def _whole_cast(base: ProtectedColumn, argument: Expression, target: str) -> tuple[ProtectedColumn, bool] | None:
    """Return a cast of a whole field to another number, which has the same tags; it is done where it is shown."""
    made = _of_table(base, argument)
    if made is None or target not in WHOLE or not twins(read(made[0].expression)):
        return None
    return replace(made[0].cast_to(builtin(target)), slots=made[0].slots), made[1]


def _shown_cast(base: ProtectedColumn, argument: Expression, target: str) -> tuple[ProtectedColumn, bool] | None:
    """Return a cast that no index has, and that fails of no value: it can be shown, as the session's settings say."""
    made = _of_table(base, argument)
    if made is None or (made[0].base is not None and made[0].type.family == LOCAL):
        return None
    if target not in _TEXTS and (made[0].type.underlying.family, target) not in _SURE:
        return None
    try:
        explicit(made[0].type, builtin(target))
    except (NoCast, NotCast):
        return None
    return made[0].cast_to(builtin(target)), made[1]


def derived_under(a: Analysis, node: Node, scope: Scope) -> tuple[Derived | None, Node, tuple[Node, ...]]:
    """Return the same of what is under casts to text that change nothing, that node, and those casts from the outside in."""
    inner, casts = peel(node)
    found = derived(a, casts[-1], scope) if casts else None  # of what is no text itself
    if found is not None:
        return found, casts[-1], casts[:-1]
    return derived(a, inner, scope), inner, casts


def _over(expression: Expression, column: Expression) -> Expression:
    """Return an expression of an expression."""
    match expression:
        case Column():
            return column
        case Call(name=name, arguments=arguments):
            return Call(name, tuple(_over(argument, column) for argument in arguments))
        case Cast(argument=argument, type=target):
            return Cast(_over(argument, column), target)
    return expression


def own_name(a: Analysis, names: list[str]) -> str:
    """Return the name of what is PostgreSQL's own function or operator whatever the search path is, else an empty one."""
    name = names[-1]
    if len(names) == 2 and (names[0] == "pg_catalog" or name in _EXTENSION):
        return "" if name in _EXTENSION and name in a.context.catalog.replaced else name
    return name if len(names) == 1 and name not in a.context.catalog.replaced else ""
