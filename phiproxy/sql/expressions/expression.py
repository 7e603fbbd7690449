"""The analysis of an expression: Clear, Protected or a ListColumn. One without a rule may have nothing protected in it."""

import dataclasses
from enum import Enum

from phiproxy.errors import NoIndexAnswers, PathNeeded, StatementRefused, UndefinedOperator, WrongCount
from phiproxy.policy.identifiers import shown_expression
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.column_references import value_of
from phiproxy.sql.expressions.field_hints import index_name, instead_of_index
from phiproxy.sql.resolve.protected_values import CLEAR, ListColumn, Output, Protected, Value, as_they_are, group_key
from phiproxy.sql.resolve.scope import Scope, check_row, find_source
from phiproxy.sql.text.parse import Node, children, only, strings
from phiproxy.sql.values.accepted_types import changes_nothing
from phiproxy.sql.values.index_spelling import add_index, await_index, waiting
from phiproxy.sql.values.operands import as_operand, cast_type, peel
from phiproxy.sql.values.uses import PLAIN
from phiproxy.types.names import sql_name


def expression(a: Analysis, node: Node, scope: Scope) -> Value:
    """Return what the value of an expression is; refuses a use of a protected value that has no rule.

    SELECT ssn || 'x' FROM patients
    → refused 0A000
    """
    kind, body = only(node)
    rule = a.rules.expressions.get(kind)
    if rule is not None:
        return rule(a, node, body, scope)
    if kind in a.rules.queries:  # inside an expression without a rule of its own, as in JSON_ARRAY(SELECT …)
        for _, value in query(a, kind, body, scope):
            if isinstance(value, Protected):
                a.refuse_masked(value, located({kind: body}))
                raise a.refuse(f"{value.column.label} cannot be used here", located({kind: body}), hint="Select it as rows.")
            as_they_are((value,))
        return CLEAR
    for child in children(body):
        clear(a, child, scope)
    return CLEAR


def query(a: Analysis, kind: str, body: Node, outer: Scope) -> list[Output]:
    """Analyse a query inside ``outer`` and return its outputs; refuses a statement that is no query or has no rule.

    SELECT ssn FROM patients UNION ALL SELECT 'x'
    → SELECT ssn FROM patients UNION ALL SELECT envelope('x')
    """
    rule = a.rules.queries.get(kind)
    if rule is None:
        name = kind.removesuffix("Stmt").upper()
        raise a.refuse(
            f"{name} of a protected table is not understood", body, hint="Write SELECT, INSERT, UPDATE, DELETE or MERGE."
        )
    return rule(a, body, outer)


def clear(a: Analysis, node: Node, scope: Scope) -> None:
    """Analyse an expression whose value must not be protected.

    SELECT ARRAY[ssn] FROM patients
    → refused 0A000
    """
    value = expression(a, node, scope)
    if isinstance(value, Protected):
        raise unsupported(a, value.column, node)
    as_they_are((value,))


def one_value(a: Analysis, node: Node) -> None:
    """Refuse ``(expression).*`` where values are counted: it expands to as many as its type has columns.

    SELECT (p).*::text FROM patients p
    → refused 0A000
    """
    kind, body = only(node)
    if kind == "A_Indirection" and "A_Star" in body["indirection"][-1]:
        raise a.refuse("(…).* beside a protected table is not in this version", located(node), hint="List the columns.")


def listed_value(a: Analysis, node: Node) -> None:
    """Refuse ``t.*`` and ``(expression).*`` in a row of VALUES, which they expand to several values.

    SELECT v.a FROM patients p, LATERAL (VALUES (p.*)) AS v (a)
    → refused 0A000
    """
    kind, body = only(node)
    if kind == "ColumnRef" and strings(body["fields"])[-1] == "*":
        raise a.refuse("* in VALUES beside a protected table is not in this version", body, hint="List the columns.")
    one_value(a, node)


def clear_all(a: Analysis, nodes: list[Node] | None, scope: Scope) -> None:
    """Analyse several expressions whose values must not be protected."""
    for node in nodes or ():
        clear(a, node, scope)


def unsupported(a: Analysis, column: ProtectedColumn, node: Node, hint: str = "") -> StatementRefused:
    """Return the refusal of a protected column that is used without a rule; ``hint`` tells what works instead."""
    return a.refuse(
        f"column {column.label} is protected and cannot be used here",
        located(node),
        hint=hint
        or f"{column.name} can be selected, compared by =, <>, IN, = ANY or IS [NOT] DISTINCT FROM with values, subqueries or "
        "columns of the same identity, tested by IS [NOT] NULL, grouped, counted, inserted and updated.",
    )


def located(node: Node) -> Node:
    """Return the first body at or below a node that has a location."""
    _, body = only(node)
    if "location" in body and body["location"] >= 0:
        return body
    for child in children(body):
        inner = located(child)
        if "location" in inner:
            return inner
    return body


def wrong_count(a: Analysis, node: Node, why: str) -> StatementRefused:
    """Return the refusal of a comparison or assignment of different numbers of columns."""
    return a.refuse(why, located(node), hint="Give one for each.", error=WrongCount)


