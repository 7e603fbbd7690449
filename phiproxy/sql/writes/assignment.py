"""Values that are assigned to columns: what a protected column may be assigned, and that nothing protected goes elsewhere.

A protected column may be assigned a parameter, a string literal, NULL, DEFAULT, a column of the same identity (the envelope is
copied), and CASE, COALESCE and scalar subqueries of these. What the server would compute is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

from phiproxy.errors import (
    AmbiguousColumn,
    DatatypeMismatch,
    NotSupported,
    StatementRefused,
    UndefinedColumn,
    UndefinedTable,
    WrongCount,
)
from phiproxy.frozen import dataclass
from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.case_and_coalesce import case_conditions, case_results, common_type
from phiproxy.sql.expressions.constant_arithmetic import arithmetic_operand
from phiproxy.sql.expressions.constant_formulas import computed_operand
from phiproxy.sql.expressions.expression import expression, located, wrong_count
from phiproxy.sql.expressions.leaves import cast_types
from phiproxy.sql.queries.select import select
from phiproxy.sql.queries.views import view_columns
from phiproxy.sql.resolve.protected_values import ListColumn, Protected, Value
from phiproxy.sql.resolve.scope import SYSTEM_COLUMNS, Scope, resolve
from phiproxy.sql.table_names import protected_table
from phiproxy.sql.text.parse import Node, children, only, reference_to, strings
from phiproxy.sql.values.accepted_types import OWN
from phiproxy.sql.values.operands import Operand, as_operand, cut_by, peel_arrays, peel_cuts
from phiproxy.sql.values.type_resolution import TEXT
from phiproxy.sql.values.uses import Store
from phiproxy.sql.writes.document_places import changed_document, member_place, put_at_place
from phiproxy.types.names import sql_name

Target = tuple[str, ProtectedColumn | None]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a value goes: ``number`` is the part of the statement that stores, ``row`` the row that is sealed together.

    ``steps`` are the types that the value is converted to on the way, by CASE, COALESCE and casts around it. ``settles``: a value
    without a type is text before, as the result of a subquery is. ``perhaps``: it is a result of CASE or COALESCE. ``certain``: it
    is in a row of INSERT … VALUES.
    """

    number: int
    row: int
    steps: tuple[DeclaredType, ...] = ()
    settles: bool = False
    perhaps: bool = False
    certain: bool = False

    def behind(self, *steps: DeclaredType) -> Destination:
        """Return the place with types that the value is converted to before."""
        return dataclasses.replace(self, steps=(*steps, *self.steps), settles=self.settles and not steps)

    def settled(self) -> Destination:
        """Return the place for the results of a subquery."""
        return dataclasses.replace(self, settles=True)

    def store(self, a: Analysis, operand: Operand, column: ProtectedColumn) -> None:
        """Record that an occurrence is stored in a column here."""
        steps = (TEXT, *self.steps) if self.settles and not operand.types else self.steps
        a.use(operand, Store(column, self.row, perhaps=self.perhaps, certain=self.certain), OWN, steps)

    @property
    def limit(self) -> int | None:
        """The number of characters to which casts cut a text."""
        return min((n for to in self.steps if (n := to.max_length) is not None), default=None)


def columns_of(a: Analysis, relation: Relation) -> Mapping[str, ProtectedColumn]:
    """Return the protected columns of a relation by name; those of a view are the columns that it selects."""
    values = view_columns(a, relation)
    if values is not None:
        named = zip(relation.columns, values, strict=True)
        return {c.name: value.column for c, value in named if isinstance(value, Protected)}
    table = protected_table(a, relation)
    return table.columns if table is not None else {}


_IN_JSONB = ", or jsonb_set(…) of it where there is an engine."


def target(a: Analysis, relation: Relation, columns: Mapping[str, ProtectedColumn], body: Node) -> Target:
    """Return the column that is assigned to, with its protection from ``columns_of``; UndefinedColumn as the server would raise it.

    UPDATE patients SET ssn[1] = 'x'
    → refused 42804

    UPDATE records SET fields['ward'] = '"B"', fields['history'][0]['note'] = $1
    → UPDATE records SET fields['ward'] = '"B"', fields['history'][0]['note'] = envelope($1)
    """
    name = body["name"]
    if relation.oid and relation.column(name) is None:
        raise UndefinedColumn(f'column "{name}" of relation "{relation.name}" does not exist', position=a.position(body))
    column = columns.get(name)
    if column is not None and body.get("indirection"):
        place = member_place(column, body)
        if place is not None:
            with a.positioned(body):
                column.refuse_masked()
            return name, None if place.clear else column.placed(place.path)
        raise a.refuse(
            f"cannot assign into a part of {column.label}, which is of type {sql_name(column.type)}",
            body,
            hint=f"Assign the whole value: {column.name} = …" + _IN_JSONB * (column.type.family == "jsonb"),
            error=StatementRefused if column.type.family in ("array", "jsonb") else DatatypeMismatch,
        )
    return name, column


