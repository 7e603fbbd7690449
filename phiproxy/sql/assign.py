"""Values on their way into columns: what a protected column takes, and that nothing protected goes into another one.

A protected column takes a parameter, a string literal, NULL, DEFAULT, a column of the same identity (the envelope is copied), and
CASE, COALESCE and scalar subqueries made of these. What the server would compute is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from phiproxy.errors import DatatypeMismatch, StatementRefused, UndefinedColumn, WrongCount
from phiproxy.policy.catalog import Relation
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.computed import computed_sink
from phiproxy.sql.dated import dated_sink
from phiproxy.sql.ddl.mentions import mentioned
from phiproxy.sql.expressions import expression, located, wrong_count
from phiproxy.sql.leaves import cast_types
from phiproxy.sql.lengths import cut_by, peel_cuts
from phiproxy.sql.parse import Node, only
from phiproxy.sql.predicates import case_conditions
from phiproxy.sql.scope import ListColumn, Protected, Scope, Value
from phiproxy.sql.select import select
from phiproxy.sql.sinks import SinkNode, as_sink
from phiproxy.sql.type_resolution import TEXT
from phiproxy.sql.types import case_results, common_type
from phiproxy.sql.views import view_columns
from phiproxy.types.names import sql_name

Target = tuple[str, ProtectedColumn | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where values go: ``number`` is the statement's own, ``row`` that of the row whose values are sealed together.

    ``steps`` are what the values become on their way there: what CASE, COALESCE and casts further out make of them. ``settles``: a
    value without a type is a text before, as the result of a subquery. ``perhaps``: it is a result of CASE or COALESCE.
    ``certain``: it is in a row of INSERT … VALUES.
    """

    number: int
    row: int
    steps: tuple[DeclaredType, ...] = ()
    settles: bool = False
    perhaps: bool = False
    certain: bool = False

    def behind(self, *steps: DeclaredType) -> Place:
        """Return the same for values that become others first."""
        return dataclasses.replace(self, steps=(*steps, *self.steps), settles=self.settles and not steps)

    def settled(self) -> Place:
        """Return the same for the results of a subquery."""
        return dataclasses.replace(self, settles=True)

    def steps_of(self, sink: SinkNode) -> tuple[DeclaredType, ...]:
        """Return what a value becomes."""
        return (TEXT, *self.steps) if self.settles and not sink.types else self.steps

    @property
    def limit(self) -> int | None:
        """The number of characters that casts leave of a text."""
        return min((n for to in self.steps if (n := to.max_length) is not None), default=None)


def columns_of(a: Analysis, relation: Relation) -> Mapping[str, ProtectedColumn]:
    """Return the protected columns of a relation by name; those of a view are what it shows of its tables."""
    values = view_columns(a.context, relation)
    if values is not None:
        named = zip(relation.columns, values, strict=True)
        return {c.name: value.column for c, value in named if isinstance(value, Protected)}
    table = a.protected(relation)
    return table.columns if table is not None else {}


def target(a: Analysis, relation: Relation, body: Node) -> Target:
    """Return the column that a ResTarget assigns to; UndefinedColumn as the server would say."""
    name = body["name"]
    if relation.oid and relation.column(name) is None:
        raise UndefinedColumn(f'column "{name}" of relation "{relation.name}" does not exist', position=a.position(body))
    column = columns_of(a, relation).get(name)
    if column is not None and body.get("indirection"):
        raise a.refuse(
            f"cannot assign into a part of {column.label}, which is of type {sql_name(column.type)}",
            body,
            hint=f"Assign the whole value: {column.name} = …",
            error=StatementRefused if column.type.family in ("array", "jsonb") else DatatypeMismatch,
        )
    return name, column


def assign(a: Analysis, node: Node, column: ProtectedColumn | None, scope: Scope, place: Place) -> None:
    """Analyse one value on its way into one column."""
    if only(node)[0] == "SetToDefault":
        if column is not None and column.default is not None:
            a.renew(node, column, place.row)
        return
    if column is None:
        flow(a, expression(a, node, scope), None, node, place)
        return
    sink = as_sink(node)
    if sink is not None:
        a.store(sink, column, place.row, place.steps_of(sink), perhaps=place.perhaps, certain=place.certain)
        return
    inner, casts = peel_cuts(node)
    kind, _ = only(inner)
    if kind == "ColumnRef":
        value = expression(a, inner, scope)
        if isinstance(value, ListColumn):
            value.casts.extend(casts)
        else:
            _strip(a, casts, column)
        flow(a, value, column, inner, place.behind(*cast_types(casts)))
        return
    rule = _CHOICES.get(kind)
    if rule is None:
        made = _computed_sink(a, node)
        if made is None:
            raise computed(a, column, node)
        a.store(made, column, place.row, place.steps_of(made), perhaps=place.perhaps, certain=place.certain)
        return
    _strip(a, casts, column)
    rule(a, inner, column, scope, place.behind(*cast_types(casts)))


