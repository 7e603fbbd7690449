"""SELECT and VALUES, the order of their clauses; outputs are (name, Value), name None where PostgreSQL's choice is not modelled."""

from dataclasses import replace
from typing import Protocol

from phiproxy.errors import DuplicateAlias
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.conditions import condition
from phiproxy.sql.expressions.constant_formulas import compared_operand
from phiproxy.sql.expressions.expression import clear, expression, listed_value, one_value
from phiproxy.sql.expressions.terms import window
from phiproxy.sql.queries.ctes import ctes_of
from phiproxy.sql.queries.generated_columns import list_star
from phiproxy.sql.queries.grouping import distinct, distinct_on, group_by, grouped_scope, label
from phiproxy.sql.queries.order_by import sort_key, sorted_by, united_order
from phiproxy.sql.queries.row_fields import name_fields
from phiproxy.sql.queries.set_operations import set_operation
from phiproxy.sql.queries.unnest import unnested
from phiproxy.sql.resolve.functional_dependencies import Outputs, Selected
from phiproxy.sql.resolve.outputs_without_as import output_name
from phiproxy.sql.resolve.protected_values import (
    CLEAR,
    Clear,
    ListColumn,
    ListGroup,
    Output,
    Protected,
    Value,
    about_nobody,
    as_they_are,
    group_key,
)
from phiproxy.sql.resolve.scope import Joined, Scope, SourceColumn, beside, find_source, star_of
from phiproxy.sql.rewrite.references_and_markers import spelled_node
from phiproxy.sql.text.parse import Node, location, only, strings
from phiproxy.sql.values.operands import as_operand

_EXPRESSIONS = ("targetList", "whereClause", "groupClause", "havingClause", "sortClause", "windowClause", "distinctClause")


class Stores(Protocol):
    """The columns that the outputs of a SELECT are stored in, if they are."""

    stored: set[int]

    def store(self, a: Analysis, node: Node, scope: Scope, position: int) -> Protected | None:
        """Store an expression of the target list, and return its value, or None where it is an output like any other."""


def select(a: Analysis, body: Node, outer: Scope, *, stores: Stores | None = None) -> list[Output]:
    """Analyse a SELECT inside ``outer`` and return its outputs.

    SELECT ssn FROM patients WHERE ssn = 'x' ORDER BY id LIMIT 1
    → SELECT ssn FROM patients WHERE tag(ssn) = tag('x') ORDER BY id LIMIT 1

    SELECT ssn FROM patients UNION ALL VALUES ('x')
    → SELECT ssn FROM patients UNION ALL VALUES (envelope('x'))
    """
    if "intoClause" in body:
        raise a.refuse(
            "SELECT INTO inside of another query, beside a protected table, is not in this version",
            only(body["targetList"][0])[1] if "targetList" in body else body["intoClause"]["rel"],
            hint="Write CREATE TABLE … AS SELECT ….",
        )
    with ctes_of(a, body, outer):
        if "valuesLists" in body:
            return _values(a, body, outer)
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            outputs = set_operation(a, body, lambda operand: select(a, operand, outer))
            for node in body.get("sortClause", ()):
                united_order(a, only(node)[1]["node"], [name for name, _ in outputs])
                _output_reference(a, only(node)[1]["node"], outputs, Scope((), outer))
            _limits(a, body, outer)
            return outputs
        return _plain_select(a, body, outer, stores)