def assign(a: Analysis, node: Node, column: ProtectedColumn | None, scope: Scope, destination: Destination) -> None:
    """Analyse a value that is assigned to a column.

    INSERT INTO patients (ssn, city) VALUES ($1, $2)
    → INSERT INTO patients (ssn, city) VALUES (envelope($1), $2)

    UPDATE patients SET ssn = city
    → refused 0A000

    UPDATE patients SET city = ssn
    → refused 0A000
    """
    if only(node)[0] == "SetToDefault":
        if column is not None and column.computed_default is not None:
            raise computed_default(a, column, node["SetToDefault"])
        if column is not None and column.default is not None:
            a.renew(node, column, destination.row)
        return
    if column is None:
        flow(a, expression(a, node, scope), None, node, destination)
        return
    operand = as_operand(node)
    if operand is not None:
        destination.store(a, operand, column)
        return
    inner, casts = peel_cuts(node)
    kind, _ = only(inner)
    if kind == "ColumnRef":
        value = expression(a, inner, scope)
        if isinstance(value, ListColumn):
            value.casts.extend(casts)
        else:
            _strip(a, casts, column)
        flow(a, value, column, inner, destination.behind(*cast_types(casts)))
        return
    if column.type.element is not None and _assign_given_arrays(a, node, column, scope, destination):
        return
    rule = _CHOICES.get(kind)
    if rule is None:
        _assign_computed(a, node, column, scope, destination)
        return
    _strip(a, casts, column)
    rule(a, inner, column, scope, destination.behind(*cast_types(casts)))


def _assign_given_arrays(a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, destination: Destination) -> bool:
    """Analyse a column of given texts that are cast to arrays; False where it is none.

    ``SET codes = u.c::text[] FROM unnest($1::text[]) AS u (c)`` becomes ``SET codes = u.c``, over the envelopes of the elements.
    """
    inner, casts = peel_arrays(node)
    if not casts or only(inner)[0] != "ColumnRef" or any(to.element is None or to.element.typmod != -1 for to in cast_types(casts)):
        return False  # what cuts or rounds its elements is not done here
    value = expression(a, inner, scope)
    if not isinstance(value, ListColumn):
        raise computed(a, column, node)
    value.casts.extend(casts)
    flow(a, value, column, inner, destination.behind(*cast_types(casts)))
    return True


def _assign_computed(a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, destination: Destination) -> None:
    """Analyse a value that the proxy computes, or the server of documents; all else is refused."""
    given = _computed_operand(a, node)
    if given is not None:
        destination.store(a, given, column)
        return
    whole = partial(assign, a, column=column, scope=scope, destination=destination)
    if not changed_document(a, node, column, scope, whole, partial(destination.store, a)):
        _check_names(a, node, scope)
        raise computed(a, column, node)


def _assign_member(a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, destination: Destination) -> None:
    if not put_at_place(a, node, column, scope, partial(destination.store, a)):
        _check_names(a, node, scope)
        raise computed(a, column, node)


def _check_names(a: Analysis, node: Node, scope: Scope) -> None:
    """Resolve the columns of a value that is not understood: those that are not there PostgreSQL refuses, whatever is computed.

    INSERT INTO patients (ssn) VALUES (upper(ssn))
    → refused 42703
    """
    kind, body = only(node)
    names = strings(body["fields"]) if kind == "ColumnRef" else []
    if names and names[-1] != "*":
        try:
            resolve(scope, names, a.position(body))
        except (AmbiguousColumn, UndefinedColumn, UndefinedTable):
            raise
        except StatementRefused:
            return  # what is there, and not understood
    for child in children(body) if kind != "SubLink" else ():
        _check_names(a, child, scope)


def _computed_operand(a: Analysis, node: Node) -> Operand | None:
    return computed_operand(a, node) or arithmetic_operand(a, node)


def _strip(a: Analysis, casts: Sequence[Node], column: ProtectedColumn) -> None:
    """Drop casts; how casts to varchar(n) cut a text is noted in the place."""
    cuts = [cast for cast in casts if cut_by(only(cast)[1]) is not None] if column.type.is_text else []
    a.drop_casts(cuts)
    a.strip([cast for cast in casts if cast not in cuts], column)