def _computed_sink(a: Analysis, node: Node) -> SinkNode | None:
    return computed_sink(a, node) or dated_sink(a, node)


def _strip(a: Analysis, casts: Sequence[Node], column: ProtectedColumn) -> None:
    """Take casts away; what those to varchar(n) leave of a text is said by the place."""
    cuts = [cast for cast in casts if cut_by(only(cast)[1]) is not None] if column.type.is_text else []
    a.stripped.extend(cuts)
    a.strip([cast for cast in casts if cast not in cuts], column)


def _case(a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, place: Place) -> None:
    """CASE: its results go to different rows, so each is sealed by itself."""
    _, body = only(node)
    results = case_results(body)
    place = dataclasses.replace(place.behind(common_type(a, results, scope)), perhaps=True)
    case_conditions(a, node, scope)
    with a.together():  # each is looked at before the first becomes what all are
        for result in [*results[1:], results[0]] if "defresult" in body else results:
            assign(a, result, column, scope, _apart(a, place))


def _apart(a: Analysis, place: Place) -> Place:
    """Return the place of a value that may go to another row than the others of its statement."""
    row = a.new_row()
    return dataclasses.replace(place, number=row, row=row)


def _coalesce(a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, place: Place) -> None:
    arguments = only(node)[1]["args"]
    place = place.behind(common_type(a, arguments, scope))
    with a.together():
        _coalesced(a, arguments, column, scope, place)


def _coalesced(a: Analysis, arguments: Sequence[Node], column: ProtectedColumn, scope: Scope, place: Place) -> None:
    for number, argument in enumerate(arguments):
        # Which of them a row gets may depend on the row, unless all are the same for every row.
        own = place if all(as_sink(other) is not None for other in arguments) else _apart(a, place)
        assign(a, argument, column, scope, dataclasses.replace(own, perhaps=place.perhaps or number > 0))


def _sublink(a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, place: Place) -> None:
    _, body = only(node)
    if body["subLinkType"] != "EXPR_SUBLINK":
        raise computed(a, column, node)
    assign_query(a, body["subselect"], [(column.name, column)], scope, _apart(a, place).settled())


def assign_query(a: Analysis, node: Node, wanted: Sequence[Target], outer: Scope, place: Place) -> int:
    """Analyse a query whose outputs go into columns, and return how many it has."""
    _, body = only(node)
    stores = _Stores({i: column for i, (_, column) in enumerate(wanted) if column is not None}, place)
    outputs = select(a, body, outer, stores=stores)
    if len(outputs) > len(wanted):
        surplus = body.get("targetList", ())[len(wanted) :]
        raise too_many(a, located(surplus[0]) if surplus else body)
    for position, (_, value) in enumerate(outputs):
        if position not in stores.stored:
            flow(a, value, wanted[position][1], node, place)
    return len(outputs)


def too_many(a: Analysis, body: Node) -> StatementRefused:
    """Return the refusal of more values than columns."""
    return a.refuse(
        "INSERT has more expressions than target columns", body, hint="Give one value for each column.", error=WrongCount
    )


def computed(a: Analysis, column: ProtectedColumn, node: Node) -> StatementRefused:
    """Return the refusal of a value that the server would compute."""
    return a.refuse(
        f"the server would compute a value for {column.label}, which is protected",
        located(node),
        hint=_given(column, node),
    )


def _given(column: ProtectedColumn, node: Node) -> str:
    """Say what to give instead; of what is made of the column itself, which only the application can read, how."""
    if mentioned(node, (column.name,)) is not None:
        name = quote_ident(column.name)
        return (
            f"The server cannot compute with what is encrypted. Select {name}, change it in the application, and give the result."
        )
    kind = "text" if column.type.is_text else sql_name(column.type)
    return f"Give a {kind} parameter, a {kind} literal, NULL or DEFAULT."


