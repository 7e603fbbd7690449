"""SELECT, INSERT, UPDATE, DELETE and MERGE, in the order in which PostgreSQL looks at their parts (analyze.c)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from phiproxy.errors import DatatypeMismatch, InvalidColumnReference, WrongCount
from phiproxy.policy.signatures import INT8, Type
from phiproxy.sql.names import output_name
from phiproxy.sql.parse import Node, children, location, only, strings
from phiproxy.sql.verdict.expressions import QUERIES, common, condition, type_of
from phiproxy.sql.verdict.grouped import check_grouped
from phiproxy.sql.verdict.sources import derived_source, from_clause, table
from phiproxy.sql.verdict.state import Column, Level, Output, Outputs, Source, Verdict, first, resolve


def _select(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    v.ctes.append({})
    try:
        _with(v, body, outer)
        if "valuesLists" in body:
            return _values(v, body, outer)
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            return _set_operation(v, body, outer)
        return _plain_select(v, body, outer)
    finally:
        v.ctes.pop()


def _with(v: Verdict, body: Node, outer: Level | None) -> None:
    clause = body.get("withClause", {})
    for cte in (only(node)[1] for node in clause.get("ctes", ())):
        name, names = cte["ctename"], strings(cte.get("aliascolnames"))
        if clause.get("recursive"):
            v.ctes[-1][name] = Source(name, (), opaque=True)
        kind, inner = only(cte["ctequery"])
        v.ctes[-1][name] = derived_source(name, QUERIES[kind](v, inner, outer) if kind in QUERIES else None, names)


def _values(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    rows = [only(row)[1]["items"] for row in body["valuesLists"]]
    level = Level(outer=outer, barred="VALUES")
    types = [[type_of(v, item, level) for item in row] for row in rows]
    odd = next((row for row in rows if len(row) != len(rows[0])), None)
    if odd is not None:
        raise v.error(WrongCount, "VALUES lists must all be the same length", first(odd[0]), "Give one value for each column.")
    made = []
    for number, nodes in enumerate(zip(*rows, strict=True), start=1):
        found = [row[number - 1] for row in types]
        made.append(Output(f"column{number}", common(v, "VALUES", nodes, found), nodes[0]))
    return made


def _set_operation(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    left, right = (_select(v, body[side], outer) for side in ("larg", "rarg"))
    what = body["op"].removeprefix("SETOP_")
    if left is None or right is None:
        return None
    if len(left) != len(right):
        why = f"each {what} query must have the same number of columns"
        raise v.error(WrongCount, why, first(right[0].node), "Select as many columns in each.")
    pairs = zip(left, right, strict=True)
    return [Output(o.name, common(v, what, [o.node, p.node], [o.type, p.type]), p.node) for o, p in pairs]


def _plain_select(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    level = from_clause(v, body.get("fromClause", ()), outer)
    outputs = _targets(v, body.get("targetList", ()), level)
    for part, what in (("whereClause", "WHERE"), ("havingClause", "HAVING")):
        if part in body:
            condition(v, body[part], level, what)
    names = {o.name for o in outputs or ()}
    for node in chain(*(body.get(part, ()) for part in ("sortClause", "groupClause", "distinctClause"))):
        if node and not _names_output(only(node)[1].get("node", node), names):
            type_of(v, node, level)
    for part, what in (("limitOffset", "OFFSET"), ("limitCount", "LIMIT")):
        if part in body:
            _limit(v, body[part], level, what)
    for node in body.get("windowClause", ()):
        type_of(v, node, level)
    check_grouped(v, body, level)
    return outputs


def _names_output(node: Node, names: set[str | None]) -> bool:
    return "A_Const" in node or ("ColumnRef" in node and strings(only(node)[1]["fields"])[-1] in names)


def _targets(v: Verdict, nodes: Sequence[Node], level: Level) -> Outputs:
    made: list[Output] = []
    known = True
    for target in (only(node)[1] for node in nodes):
        value = target["val"]
        names = strings(only(value)[1]["fields"]) if "ColumnRef" in value else []
        if names[-1:] == ["*"]:
            star = _star(level, names[:-1])
            known = known and star is not None
            made += [Output(c.name, c.type, value) for c in star or ()]
        else:
            found = type_of(v, value, level)
            known = known and not ("A_Indirection" in value and "A_Star" in only(value)[1]["indirection"][-1])
            made.append(Output(target.get("name") or output_name(value), found, value))
    return made if known else None


def _star(level: Level, qualifier: Sequence[str]) -> Sequence[Column] | None:
    """Return the columns of ``*`` or ``t.*``; None where they are not all known."""
    if not qualifier:
        return None if level.opaque else level.star
    found = next((s for seen in level.levels() for s in seen.sources if s.alias == qualifier[-1]), None)
    return None if found is None or found.opaque else found.columns


def _limit(v: Verdict, node: Node, level: Level, what: str) -> None:
    found = type_of(v, node, level)
    if not v.signatures.takes(INT8, found, "a"):
        why = f"argument of {what} must be type bigint, not type {v.shown(found)}"
        raise v.error(DatatypeMismatch, why, first(node), "Give a number.")
    for message in _outside_of_queries(node):
        names = strings(message["fields"]) if "fields" in message else []
        if (seen := resolve(level, names) if names else None) is not None and seen[0] is level:
            why = f"argument of {what} must not contain variables"
            raise v.error(InvalidColumnReference, why, first({"ColumnRef": message}), "Give a number.")


def _outside_of_queries(node: Node) -> Iterator[Node]:
    """Yield the messages of an expression without those of subqueries: the columns that these name are their own, or would be."""
    kind, body = only(node)
    if kind != "SubLink":
        yield body
        for child in children(body):
            yield from _outside_of_queries(child)


# -- writes --------------------------------------------------------------------------------------------------------------------


def _insert(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    v.ctes.append({})
    try:
        _with(v, body, outer)
        target = table(v, body["relation"], target=True)
        columns = _targeted(v, body.get("cols", ()), target)
        if "selectStmt" in body:
            _inserted(v, only(body["selectStmt"])[1], columns, outer)
        level = Level([target], star=list(target.columns), outer=outer)
        if "onConflictClause" in body:
            excluded = replace(target, alias="excluded", schema=None)
            seen = Level([target, excluded], outer=outer)
            _set(v, body["onConflictClause"], target, seen)
        return _targets(v, body.get("returningClause", {}).get("exprs", body.get("returningList", ())), level)
    finally:
        v.ctes.pop()


def _targeted(v: Verdict, nodes: Sequence[Node], target: Source) -> list[Column | None]:
    if not nodes:
        return list(target.columns)
    return [_target_column(v, only(node)[1], target) for node in nodes]


def _target_column(v: Verdict, body: Node, target: Source) -> Column | None:
    """Return the column that is assigned to, None for one that is not known, or of which only a part is."""
    found = next((c for c in target.columns if c.name == body.get("name")), None)
    if body.get("indirection"):
        row = v.signatures.row(v.signatures.base(found.type)) if found is not None else None
        if row is not None and row.category in "BDNST":
            why = f"cannot assign to a part of a column of type {v.shown(row.oid)}"
            raise v.error(DatatypeMismatch, why, location(body), "Assign the whole value.")
        return None
    return found


def _inserted(v: Verdict, body: Node, columns: Sequence[Column | None], outer: Level | None) -> None:
    if "valuesLists" in body:
        level = Level(outer=outer, barred="VALUES")
        for row in body["valuesLists"]:
            items = only(row)[1]["items"]
            types = [type_of(v, item, level) for item in items]
            for column, item, found in zip(columns, items, types, strict=False):
                _assign(v, column, found, item)
        return
    outputs = _select(v, body, outer)
    for column, output in zip(columns, outputs or (), strict=False):
        _assign(v, column, output.type, output.node)


def _assign(v: Verdict, column: Column | None, found: Type, node: Node) -> None:
    if column is None or v.signatures.takes(column.type, found, "a"):
        return
    why = f'column "{column.name}" is of type {v.shown(column.type)} but expression is of type {v.shown(found)}'
    raise v.error(DatatypeMismatch, why, first(node), "You will need to rewrite or cast the expression.")


def _set(v: Verdict, body: Node, target: Source, level: Level) -> None:
    """Check SET and WHERE of UPDATE and of ON CONFLICT."""
    for node in (only(node)[1] for node in body.get("targetList", ())):
        if "MultiAssignRef" in node["val"]:
            continue  # of (a, b) = …, which is more than expressions
        _assign(v, _target_column(v, node, target), type_of(v, node["val"], replace(level, barred="UPDATE")), node["val"])
    if "whereClause" in body:
        condition(v, body["whereClause"], level, "WHERE")


def _update(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    """Check UPDATE or DELETE."""
    v.ctes.append({})
    try:
        _with(v, body, outer)
        target = table(v, body["relation"], target=True)
        level = from_clause(v, [*body.get("fromClause", ()), *body.get("usingClause", ())], outer)
        level.sources.insert(0, target)
        level.star = [*target.columns, *level.star]
        _set(v, body, target, level)
        return _targets(v, body.get("returningClause", {}).get("exprs", body.get("returningList", ())), level)
    finally:
        v.ctes.pop()


def _merge(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    v.ctes.append({})
    try:
        _with(v, body, outer)
        target = table(v, body["relation"], target=True)
        rest = from_clause(v, [body["sourceRelation"]], outer)
        both = Level([target, *rest.sources], rest.merged, [*rest.star, *target.columns], outer)
        condition(v, body["joinCondition"], both, "JOIN/ON")
        seen = {"MERGE_WHEN_MATCHED": both, "MERGE_WHEN_NOT_MATCHED_BY_SOURCE": Level([target], outer=outer)}
        for clause in (only(node)[1] for node in body["mergeWhenClauses"]):
            level = seen.get(clause["matchKind"], rest)
            if "condition" in clause:
                condition(v, clause["condition"], level, "WHEN")
            if clause["commandType"] == "CMD_UPDATE":
                _set(v, {"targetList": clause["targetList"]}, target, level)
            elif "values" in clause:
                columns = _targeted(v, clause.get("targetList", ()), target)
                for column, item in zip(columns, clause["values"], strict=False):
                    _assign(v, column, type_of(v, item, level), item)
        return _targets(v, body.get("returningClause", {}).get("exprs", body.get("returningList", ())), both)
    finally:
        v.ctes.pop()


QUERIES.update({"MergeStmt": _merge, "SelectStmt": _select, "InsertStmt": _insert, "UpdateStmt": _update, "DeleteStmt": _update})
