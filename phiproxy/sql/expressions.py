"""Expressions: what a value is, and the few places where a protected value may stand.

``expression`` answers Clear, Protected or ListColumn; a node type without a rule of its own may hold nothing protected, so its
children must all be Clear. New rules are entries of ``rules.EXPRESSIONS``.
"""

from __future__ import annotations

from dataclasses import dataclass

from phiproxy.errors import NoIndexAnswers, StatementRefused
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.meaning import NULLNESS, PLAIN, Search
from phiproxy.sql.parse import Node, children, only, strings
from phiproxy.sql.rules import EXPRESSIONS
from phiproxy.sql.scope import CLEAR, Compared, ListColumn, Protected, Scope, Value, find_source, resolve
from phiproxy.sql.sinks import TEXT_OID, as_sink, peel, text_cast
from phiproxy.wire.arrays import TEXT_ARRAY_OID, VARCHAR_ARRAY_OID
from phiproxy.wire.values import VARCHAR_OID


def expression(a: Analysis, node: Node, scope: Scope) -> Value:
    """Return what an expression is; refuses one that does with a protected value what is not understood."""
    kind, body = only(node)
    handler = EXPRESSIONS.get(kind)
    if handler is not None:
        return handler(a, node, body, scope)
    for child in children(body):
        clear(a, child, scope)
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