def flow(a: Analysis, value: Value, column: ProtectedColumn | None, node: Node, place: Place) -> None:
    """Check a value that the server copies into a column."""
    if isinstance(value, Protected):
        if column is None:
            raise a.refuse(
                f"{value.column.label} would flow into an unprotected column",
                located(node),
                hint=f"Add the target to the policy, in the domain of {value.column.label}, or let the client copy the value.",
            )
        if value.column.identity != column.identity:
            raise a.refuse(
                f"{value.column.label} and {column.label} have different identities",
                located(node),
                hint="Columns that are copied into each other share a domain in the policy.",
            )
        _check_constraints(a, value.column, column, node)
        limit = min((n for n in (column.type.max_length, place.limit) if n is not None), default=None)
        own = value.column.type.max_length
        if limit is not None and (own is None or own > limit):
            raise a.refuse(
                f"{column.label} has a length that the copied value may exceed",
                located(node),
                hint=f"Make {column.label} as long as {value.column.label}, or read the value and send it as a parameter.",
            )
        return
    if isinstance(value, ListColumn):
        if column is None:
            value.users.append(None)
        else:
            value.store(column, place.number, place.steps)
        return
    if column is not None:
        raise computed(a, column, node)


def _check_constraints(a: Analysis, source: ProtectedColumn, column: ProtectedColumn, node: Node) -> None:
    """Refuse a copied value that may not satisfy a constraint: the server cannot tell."""
    satisfied = {check.definition for check in source.checks if check.validated}
    broken = next((check for check in column.checks if check.definition not in satisfied), None)
    if broken is not None:
        raise a.refuse(
            f"{column.label} has constraint {broken.name}, and the server cannot see whether the copied value satisfies it",
            located(node),
            hint="Read the value and send it as a parameter.",
        )


def assignments(a: Analysis, nodes: Sequence[Node], relation: Relation, scope: Scope, number: int = 0) -> None:
    """Analyse SET of UPDATE, of ON CONFLICT and of MERGE; ``number`` is the statement's, where it has other parts that store."""
    row = a.new_row()
    place = Place(number or row, row)
    nodes = list(nodes)
    while nodes:
        _, first = only(nodes[0]["ResTarget"]["val"])
        together = nodes[: first["ncolumns"]] if "ncolumns" in first else nodes[:1]
        del nodes[: len(together)]
        wanted = [target(a, relation, only(node)[1]) for node in together]
        if "ncolumns" in first:
            _assign_list(a, [only(node)[1]["val"]["MultiAssignRef"] for node in together], wanted, scope, place)
        else:
            assign(a, together[0]["ResTarget"]["val"], wanted[0][1], scope, place)


def _assign_list(a: Analysis, refs: list[Node], wanted: Sequence[Target], scope: Scope, place: Place) -> None:
    """Analyse ``(a, b) = …``; the tree repeats the right side for each column, the text does not."""
    source = refs[0]["source"]
    for ref in refs:
        ref["source"] = source
    kind, body = only(source)
    if kind == "SubLink" and body["subLinkType"] == "EXPR_SUBLINK":
        assign_query(a, body["subselect"], wanted, scope, place.settled())
    elif kind == "RowExpr" and len(body.get("args", ())) == len(wanted):
        for node, (_, column) in zip(body["args"], wanted, strict=True):
            assign(a, node, column, scope, place)
    elif kind == "RowExpr":
        raise wrong_count(a, source, "number of columns does not match number of values")
    else:
        raise a.refuse(
            "the right side of this assignment is not understood", body, hint="Write (a, b) = (value, value), or column = value."
        )


_CHOICES = {"CaseExpr": _case, "CoalesceExpr": _coalesce, "SubLink": _sublink}


@dataclasses.dataclass(slots=True)
class _Stores:
    """The protected columns that a SELECT's outputs are stored in, by output position, and which of them it stored itself."""

    columns: Mapping[int, ProtectedColumn]
    place: Place
    stored: set[int] = dataclasses.field(default_factory=set)

    def store(self, a: Analysis, node: Node, scope: Scope, position: int) -> Protected | None:
        """Store an expression of a target list; None where it is a value like any other, whose flow is checked at the end."""
        column = self.columns.get(position)
        if column is None:
            return None
        inner, casts = peel_cuts(node)
        kind, _ = only(inner)
        if (kind == "ColumnRef" and all(cut_by(only(cast)[1]) is None for cast in casts)) or (
            kind not in {*_CHOICES, "ColumnRef"} and as_sink(node) is None and _computed_sink(a, node) is None
        ):
            return None
        assign(a, node, column, scope, self.place)
        self.stored.add(position)
        return Protected(column, column.type)
