"""Expressions: what a value is, and the few places where a protected value may stand.

``expression`` answers Clear, Protected or ListColumn; a node type without a rule of its own may hold nothing protected, so its
children must all be Clear. New rules are entries of ``rules.EXPRESSIONS``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum

from phiproxy.errors import NoIndexAnswers, PathNeeded, StatementRefused, UndefinedOperator, WrongCount
from phiproxy.policy.names import quote_ident, shown_expression
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.analysis import Analysis, Represented
from phiproxy.sql.indexhints import add_index, await_index, waiting
from phiproxy.sql.meaning import PLAIN
from phiproxy.sql.parse import Node, children, only, strings
from phiproxy.sql.respell import value_of
from phiproxy.sql.rules import EXPRESSIONS, QUERIES, query
from phiproxy.sql.scope import CLEAR, ListColumn, Protected, Scope, Value, find_source, group_key
from phiproxy.sql.sinks import as_sink, cast_type, peel
from phiproxy.types.names import sql_name


def expression(a: Analysis, node: Node, scope: Scope) -> Value:
    """Return what an expression is; refuses one that does with a protected value what is not understood."""
    kind, body = only(node)
    handler = EXPRESSIONS.get(kind)
    if handler is not None:
        return handler(a, node, body, scope)
    if kind in QUERIES:
        return _query(a, kind, body, scope)
    for child in children(body):
        clear(a, child, scope)
    return CLEAR


def _query(a: Analysis, kind: str, body: Node, scope: Scope) -> Value:
    """Analyse a query inside an expression that has no rule of its own, as in ``JSON_ARRAY(SELECT …)``."""
    for _, value in query(a, kind, body, scope):
        if isinstance(value, Protected):
            raise a.refuse(f"{value.column.label} cannot be used here", located({kind: body}), hint="Select it as rows.")
        if isinstance(value, ListColumn):
            value.users.append(None)
    return CLEAR


def clear(a: Analysis, node: Node, scope: Scope) -> None:
    """Analyse an expression that may be nothing protected; refuse when it is."""
    value = expression(a, node, scope)
    if isinstance(value, Protected):
        raise unsupported(a, value.column, node)
    if isinstance(value, ListColumn):
        value.users.append(None)


def one_value(a: Analysis, node: Node) -> None:
    """Refuse ``(expression).*``, which becomes as many values as its type has columns, where values are counted."""
    kind, body = only(node)
    if kind == "A_Indirection" and "A_Star" in body["indirection"][-1]:
        raise a.refuse("(…).* beside a protected table is not in this version", located(node), hint="List the columns.")


def listed_value(a: Analysis, node: Node) -> None:
    """Refuse what a row of VALUES expands to several values: ``t.*`` and ``(expression).*``."""
    kind, body = only(node)
    if kind == "ColumnRef" and strings(body["fields"])[-1] == "*":
        raise a.refuse("* in VALUES beside a protected table is not in this version", body, hint="List the columns.")
    one_value(a, node)


def clear_all(a: Analysis, nodes: list[Node] | None, scope: Scope) -> None:
    """Apply ``clear`` to each of a list of nodes."""
    for node in nodes or ():
        clear(a, node, scope)


def unsupported(a: Analysis, column: ProtectedColumn, node: Node, hint: str = "") -> StatementRefused:
    """Return the refusal of a protected column where this version has no rule for it; ``hint`` says what would work here."""
    return a.refuse(
        f"column {column.label} is protected and cannot be used here",
        located(node),
        hint=hint
        or f"{column.name} can be selected, compared by =, <>, IN, = ANY or IS [NOT] DISTINCT FROM with values, subqueries or "
        "columns of the same identity, tested by IS [NOT] NULL, grouped, counted, inserted and updated.",
    )


def located(node: Node) -> Node:
    """Return the first body at or below a node that has a place in the text."""
    _, body = only(node)
    if "location" in body and body["location"] >= 0:
        return body
    for child in children(body):
        found = located(child)
        if "location" in found:
            return found
    return body


def wrong_count(a: Analysis, node: Node, why: str) -> StatementRefused:
    """Return the refusal of a comparison or assignment with another number of columns."""
    return a.refuse(why, located(node), hint="Give one for each.", error=WrongCount)


class Grouping(Enum):
    """Whether a protected value is one by which its query is grouped, whether by GROUPING SETS or the like, or further out."""

    NONE = 0
    BY = 1
    SETS = 2
    OUTSIDE = 3


def grouping_of(a: Analysis, scope: Scope, value: Value, node: Node, expression: str | None = None) -> Grouping:
    """Tell how a value, or an expression of it, is grouped, here or in a query further out.

    Refuses one that is so by GROUPING SETS further out.
    """
    for level in scope.levels():
        if group_key(value, expression) not in level.grouped:
            continue
        if level is scope:
            return Grouping.SETS if level.sets else Grouping.BY
        if not level.sets and not level.called:
            return Grouping.OUTSIDE
        assert isinstance(value, Protected)
        raise a.refuse(
            f"a subquery refers to {value.column.label}, by which a query outside is grouped in several ways or inside of a call",
            located(node),
            hint="Group in a subquery of FROM, and refer to its column.",
        )
    return Grouping.NONE


def _column_ref(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    names = strings(body["fields"])
    if names[-1] != "*":
        value = value_of(a, node, scope)
        if not isinstance(value, Protected):
            return value
        grouping = grouping_of(a, scope, value, node)
        if grouping != Grouping.NONE:
            a.represented.append(Represented(node, equality_slot(a, value.column, node), grouping == Grouping.SETS))
        return value
    if len(names) > 1:
        source = find_source(scope, names[-2], names[-3] if len(names) > 2 else None, a.position(body))
        if source.protects():
            raise a.refuse(
                f'a whole-row reference to "{source.alias}" would hold protected columns', body, hint="List the columns."
            )
        return CLEAR
    raise a.refuse("* cannot be understood here", body, hint="Name the columns.")


def _param_or_const(a: Analysis, node: Node, _body: Node, _scope: Scope) -> Value:
    sink = as_sink(node)
    if sink is not None:
        a.use(sink, PLAIN)
    return CLEAR


def type_cast(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    """Return what a cast is of something that is no expression of a protected column."""
    value = expression(a, body["arg"], scope)
    shown = cast_type(body)
    if isinstance(value, ListColumn) and shown is not None:
        cast = ListColumn([], [], casts=[node], parts=(value,), cast_to=(shown,))
        a.lists.append(cast)
        return cast
    if not isinstance(value, Protected):
        if isinstance(value, ListColumn):
            value.users.append(None)
        return CLEAR
    if shown is None:
        raise unsupported(a, value.column, node)
    a.strip([node], value.column)
    return dataclasses.replace(value, type=shown, cast=value.cast or shown != value.type, planned=None)


@dataclass(frozen=True, slots=True)
class ColumnOperand:
    """A protected column, perhaps under no-op casts, as an operand."""

    column: ProtectedColumn
    node: Node
    casts: tuple[Node, ...]

    def tag(self, a: Analysis, slot: Slot) -> None:
        """Let the server see the tag instead of the envelope."""
        a.tagged.append((self.node, slot))
        a.strip(self.casts, self.column)


def column_operand(a: Analysis, node: Node, scope: Scope) -> ColumnOperand | None:
    """Return a node as a protected column operand, or None when it is anything else; records nothing."""
    inner, casts = peel(node)
    kind, body = only(inner)
    if kind != "ColumnRef" or strings(body["fields"])[-1] == "*":
        return None
    value = value_of(a, inner, scope)
    return ColumnOperand(value.column, inner, casts) if isinstance(value, Protected) else None


def equality_slot(a: Analysis, column: ProtectedColumn, node: Node) -> Slot:
    """Return the slot that answers equality on the column itself; NoIndexAnswers with the line to add when there is none."""
    slot = column.slot_for("@")
    if slot is None and column.shown_of is not None:
        raise unsupported(a, column, node, f"What this cast gives is only shown. Use {column.name} itself, and values of its type.")
    if slot is None:
        shown = shown_expression(column.expression, quote_ident(column.name))
        raise NoIndexAnswers(
            f"no blind index answers a comparison of {column.label}",
            hint=await_index(shown) if "@" in waiting(column.slots) else add_index(f"`{shown}`", (column.base or column).label),
            position=a.position(located(node)),
        )
    return slot


def check_operators(a: Analysis, column: ProtectedColumn, node: Node) -> None:
    """Refuse a comparison by an operator that PostgreSQL would not find: its search path must have those of citext.

    Without them it would compare as text does. Of a domain over an enum there is no ``=`` at all.
    """
    over = column.type.underlying
    if over.labels and column.type.base is not None:
        name = sql_name(column.type)
        hint = f"Cast both sides to {sql_name(over)}: domains over enums have no operators."
        raise a.refuse(f"operator does not exist: {name} = {name}", located(node), hint=hint, error=UndefinedOperator)
    if over.family != "citext":
        return
    if a.context.path is None:
        raise PathNeeded(a.position(located(node)))
    if over.schema not in a.context.path:
        raise a.refuse(
            f"{column.label} is citext, whose operators are in schema {over.schema}, which the search path does not have",
            located(node),
            hint=f"Add {over.schema} to search_path.",
        )


def array_elements(node: Node) -> list[Node]:
    """Return what stands in ``ARRAY[…]``, at any depth and under casts to an array of text; of anything else the node itself."""
    inner, _ = peel(node, array=True)
    kind, body = only(inner)
    if kind != "A_ArrayExpr":
        return [node]
    return [element for entry in body.get("elements", ()) for element in array_elements(entry)]


EXPRESSIONS.update({"ColumnRef": _column_ref, "ParamRef": _param_or_const, "A_Const": _param_or_const})
