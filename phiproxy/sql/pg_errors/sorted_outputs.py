"""Entries of ORDER BY, GROUP BY and DISTINCT ON: numbers of outputs, and what DISTINCT asks of ORDER BY, where that is certain.

As parse_clause.c has it. The server says so itself of a statement that it is sent, as one that is split, or a view over
expressions, is not.
"""

from collections.abc import Sequence

from phiproxy.errors import InvalidColumnReference, SyntaxRefused
from phiproxy.sql.pg_errors.names_and_signatures import Level, Output, Verdict, first, resolve
from phiproxy.sql.queries.order_by import united_order
from phiproxy.sql.text.parse import Node, grouping_entries, location, only, strings

_SELECT = "Select what rows are sorted by too, or sort in a query around it."


def check_sorted(v: Verdict, body: Node, outputs: Sequence[Output] | None, level: Level) -> None:
    """Reject numbers that no output has, and what rows that DISTINCT leaves are not sorted by.

    SELECT upper(ssn) FROM patients ORDER BY 5
    → refused 42P10

    SELECT DISTINCT upper(ssn) FROM patients ORDER BY id
    → refused 42P10
    """
    if v.sent:
        return
    chosen = [node for node in body.get("distinctClause", ()) if node]
    entries = [only(node)[1]["node"] for node in body.get("sortClause", ())]
    grouped = [*grouping_entries(body.get("groupClause", ()))]
    for what, nodes in (("ORDER BY", entries), ("GROUP BY", grouped), ("DISTINCT ON", chosen)):
        for node in nodes:
            _check_constant(v, node, None if outputs is None else len(outputs), what)
    if outputs is None or "distinctClause" not in body:
        return
    if not chosen:
        for node in entries:
            if _is_none_of(v, node, outputs, level):
                why = "for SELECT DISTINCT, ORDER BY expressions must appear in select list"
                raise v.error(InvalidColumnReference, why, first(node), _SELECT)
    elif entries and not _may_be(v, level, entries[0], chosen, outputs):
        why = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions"
        later = [one for node in entries[1:] for one in _may_be(v, level, node, chosen, outputs)]
        raise v.error(InvalidColumnReference, why, first([*later, *chosen][0]), "Begin ORDER BY with what DISTINCT ON has.")


def check_united(v: Verdict, body: Node, outputs: Sequence[Output]) -> None:
    """Reject what a set operation is not sorted by: only its columns, by number or name.

    SELECT upper(ssn) AS u FROM patients UNION SELECT city FROM patients ORDER BY length(u)
    → refused 0A000
    """
    for node in (only(item)[1]["node"] for item in body.get("sortClause", ())) if not v.sent else ():
        _check_constant(v, node, len(outputs), "ORDER BY")
        united_order(v.a, node, [output.name for output in outputs])


def check_aggregate(v: Verdict, body: Node, level: Level) -> None:
    """Reject an aggregate with DISTINCT that is sorted by what is none of its arguments.

    SELECT string_agg(DISTINCT ssn, ',' ORDER BY id) FROM patients
    → refused 42P10
    """
    if v.sent or not body.get("agg_distinct"):
        return
    for node in (only(item)[1]["node"] for item in body.get("agg_order", ())):
        if all(_differ(v, level, node, argument) for argument in body.get("args", ())):
            why = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list"
            raise v.error(InvalidColumnReference, why, first(node), "Sort by an argument.")


def _check_constant(v: Verdict, node: Node, count: int | None, what: str) -> None:
    constant = node.get("A_Const")
    if constant is None:
        return
    if "ival" not in constant:
        why = f"non-integer constant in {what}"
        raise v.error(SyntaxRefused, why, location(constant), "Give the number or name of a column, or an expression.")
    number = constant["ival"].get("ival", 0)
    if count is not None and not 1 <= number <= count:
        why = f"{what} position {number} is not in select list"
        raise v.error(InvalidColumnReference, why, location(constant), "Give the number of a column that is selected.")


def _meant(node: Node, outputs: Sequence[Output]) -> Node:
    """Return the expression of an entry; for an output's number or name, that of the output."""
    if "A_Const" in node:
        return outputs[int(node["A_Const"].get("ival", {}).get("ival", 1)) - 1].node
    names = strings(node["ColumnRef"]["fields"]) if "ColumnRef" in node else []
    return next((output.node for output in outputs if names == [output.name]), node)


def _may_be(v: Verdict, level: Level, node: Node, chosen: Sequence[Node], outputs: Sequence[Output]) -> list[Node]:
    """Return the expressions of DISTINCT ON that an entry of ORDER BY may be."""
    return [one for one in chosen if not _differ(v, level, _meant(node, outputs), _meant(one, outputs))]


def _is_none_of(v: Verdict, node: Node, outputs: Sequence[Output], level: Level) -> bool:
    """Tell whether an entry of ORDER BY is certainly no output."""
    names = strings(node["ColumnRef"]["fields"]) if "ColumnRef" in node else []
    if "A_Const" in node or any(names == [output.name] for output in outputs):
        return False
    resolved = resolve(level, names) if names and "*" not in names else None
    for output in outputs:
        starred = "*" in strings(output.node.get("ColumnRef", {}).get("fields"))
        if names and starred and (resolved is None or output.column is None or output.column == resolved[2]):
            return False
        if not starred and not _differ(v, level, node, output.node):
            return False
        if not names and starred and not _is_computed(v, node):
            return False
    return True


def _is_computed(v: Verdict, node: Node) -> bool:
    """Tell whether an expression is a call, an operator or a given value, and so no column."""
    kind, body = only(node)
    if kind == "FuncCall":
        return bool(v.signatures.functions(strings(body["funcname"])[-1]))
    return kind in ("A_Const", "ParamRef") or (kind == "A_Expr" and body["kind"] == "AEXPR_OP")


def _differ(v: Verdict, level: Level, one: Node, other: Node) -> bool:
    """Tell whether two expressions are certainly not the same to PostgreSQL."""
    (kind, a), (kind_of_other, b) = only(one), only(other)
    if kind == kind_of_other == "ColumnRef":
        return _are_two_columns(level, strings(a["fields"]), strings(b["fields"]))
    if "ColumnRef" in (kind, kind_of_other):
        return _is_computed(v, other if kind == "ColumnRef" else one)
    if not (_is_computed(v, one) and _is_computed(v, other)):
        return False
    if kind != kind_of_other:
        return True
    if kind not in ("FuncCall", "A_Expr"):
        return False
    if _called(a) != _called(b):
        return True
    parts = [[body["lexpr"], body["rexpr"]] if "rexpr" in body and "lexpr" in body else body.get("args", []) for body in (a, b)]
    return len(parts[0]) != len(parts[1]) or any(_differ(v, level, x, y) for x, y in zip(*parts, strict=True))


def _called(body: Node) -> str:
    return strings(body["funcname"] if "funcname" in body else body["name"])[-1]


def _are_two_columns(level: Level, *names: Sequence[str]) -> bool:
    one, other = (resolve(level, each) if "*" not in each else None for each in names)
    if one is None or other is None or one[1] is None or other[1] is None:
        return False
    return one[1] is not other[1] or one[2].name != other[2].name