def _case(a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, destination: Destination) -> None:
    """Analyse CASE. Its results go to different rows, so each is sealed by itself."""
    _, body = only(node)
    results = case_results(body)
    destination = dataclasses.replace(destination.behind(common_type(a, results, scope)), perhaps=True)
    case_conditions(a, node, scope)
    with a.together():  # each is looked at before the first becomes what all are
        for result in [*results[1:], results[0]] if "defresult" in body else results:
            assign(a, result, column, scope, _apart(a, destination))


def _apart(a: Analysis, destination: Destination) -> Destination:
    """Return the place of a value that may go to another row than the other values of the statement."""
    row = a.new_row()
    return dataclasses.replace(destination, number=row, row=row)


def _coalesce(a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, destination: Destination) -> None:
    arguments = only(node)[1]["args"]
    destination = destination.behind(common_type(a, arguments, scope))
    with a.together():
        for number, argument in enumerate(arguments):
            # Which of them a row gets may depend on the row, unless all are the same for every row.
            own = destination if all(as_operand(other) is not None for other in arguments) else _apart(a, destination)
            assign(a, argument, column, scope, dataclasses.replace(own, perhaps=destination.perhaps or number > 0))


def _sublink(a: Analysis, node: Node, column: ProtectedColumn, scope: Scope, destination: Destination) -> None:
    _, body = only(node)
    if body["subLinkType"] != "EXPR_SUBLINK":
        raise computed(a, column, node)
    assign_query(a, body["subselect"], [(column.name, column)], scope, _apart(a, destination).settled())


def assign_query(a: Analysis, node: Node, wanted: Sequence[Target], outer: Scope, destination: Destination) -> int:
    """Analyse a query whose outputs are assigned to columns, and return their number.

    INSERT INTO patients (ssn, city) SELECT $1, city FROM patients
    → INSERT INTO patients (ssn, city) SELECT envelope($1), city FROM patients
    """
    _, body = only(node)
    stores = _Stores({i: column for i, (_, column) in enumerate(wanted) if column is not None}, destination)
    outputs = select(a, body, outer, stores=stores)
    if len(outputs) > len(wanted):
        surplus = body.get("targetList", ())[len(wanted) :]
        raise too_many(a, located(surplus[0]) if surplus else body)
    for position, (_, value) in enumerate(outputs):
        if position not in stores.stored:
            flow(a, value, wanted[position][1], node, destination)
    return len(outputs)


def too_many(a: Analysis, body: Node) -> StatementRefused:
    """Return the refusal of more values than columns.

    INSERT INTO patients (ssn) VALUES ('x', 'y')
    → refused 42601
    """
    return a.refuse(
        "INSERT has more expressions than target columns", body, hint="Give one value for each column.", error=WrongCount
    )


def computed(a: Analysis, column: ProtectedColumn, node: Node) -> StatementRefused:
    """Return the refusal of a value that the server would compute.

    UPDATE patients SET ssn = upper(ssn)
    → refused 0A000
    """
    why = f"the server would compute a value for {column.label}, which is protected"
    return a.refuse(why, located(node), hint=_given(column, node))


def computed_default(a: Analysis, column: ProtectedColumn, body: Node) -> StatementRefused:
    """Return the refusal of a DEFAULT that is computed: the server does not know its expression."""
    why = f"the default of {column.label} is computed, and the server does not know its expression"
    return a.refuse(why, body, hint="Write the value in its place.")


def _given(column: ProtectedColumn, node: Node) -> str:
    if reference_to(node, (column.name,)) is not None:
        name = quote_ident(column.name)
        return (
            f"The server cannot compute with what is encrypted. Select {name}, change it in the application, and give the result."
        )
    kind = "text" if column.type.is_text else sql_name(column.type)
    return f"Give a literal or a parameter (of type {kind}), NULL or DEFAULT."


def flow(a: Analysis, value: Value, column: ProtectedColumn | None, node: Node, destination: Destination) -> None:
    """Check a value that the server copies into a column.

    UPDATE patients SET mrn = v.mrn FROM visits v WHERE v.patient_id = patients.id
    → UPDATE "public".patients SET mrn = v.mrn FROM "public".visits v WHERE v.patient_id = patients.id

    INSERT INTO patients (ssn) SELECT city FROM patients
    → refused 0A000
    """
    if isinstance(value, Protected):
        a.refuse_masked(value, located(node))
        if column is None:
            raise a.refuse(
                f"{value.column.label} would flow into an unprotected column",
                located(node),
                hint=f"Add the target to the policy, in the domain of {value.column.label}, or let the client copy the value.",
            )
        if value.column.identity != column.identity:
            why = f"{value.column.label} and {column.label} have different identities"
            raise a.refuse(why, located(node), hint="Columns that are copied into each other share a domain in the policy.")
        _check_constraints(a, value.column, column, node)
        limit = min((n for n in (column.type.max_length, destination.limit) if n is not None), default=None)
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
            value.store(column, destination.number, destination.steps)
        return
    if column is not None:
        raise computed(a, column, node)