def _values(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    rows = [only(row)[1]["items"] for row in body["valuesLists"]]
    width = len(rows[0])
    group = ListGroup()
    columns = [ListColumn([], [], group=group, of_values=True, seen=len(a.uses)) for _ in range(width)]
    for row in rows:
        number = a.new_row()
        for column, item in zip(columns, row, strict=False):
            operand = as_operand(item) or compared_operand(a, item)
            if operand is None:
                listed_value(a, item)
                clear(a, item, outer)
            column.entries.append(operand)
            column.rows.append(number)
    a.lists.extend(columns)
    if "sortClause" in body:
        as_they_are(columns)
    _limits(a, body, outer)
    return [(f"column{i + 1}", column) for i, column in enumerate(columns)]


def _limits(a: Analysis, body: Node, outer: Scope) -> None:
    for part in ("limitOffset", "limitCount"):
        if part in body:
            clear(a, body[part], outer)


def _plain_select(a: Analysis, body: Node, outer: Scope, stores: Stores | None) -> list[Output]:
    joined = from_clause(a, body.get("fromClause"), outer)
    if _is_table(body):
        joined = replace(joined, table=location(only(body["fromClause"][0])[1]))
    inside = joined.scope(outer)
    body = name_fields(a, body, _EXPRESSIONS, inside)
    scope = grouped_scope(a, body, inside)
    nodes: list[Node | None] = []
    outputs = targets(a, body.get("targetList", []), joined, scope, stores, nodes)
    for part, seen, what in (("whereClause", inside, "WHERE"), ("havingClause", scope, "HAVING")):
        if part in body:
            condition(a, body[part], seen, what)
    group_by(a, body, outputs, inside)
    for node in body.get("sortClause", ()):
        _output_reference(a, only(node)[1]["node"], outputs, scope)
    for definition in body.get("windowClause", ()):
        window(a, only(definition)[1], scope)
    _distinct(a, body, outputs, nodes, scope)
    if stores is not None and stores.stored and ("distinctClause" in body or "groupClause" in body):
        raise a.refuse(
            "DISTINCT or GROUP BY over values for protected columns is not in this version",
            only(body["targetList"][0])[1],
            hint="Group or de-duplicate in a subquery, or before the values are sent.",
        )
    _limits(a, body, scope)
    passes_rows_on = "groupClause" not in body and "lockingClause" not in body
    return Outputs(outputs, [Selected(outputs, nodes, scope) if passes_rows_on else None])


def _is_table(body: Node) -> bool:
    """Tell whether a query was written as ``TABLE relation``."""
    first = only(body["targetList"][0])[1].get("val", {}) if body.get("targetList") else {}
    return "ColumnRef" in first and first["ColumnRef"].get("location", -1) < 0 and bool(body.get("fromClause"))


def _distinct(a: Analysis, body: Node, outputs: list[Output], nodes: list[Node | None], scope: Scope) -> None:
    clause = body.get("distinctClause")
    if clause is None:
        return
    expressions = [n for n in clause if n]
    for node in expressions:
        if not distinct_on(a, node, outputs, nodes, scope):
            _output_reference(a, node, outputs, scope)
    if not expressions:
        distinct(a, body, outputs, nodes, scope)


def _output_reference(a: Analysis, node: Node, outputs: list[Output], scope: Scope) -> None:
    """Analyse an entry of ORDER BY or DISTINCT ON, which may name an output by number or name (manual 7.5)."""
    kind, body = only(node)
    named: list[Value] = []
    if kind == "A_Const" and "ival" in body:
        index = body["ival"].get("ival", 0)
        named = [outputs[index - 1][1]] if 1 <= index <= len(outputs) else []
    elif kind == "ColumnRef" and len(names := strings(body["fields"])) == 1:
        named = [value for name, value in outputs if name == names[0]]
        if not named:
            sort_key(a, node, scope)
    else:
        sort_key(a, node, scope)
    for value in named:
        sorted_by(a, value, node)


def targets(
    a: Analysis,
    nodes: list[Node],
    joined: Joined,
    scope: Scope,
    stores: Stores | None = None,
    expressions: list[Node | None] | None = None,
) -> list[Output]:
    """Return the outputs of SELECT or RETURNING, ``*`` expanded as by the server; ``expressions`` gets each one's, or None.

    SELECT *, 'x' FROM patients
    → SELECT *, 'x' FROM "public".patients
    """
    outputs: list[Output] = []
    referring: list[Node | None] = expressions if expressions is not None else []
    group, row = ListGroup(), a.new_row()
    for node in nodes:
        target = only(node)[1]
        value = target["val"]
        kind, body = only(value)
        names = strings(body["fields"]) if kind == "ColumnRef" else []
        if names and names[-1] == "*":
            star = _star(a, nodes, node, joined, scope)
            for c in star:
                _show_of_star(a, c.value, value, stores)
            outputs.extend((None if c.name == "\0" else c.name, c.value) for c in star)
            nameless = (isinstance(c.value, Clear) or any("\0" in pair for pair in c.spelled) for c in star)
            referring.extend(None if none else spelled_node(c.spelled) for c, none in zip(star, nameless, strict=True))
            continue
        if not names:
            one_value(a, value)
        if stores is None:
            a.show(value)
        referring.append(value)
        position = len(outputs)
        name = target.get("name") or (names[-1] if names else output_name(value))
        stored = stores.store(a, value, scope, position) if stores is not None else None
        if stored is not None:
            # ORDER BY would see the envelopes, and with it the order in which a sequence numbers the rows.
            outputs.append((name, stored))
            continue
        output_value = (None if names else _given(a, value, group, row)) or expression(a, value, scope)
        if not names:
            output_value = about_nobody(output_value)
        label(a, target, output_value, name)
        outputs.append((name, Clear(computed=True) if output_value is CLEAR and not names else output_value))
    return outputs


def _show_of_star(a: Analysis, value: Value, star: Node, stores: Stores | None) -> None:
    """Refuse ``*`` over a column that is denied to the role; one that is masked may be shown, and not stored."""
    if isinstance(value, Protected) and (masked := value.column.masked) is not None and (masked.show.denies or stores is not None):
        a.refuse_masked(value, only(star)[1])


def _given(a: Analysis, node: Node, group: ListGroup, row: int) -> ListColumn | None:
    """Return a parameter or literal of a target list as a column of one given value, whose user decides what becomes of it."""
    operand = as_operand(node)
    if operand is None:
        return unnested(a, node, group, row)
    column = ListColumn([operand], [row], group=group, seen=len(a.uses))
    a.lists.append(column)
    return column


def _star(a: Analysis, nodes: list[Node], node: Node, joined: Joined, scope: Scope) -> list[SourceColumn]:
    body = only(only(node)[1]["val"])[1]
    names = strings(body["fields"])
    if len(names) == 1:
        star, sources, listed = joined.star, joined.sources, joined.listed
    else:
        source = find_source(scope, names[-2], names[-3] if len(names) > 2 else None, a.position(body))
        star, sources, listed = star_of(source), [source], any(c.spelled for c in source.columns)
    if any(s.opaque for s in sources):
        why = "* over a function or a table just made, beside a protected table, is not in this version"
        raise a.refuse(why, body, hint="List the columns.")
    if listed or any(source.hidden for source in sources) or any(group_key(c.value) in scope.grouped for c in star):
        list_star(a, nodes, node, star, scope, joined.table)
    return star


def from_clause(a: Analysis, nodes: list[Node] | None, outer: Scope) -> Joined:
    """Analyse a FROM or USING list; LATERAL items see those to their left.

    SELECT ssn FROM patients, patients
    → refused 42712
    """
    result = Joined([])
    for node in nodes or ():
        kind, body = only(node)
        item = from_item(a, kind, body, outer, result)
        result = beside(result, item)
        _check_aliases(a, result, body)
    return result


def _check_aliases(a: Analysis, joined: Joined, body: Node) -> None:
    """Refuse two sources of one name that are not tables of two schemas (parse_relation.c, checkNameSpaceConflicts)."""
    named: dict[str, set[str | None]] = {}
    for source in joined.sources:
        schemas = named.setdefault(source.alias, set())
        if source.alias != "\0" and schemas and (source.schema is None or schemas & {source.schema, None}):
            why = f'table name "{source.alias}" specified more than once'
            raise a.refuse(why, body, hint="Give each an alias.", error=DuplicateAlias)
        schemas.add(source.schema)


def from_item(a: Analysis, kind: str, body: Node, outer: Scope, left: Joined) -> Joined:
    """Analyse one item of FROM or one side of a join; ``left`` is what LATERAL sees.

    SELECT ssn FROM patients, XMLTABLE('/a' PASSING ($1::xml) COLUMNS b int PATH 'b')
    → refused 0A000
    """
    rule = a.rules.from_items.get(kind)
    if rule is None:
        name, hint = _NOT_IN_FROM.get(kind, (kind, "Put it into a statement of its own, and pass what it gives as parameters."))
        raise a.refuse(f"{name} in FROM beside a protected table is not in this version", body, hint=hint)
    return rule(a, body, outer, left)


_JOINED_IN_CLIENT = "Select what it is made of, and take it apart in the client."
_NOT_IN_FROM = {
    "RangeTableFunc": ("XMLTABLE", _JOINED_IN_CLIENT),
    "JsonTable": ("JSON_TABLE", _JOINED_IN_CLIENT),
}