def unsupported(a: Analysis, column: ProtectedColumn, node: Node) -> StatementRefused:
    """Return the refusal of a protected column where this version has no rule for it."""
    return a.refuse(
        f"column {column.label} is protected and cannot be used here",
        located(node),
        hint=f"In this version {column.name} can be selected as it is, compared by =, <>, IN or IS [NOT] DISTINCT FROM with values "
        "or columns of the same identity, tested by IS [NOT] NULL, counted, inserted and updated.",
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


def _column_ref(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    names = strings(body["fields"])
    if names[-1] != "*":
        return resolve(scope, names, a.position(body))
    if len(names) > 1:
        source = find_source(scope, names[-2], names[-3] if len(names) > 2 else None, a.position(body))
        if source.protects():
            raise a.refuse(
                f'a whole-row reference to "{source.alias}" would hold protected columns', body, hint="List the columns."
            )
        return CLEAR
    raise a.refuse("* cannot be understood here", body)


def _param_or_const(a: Analysis, node: Node, _body: Node, _scope: Scope) -> Value:
    sink = as_sink(node)
    if sink is not None:
        a.use(sink, PLAIN)
    return CLEAR


def _type_cast(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    value = expression(a, body["arg"], scope)
    shown = text_cast(body)
    if isinstance(value, ListColumn) and shown is not None:
        value.casts.append(node)
        return value
    if not isinstance(value, Protected):
        if isinstance(value, ListColumn):
            value.users.append(None)
        return CLEAR
    if shown is None:
        raise unsupported(a, value.column, node)
    a.stripped.append(node)
    return Protected(value.column, shown, value.cast or shown != value.type)


def _null_test(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    sink = as_sink(body["arg"]) or as_sink(body["arg"], array=True)
    if sink is not None and sink.kind == "param":
        a.use(sink, NULLNESS)
        return CLEAR
    inner, casts = peel(body["arg"])
    if only(inner)[0] == "ColumnRef":
        value = expression(a, inner, scope)
        if isinstance(value, ListColumn):
            value.casts.extend(casts)
            return CLEAR
    operand = column_operand(a, body["arg"], scope)
    if operand is None:
        clear(a, body["arg"], scope)
    else:
        a.stripped.extend(operand.casts)
    return CLEAR


@dataclass(frozen=True, slots=True)
class ColumnOperand:
    """A protected column, perhaps under no-op casts, as an operand."""

    column: ProtectedColumn
    node: Node
    casts: tuple[Node, ...]

    def tag(self, a: Analysis, slot: Slot) -> None:
        """Let the server see the tag instead of the envelope."""
        a.tagged.append((self.node, slot.number))
        a.stripped.extend(self.casts)


def column_operand(a: Analysis, node: Node, scope: Scope) -> ColumnOperand | None:
    """Return a node as a protected column operand, or None when it is anything else; records nothing."""
    inner, casts = peel(node)
    kind, body = only(inner)
    if kind != "ColumnRef" or strings(body["fields"])[-1] == "*":
        return None
    value = resolve(scope, strings(body["fields"]), a.position(body))
    return ColumnOperand(value.column, inner, casts) if isinstance(value, Protected) else None


def equality_slot(a: Analysis, column: ProtectedColumn, node: Node) -> Slot:
    """Return the slot that answers equality on the column itself; NoIndexAnswers with the line to add when there is none."""
    slot = column.slot_for("@")
    if slot is None:
        waiting = any(s.expression == "@" and s.state != "dropped" for s in column.slots)
        raise NoIndexAnswers(
            f"no blind index answers a comparison of {column.label}",
            hint=f"The index on {column.name} is still building."
            if waiting
            else f"Add `{column.name}` to the indexes of {column.label} in the policy, then run phiproxy keys init.",
            position=a.position(located(node)),
        )
    return slot


_ARRAY_KINDS = {"AEXPR_OP_ANY", "AEXPR_OP_ALL"}
_EQUALITY_KINDS = {"AEXPR_OP", "AEXPR_IN", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT", *_ARRAY_KINDS}


def _operator(body: Node) -> str | None:
    names = strings(body.get("name"))
    if len(names) == 2 and names[0] == "pg_catalog":
        names = names[1:]
    return names[0] if len(names) == 1 else None


def _a_expr(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    comparable = body["kind"] in _EQUALITY_KINDS and _operator(body) in ("=", "<>") and "lexpr" in body
    left = column_operand(a, body["lexpr"], scope) if comparable else None
    right_nodes = _right_operands(body) if comparable else []
    right = [column_operand(a, n, scope) for n in right_nodes]
    if left is None and not any(right):
        for side in ("lexpr", "rexpr"):
            if side in body:
                clear(a, body[side], scope)
        return CLEAR
    operands: list[tuple[Node, ColumnOperand | None]] = [(body["lexpr"], left), *zip(right_nodes, right, strict=True)]
    whole_array = body["rexpr"] if body["kind"] in _ARRAY_KINDS and right_nodes == [body["rexpr"]] else None
    if body["kind"] in _ARRAY_KINDS and whole_array is None:
        a.recast.extend(peel(body["rexpr"], array=True)[1])  # its elements become tags, and the cast one to bytea[]
    _compare(a, node, scope, operands, whole_array)
    return CLEAR


def _right_operands(body: Node) -> list[Node]:
    kind, right = only(body["rexpr"])
    if body["kind"] in _ARRAY_KINDS:
        return array_elements(body["rexpr"])
    return list(right.get("items", ())) if kind == "List" else [body["rexpr"]]


def array_elements(node: Node) -> list[Node]:
    """Return what stands in ``ARRAY[…]``, at any depth and under casts to an array of text; of anything else the node itself."""
    inner, _ = peel(node, array=True)
    kind, body = only(inner)
    if kind != "A_ArrayExpr":
        return [node]
    return [element for entry in body.get("elements", ()) for element in array_elements(entry)]


def _compare(
    a: Analysis, node: Node, scope: Scope, operands: list[tuple[Node, ColumnOperand | None]], whole_array: Node | None
) -> None:
    columns = [o for _, o in operands if o is not None]
    column = columns[0].column
    for other in columns:
        if other.column.identity != column.identity:
            raise a.refuse(
                f"{column.label} and {other.column.label} have different identities and cannot be compared",
                located(node),
                hint="Columns that are compared share a domain in the policy.",
            )
    slot = equality_slot(a, column, columns[0].node)
    type_oid = _compared_type(node, operands)
    for side, operand in operands:
        if operand is not None:
            operand.tag(a, slot)
            continue
        array = side is whole_array
        if not array and _compare_given(a, side, column, slot, scope):
            continue
        sink = as_sink(side, array=array)
        if sink is None:
            raise a.refuse(
                f"{column.label} is protected and can only be compared with values or columns of the same identity",
                located(side),
                hint="Compare it with a text parameter, a text literal, NULL, or ANY or ALL of an array of these.",
            )
        a.use(sink, Search(column, slot, array), TEXT_ARRAY_OID if array else type_oid)


def _compare_given(a: Analysis, node: Node, column: ProtectedColumn, slot: Slot, scope: Scope) -> bool:
    """Note that a column of given values is compared; False when the node is anything else."""
    inner, casts = peel(node)
    if only(inner)[0] != "ColumnRef":
        return False
    value = expression(a, inner, scope)
    if not isinstance(value, ListColumn):
        return False
    value.users.append(Compared(column, slot, inner, casts))
    return True


def _compared_type(node: Node, operands: list[tuple[Node, ColumnOperand | None]]) -> int:
    """Return the type of a parameter that is compared: text, since varchar has no operators; in IN over a list the list's type."""
    first, compared = operands[0][1], only(node)[1]
    if compared["kind"] in _ARRAY_KINDS:
        casts = peel(compared["rexpr"], array=True)[1]
        innermost = text_cast(only(casts[-1])[1], array=True) if casts else None
        return VARCHAR_OID if innermost is not None and innermost.oid == VARCHAR_ARRAY_OID else TEXT_OID
    values = sum(operand is None for _, operand in operands[1:])
    if compared["kind"] == "AEXPR_IN" and values > 1 and first is not None and not first.casts:
        return first.column.type.oid
    return TEXT_OID


def _func_call(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    names = strings(body["funcname"])
    a.check_reaching(names[-1], body)
    if names in (["count"], ["pg_catalog", "count"]) and not body.get("agg_distinct") and len(body.get("args", ())) == 1:
        expression(a, body["args"][0], scope)  # an envelope is NULL where its value is
        clear_all(a, body.get("agg_order"), scope)
        for part in ("agg_filter", "over"):
            if part in body:
                clear_all(a, [body[part]] if part == "agg_filter" else list(children(body[part])), scope)
        return CLEAR
    for child in children(body):
        clear(a, child, scope)
    return CLEAR


EXPRESSIONS.update(
    {
        "ColumnRef": _column_ref,
        "ParamRef": _param_or_const,
        "A_Const": _param_or_const,
        "TypeCast": _type_cast,
        "NullTest": _null_test,
        "A_Expr": _a_expr,
        "FuncCall": _func_call,
    }
)
