"""SELECT, VALUES and set operations: their parts, in the order in which PostgreSQL analyses them (analyze.c)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain

from phiproxy.errors import DatatypeMismatch, InvalidColumnReference, NotSupported, SyntaxRefused, WrongCount
from phiproxy.policy.signatures import INT8
from phiproxy.sql.pg_errors.expression_types import check_reached, common, condition, named_type, row_named, type_of
from phiproxy.sql.pg_errors.from_clause import derived_source, from_clause
from phiproxy.sql.pg_errors.names_and_signatures import (
    Column,
    Level,
    Output,
    Outputs,
    Source,
    Verdict,
    first,
    known_column,
    known_row,
    resolve,
)
from phiproxy.sql.pg_errors.sorted_outputs import check_sorted, check_united
from phiproxy.sql.pg_errors.ungrouped_columns import check_grouped
from phiproxy.sql.resolve.outputs_without_as import output_name
from phiproxy.sql.text.parse import Node, children, location, only, strings

_STRENGTHS = {
    "LCS_FORKEYSHARE": "FOR KEY SHARE", "LCS_FORSHARE": "FOR SHARE", "LCS_FORNOKEYUPDATE": "FOR NO KEY UPDATE",
    "LCS_FORUPDATE": "FOR UPDATE",
}  # fmt: skip


def select(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    """Check a SELECT, VALUES or set operation.

    SELECT ssn FROM patients UNION SELECT 1
    → refused 42804
    """
    with ctes(v, body, outer):
        if "valuesLists" in body:
            return _values(v, body, outer)
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            return _set_operation(v, body, outer)
        return _plain_select(v, body, outer)


def ctes(v: Verdict, body: Node, outer: Level | None) -> AbstractContextManager[None]:
    """Check WITH, and let its queries be in sight inside."""
    return _in_sight(v, body["withClause"], outer) if "withClause" in body else nullcontext()


@contextmanager
def _in_sight(v: Verdict, clause: Node, outer: Level | None) -> Iterator[None]:
    v.ctes.append({})
    try:
        for cte in (only(node)[1] for node in clause["ctes"]):
            name, names = cte["ctename"], strings(cte.get("aliascolnames"))
            if clause.get("recursive"):
                v.ctes[-1][name] = Source(name, (), opaque=True)
            kind, inner = only(cte["ctequery"])
            rule = v.rules.queries.get(kind)
            source = derived_source(name, None if rule is None else rule(v, inner, outer), names)
            v.ctes[-1][name] = replace(source, columns=(*source.columns, *_added(cte)))
        yield
    finally:
        v.ctes.pop()


def _added(cte: Node) -> list[Column]:
    """Return the columns that SEARCH and CYCLE add behind those of a query of WITH; of their types only records are known."""
    search, cycle = cte.get("search_clause", {}), cte.get("cycle_clause", {})
    names = (search.get("search_seq_column"), cycle.get("cycle_mark_column"), cycle.get("cycle_path_column"))
    return [Column(name, None) for name in names if name is not None]


def _values(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    rows = [only(row)[1]["items"] for row in body["valuesLists"]]
    level = Level(outer=outer, barred="VALUES")
    types = [[type_of(v, item, level) for item in row] for row in rows]
    odd = next((row for row in rows if len(row) != len(rows[0])), None)
    if odd is not None:
        raise v.error(WrongCount, "VALUES lists must all be the same length", first(odd[0]), "Give one value for each column.")
    outputs = []
    for number, nodes in enumerate(zip(*rows, strict=True), start=1):
        column_types = [row[number - 1] for row in types]
        outputs.append(Output(f"column{number}", common(v, "VALUES", nodes, column_types), nodes[0]))
    return outputs


def _set_operation(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    left, right = (select(v, body[side], outer) for side in ("larg", "rarg"))
    what = body["op"].removeprefix("SETOP_")
    if left is None or right is None:
        return None
    if len(left) != len(right):
        why, hint = f"each {what} query must have the same number of columns", "Select as many columns in each."
        if not right:
            raise WrongCount(why, hint=hint)  # there is nothing to point at, and PostgreSQL points at nothing
        raise v.error(WrongCount, why, first(right[0].node), hint)
    check_united(v, body, left)
    pairs = zip(left, right, strict=True)
    return [Output(o.name, common(v, what, [o.node, p.node], [o.type, p.type]), p.node) for o, p in pairs]


def _plain_select(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    level = v.levels[id(body)] = from_clause(v, body.get("fromClause", ()), outer)
    level.windows = frozenset(only(node)[1].get("name", "") for node in body.get("windowClause", ()))
    outputs = targets(v, body.get("targetList", ()), level)
    for part, what in (("whereClause", "WHERE"), ("havingClause", "HAVING")):
        if part in body:
            condition(v, body[part], level, what)
    check_sorted(v, body, outputs, level)
    names = {o.name for o in outputs or ()}
    for node in chain(*(body.get(part, ()) for part in ("sortClause", "groupClause", "distinctClause"))):
        entry = only(node)[1].get("node", node) if node else {}
        if node and "A_Const" not in entry and not ("ColumnRef" in entry and strings(only(entry)[1]["fields"])[-1] in names):
            type_of(v, node, level)
    for part, what in (("limitOffset", "OFFSET"), ("limitCount", "LIMIT")):
        if part in body:
            _limit(v, body[part], level, what)
    for node in body.get("windowClause", ()):
        type_of(v, node, level)
    check_grouped(v, body, level)
    _check_locked(v, body)
    return outputs


def _check_locked(v: Verdict, body: Node) -> None:
    """Check what FOR UPDATE OF names: PostgreSQL locks no rows of a join, a function, or a query of WITH.

    SELECT upper(p.full_name) FROM patients p JOIN visits v USING (mrn) AS j FOR UPDATE OF j
    → refused 0A000
    """
    clauses = [only(node)[1] for node in body.get("lockingClause", ())]
    named = [(clause, only(node)[1]) for clause in clauses for node in clause.get("lockedRels", ())]
    unlocked = dict(_unlocked(v, body.get("fromClause", ()))) if named else {}
    for clause, one in named:
        if "schemaname" in one:
            why = f"{_STRENGTHS[clause['strength']]} must specify unqualified relation names"
            raise v.error(SyntaxRefused, why, location(one), "Name it without its schema.")
        what = unlocked.get(one["relname"])
        if what is not None:
            why = f"{_STRENGTHS[clause['strength']]} cannot be applied to a {what}"
            raise v.error(NotSupported, why, location(one), "Name the tables whose rows are to be locked.")


def _unlocked(v: Verdict, items: Sequence[Node]) -> Iterator[tuple[str, str]]:
    """Yield the names in a FROM of what has no rows that could be locked, and what that is."""
    for kind, body in map(only, items):
        if kind == "JoinExpr":
            yield from _unlocked(v, [body["larg"], body["rarg"]])
            name = (body.get("alias") or body.get("join_using_alias") or {}).get("aliasname")
            if name is not None:
                yield name, "join"
        elif kind == "RangeFunction":
            called = strings(only(only(body["functions"][0])[1]["items"][0])[1].get("funcname"))
            yield body.get("alias", {}).get("aliasname") or "".join(called[-1:]), "function"
        elif kind == "RangeVar" and "schemaname" not in body and any(body["relname"] in level for level in v.ctes):
            yield body.get("alias", {}).get("aliasname") or body["relname"], "WITH query"


def targets(v: Verdict, nodes: Sequence[Node], level: Level) -> Outputs:
    """Check a target list, also that of RETURNING; None where it is not known how many columns it gives.

    SELECT ssn + 1 FROM patients
    → refused 42883
    """
    outputs: list[Output] = []
    counted = True
    for target in (only(node)[1] for node in nodes):
        value = target["val"]
        reference = value.get("ColumnRef")
        names = strings(reference["fields"]) if reference is not None else _row_star(value, level)
        if reference is not None:
            check_reached(v, reference, level)
        if names and names[-1] != "*" and reference is not None:
            column = known_column(level, names) or _row(level, names)
            own_type = v.types[id(reference)] = column.type if column is not None else None
            outputs.append(Output(target.get("name") or names[-1], own_type, value, column))
        elif names[-1:] == ["*"]:
            star = _star(level, names[:-1])
            counted = counted and star is not None
            outputs += [Output(c.name if c.name != "\0" else None, c.type, value, c) for c in star or ()]
        else:
            value_type = type_of(v, value, level)
            counted = counted and not ("A_Indirection" in value and "A_Star" in only(value)[1]["indirection"][-1])
            outputs.append(Output(target.get("name") or output_name(value), value_type, value, _column(v, level, value)))
    return outputs if counted else None


def _column(v: Verdict, level: Level, node: Node) -> Column | None:
    """Return the column that an expression is for PostgreSQL: also a field of a row, and what a cast to its own type is of."""
    kind, body = only(node)
    names: list[str] = []
    if kind == "ColumnRef":
        names = strings(body["fields"])
    elif kind == "A_Indirection" and len(body["indirection"]) == 1:
        argument = body["arg"]
        if "TypeCast" in argument and (of := _column(v, level, argument)) is not None and of.row_of:
            argument = only(argument)[1]["arg"]
        row = strings(only(argument)[1]["fields"]) if "ColumnRef" in argument else [""] * 3
        names = [*row[:1], *strings(body["indirection"])] if row[1:] in ([], ["*"]) else []
        if "String" not in body["indirection"][0] or len(names) != 2 or resolve(level, names[:1]) is not None:
            return None
    elif kind == "TypeCast" and not body["typeName"].get("typmods"):
        inner, argument = only(body["arg"])
        column = _column(v, level, body["arg"]) or (_row(level, strings(argument["fields"])) if inner == "ColumnRef" else None)
        if column is not None and column.row_of:
            relation = row_named(v, body["typeName"])
            return column if relation is not None and relation.oid == column.row_of else None
        same = column is not None and column.typmod == -1 and named_type(v, body["typeName"]) == column.type
        return column if same else None
    elif kind == "FuncCall":
        names = _selected(v, level, body)
    return known_column(level, names) if names else None


def _selected(v: Verdict, level: Level, body: Node) -> list[str]:
    """Return ``ssn(p)`` as ``p.ssn`` where no function has the name: PostgreSQL takes a column of the row; nothing of any other."""
    called, arguments = strings(body["funcname"]), body.get("args", [])
    if len(called) != 1 or len(arguments) != 1 or "ColumnRef" not in arguments[0] or v.signatures.functions(called[0]):
        return []
    row = strings(only(arguments[0])[1]["fields"])
    return [*row, *called] if known_row(level, row) is not None else []


def _row(level: Level, names: Sequence[str]) -> Column | None:
    """Return a whole row of a table as a column; None of any other, and where it may be a column after all."""
    source = known_row(level, names)
    if source is None or source.relation is None or any(seen.opaque for seen in level.levels()):
        return None
    return Column(names[0], None, row_of=source.relation.oid)


def _row_star(value: Node, level: Level) -> list[str]:
    """Return ``(t).*`` of a source as ``t.*``; nothing of any other expression."""
    body = value.get("A_Indirection", {})
    if "ColumnRef" not in body.get("arg", ()) or [only(node)[0] for node in body["indirection"]] != ["A_Star"]:
        return []
    row = strings(only(body["arg"])[1]["fields"])
    names = row[:-1] if row[-1] == "*" else row
    return [*names, "*"] if len(names) == 1 and resolve(level, names) is None else []


def _star(level: Level, qualifier: Sequence[str]) -> Sequence[Column] | None:
    """Return the columns of ``*`` or ``t.*``; None where they are not all known."""
    if not qualifier:
        return None if any(source.opaque and not source.counted for source in level.sources) else level.star
    source = next((s for seen in level.levels() for s in seen.sources if s.alias == qualifier[-1]), None)
    return None if source is None or (source.opaque and not source.counted) else source.columns


def _limit(v: Verdict, node: Node, level: Level, what: str) -> None:
    own = type_of(v, node, level)
    if not v.signatures.takes(INT8, own, "a"):
        why = f"argument of {what} must be type bigint, not type {v.shown(own)}"
        raise v.error(DatatypeMismatch, why, first(node), "Give a number.")
    for message in _outside_of_queries(node):
        names = strings(message["fields"]) if "fields" in message else []
        if (seen := resolve(level, names) if names else None) is not None and seen[0] is level:
            why = f"argument of {what} must not contain variables"
            raise v.error(InvalidColumnReference, why, first({"ColumnRef": message}), "Give a number.")


def _outside_of_queries(node: Node) -> Iterator[Node]:
    """Yield the messages of an expression without those of subqueries, whose columns may be their own."""
    kind, body = only(node)
    if kind != "SubLink":
        yield body
        for child in children(body):
            yield from _outside_of_queries(child)