def _check_constraints(a: Analysis, source: ProtectedColumn, column: ProtectedColumn, node: Node) -> None:
    """Refuse a copied value that may violate a constraint of the column, since the server cannot check it."""
    satisfied = {check.definition for check in source.checks if check.validated}
    broken = next((check for check in column.checks if check.definition not in satisfied), None)
    if broken is not None:
        why = f"{column.label} has constraint {broken.name}, and the server cannot see whether the copied value satisfies it"
        raise a.refuse(why, located(node), hint="Read the value and send it as a parameter.")


def assignments(
    a: Analysis, nodes: Sequence[Node], relation: Relation, scope: Scope, number: int = 0, *, children: bool = False
) -> None:
    """Analyse SET of UPDATE, ON CONFLICT and MERGE; ``number`` is the part of the statement.

    ``children``: rows of the table's children are assigned to as well.

    UPDATE patients SET (ssn, city) = ('x', 'y')
    → UPDATE patients SET (ssn, city) = (envelope('x'), 'y')
    """
    row = a.new_row()
    destination = Destination(number or row, row)
    nodes, columns = list(nodes), columns_of(a, relation)
    while nodes:
        _, first = only(nodes[0]["ResTarget"]["val"])
        together = nodes[: first["ncolumns"]] if "ncolumns" in first else nodes[:1]
        del nodes[: len(together)]
        for body in (only(node)[1] for node in together):
            if body["name"] in SYSTEM_COLUMNS:
                why = f'cannot assign to system column "{body["name"]}"'
                raise NotSupported(why, hint="PostgreSQL itself fills it.", position=a.position(body))
        wanted = [target(a, relation, columns, only(node)[1]) for node in together]
        for node, (_, column) in zip(together, wanted, strict=True):
            if column is not None:
                with a.positioned(only(node)[1]):
                    column.refuse_masked()
        if children:
            wanted = [(name, column.with_children if column is not None else None) for name, column in wanted]
        if "ncolumns" in first:
            _assign_list(a, [only(node)[1]["val"]["MultiAssignRef"] for node in together], wanted, scope, destination)
        elif (column := wanted[0][1]) is not None and column.place:
            _assign_member(a, together[0]["ResTarget"]["val"], column, scope, destination)
        else:
            assign(a, together[0]["ResTarget"]["val"], column, scope, destination)


def _assign_list(a: Analysis, refs: list[Node], wanted: Sequence[Target], scope: Scope, destination: Destination) -> None:
    """Analyse ``(a, b) = …``, whose right side the tree repeats for each column."""
    source = refs[0]["source"]
    for ref in refs[1:]:
        a.tree.edit(ref)["source"] = source
    kind, body = only(source)
    if kind == "SubLink" and body["subLinkType"] == "EXPR_SUBLINK":
        assign_query(a, body["subselect"], wanted, scope, destination.settled())
    elif kind == "RowExpr" and len(body.get("args", ())) == len(wanted):
        for node, (_, column) in zip(body["args"], wanted, strict=True):
            assign(a, node, column, scope, destination)
    elif kind == "RowExpr":
        raise wrong_count(a, source, "number of columns does not match number of values")
    else:
        raise a.refuse(
            "the right side of this assignment is not understood", body, hint="Write (a, b) = (value, value), or column = value."
        )


_CHOICES = {"CaseExpr": _case, "CoalesceExpr": _coalesce, "SubLink": _sublink}


@dataclasses.dataclass(slots=True)
class _Stores:
    """The protected columns that a SELECT's outputs are stored in, by position, and which of them are stored already."""

    columns: Mapping[int, ProtectedColumn]
    destination: Destination
    stored: set[int] = dataclasses.field(default_factory=set)

    def store(self, a: Analysis, node: Node, scope: Scope, position: int) -> Protected | None:
        """Store an expression of a target list; None for an output whose flow is checked at the end."""
        column = self.columns.get(position)
        if column is None:
            return None
        inner, casts = peel_cuts(node)
        kind, _ = only(inner)
        if (kind == "ColumnRef" and all(cut_by(only(cast)[1]) is None for cast in casts)) or (
            kind not in {*_CHOICES, "ColumnRef"} and as_operand(node) is None and _computed_operand(a, node) is None
        ):
            return None
        assign(a, node, column, scope, self.destination)
        self.stored.add(position)
        return Protected(column, column.type)