class Grouping(Enum):
    """How a query is grouped by a protected value: not at all, by it, by grouping sets with it, or in a query further out."""

    NONE = 0
    BY = 1
    SETS = 2
    OUTSIDE = 3


def grouping_of(a: Analysis, scope: Scope, value: Value, node: Node, expression: str | None = None) -> Grouping:
    """Return how a value is grouped by, here or further out; refused where that is by grouping sets or inside a call further out.

    SELECT (SELECT p.ssn) FROM patients p GROUP BY ROLLUP (p.ssn)
    → refused 0A000
    """
    grouped = [level for level in scope.levels() if level.grouped]
    for level in grouped:
        if group_key(value, expression) not in level.grouped:
            continue
        if level is scope:
            return Grouping.SETS if level.sets else Grouping.BY
        if not level.sets and not level.called:
            return Grouping.OUTSIDE
        assert isinstance(value, Protected)
        why = f"a subquery refers to {value.column.label}, by which a query outside is grouped in several ways or inside of a call"
        raise a.refuse(why, located(node), hint="Group in a subquery of FROM, and refer to its column.")
    return Grouping.NONE


def column_ref(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    """A column: its envelope, or that of any row of the group where the query is grouped by it.

    SELECT ssn FROM patients
    → SELECT ssn FROM "public".patients

    SELECT ssn FROM patients GROUP BY ssn
    → SELECT (pg_catalog.array_agg(ssn))[1] AS "ssn" FROM patients GROUP BY tag(ssn)

    SELECT patients FROM patients
    → refused 0A000
    """
    names = strings(body["fields"])
    if names[-1] != "*":
        value = value_of(a, node, scope)
        if not isinstance(value, Protected):
            return value
        grouping = grouping_of(a, scope, value, node)
        if grouping != Grouping.NONE:
            a.represent(node, equality_slot(a, value.column, node), sets=grouping == Grouping.SETS)
        return value
    if len(names) > 1:
        position = a.position(body)
        check_row(find_source(scope, names[-2], names[-3] if len(names) > 2 else None, position), position)
        return CLEAR
    raise a.refuse("* cannot be understood here", body, hint="Name the columns.")


def parameter_or_constant(a: Analysis, node: Node, _body: Node, _scope: Scope) -> Value:
    """A parameter or constant that meets nothing protected here.

    SELECT $1, 'x', ssn FROM patients
    → SELECT $1, 'x', ssn FROM "public".patients
    """
    operand = as_operand(node)
    if operand is not None:
        a.use(operand, PLAIN)
    return CLEAR


def plain_cast(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    """Return the value of a cast of anything but an indexed expression of a protected column.

    SELECT ssn::text FROM patients
    → SELECT ssn FROM patients

    SELECT ssn::bytea FROM patients
    → refused 0A000
    """
    value = expression(a, body["arg"], scope)
    shown = cast_type(body)
    if isinstance(value, ListColumn) and shown is not None:
        cast = ListColumn([], [], casts=[node], parts=(value,), cast_to=(shown,))
        a.lists.append(cast)
        return cast
    if not isinstance(value, Protected):
        as_they_are((value,))
        return CLEAR
    if shown is None or not changes_nothing(value.column.type, shown):
        a.refuse_masked(value, located(node))
    if shown is None:
        raise unsupported(a, value.column, node)
    a.strip([node], value.column)
    return dataclasses.replace(value, type=shown, cast=value.cast or shown != value.type, planned=None)


def equality_slot(a: Analysis, column: ProtectedColumn, node: Node) -> Slot:
    """Return the slot that answers equality on the column; NoIndexAnswers, with the index that would have to be added.

    SELECT id FROM patients WHERE notes = 'x'
    → refused 0A000
    """
    slot = column.slot_for("@")
    if slot is None and column.shown_of is not None:
        raise unsupported(a, column, node, f"What this cast gives is only shown. Use {column.name} itself, and values of its type.")
    if slot is None:
        owner = column.base or column
        shown = shown_expression(column.expression, index_name(owner))
        raise NoIndexAnswers(
            f"no blind index answers a comparison of {column.label}",
            hint=instead_of_index(owner)
            or (await_index(shown) if "@" in waiting(column.slots) else add_index(f"`{shown}`", owner.label)),
            position=a.position(located(node)),
        )
    return slot


def check_operators(a: Analysis, column: ProtectedColumn, node: Node) -> None:
    """Refuse a comparison of citext where the search path lacks its operators: PostgreSQL would compare as text.

    Domains over enums have no ``=`` at all.
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
        why = f"{column.label} is citext, whose operators are in schema {over.schema}, which the search path does not have"
        raise a.refuse(why, located(node), hint=f"Add {over.schema} to search_path.")


def array_elements(node: Node) -> list[Node]:
    """Return the elements of ``ARRAY[…]``, at any depth and under casts to text arrays; for anything else, the node itself."""
    inner, _ = peel(node, array=True)
    kind, body = only(inner)
    if kind != "A_ArrayExpr":
        return [node]
    return [element for entry in body.get("elements", ()) for element in array_elements(entry)]
