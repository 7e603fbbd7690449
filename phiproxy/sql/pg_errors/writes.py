"""INSERT, UPDATE, DELETE and MERGE: their parts, in the order in which PostgreSQL analyses them (analyze.c)."""

from collections.abc import Sequence
from dataclasses import replace

from phiproxy.errors import (
    AmbiguousParameter,
    DatatypeMismatch,
    DuplicateColumn,
    InvalidColumnReference,
    NotSupported,
    UndefinedColumn,
    WrongCount,
)
from phiproxy.policy.signatures import Type
from phiproxy.sql.pg_errors.expression_types import condition, query, type_of
from phiproxy.sql.pg_errors.from_clause import from_clause, table
from phiproxy.sql.pg_errors.names_and_signatures import Column, Level, Output, Outputs, Source, Verdict, first
from phiproxy.sql.pg_errors.whole_statements import ctes, select, targets
from phiproxy.sql.resolve.scope import SYSTEM_COLUMNS
from phiproxy.sql.resolve.table_columns import named
from phiproxy.sql.text.parse import Node, location, messages, only
from phiproxy.sql.values.operands import Parameter

Assigned = tuple[Column | None, Node]


def insert(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    """Check an INSERT.

    INSERT INTO patients (ssn, id) VALUES ('x', true)
    → refused 42804
    """
    with ctes(v, body, outer):
        target = table(v, body["relation"], target=True)
        listed = _check_listed(v, body, target)
        if "selectStmt" in body:
            assigned = _inserted(v, only(body["selectStmt"])[1], listed, target, outer)
            _check_deduced(v, assigned, [body["selectStmt"], body.get("withClause", {})])
        level = Level([target], outer=outer)
        if "onConflictClause" in body:
            excluded = replace(target, alias="excluded", schema=None)
            seen = Level([target, excluded], outer=outer)
            _set(v, body["onConflictClause"], target, seen)
            _where(v, body["onConflictClause"], seen)
        outputs = _returning(v, body, level)
        _check_assigned_once(v, body.get("onConflictClause", {}))
        _check_arbiter(v, body, target)
        return outputs


def _check_arbiter(v: Verdict, body: Node, target: Source) -> None:
    """Check that a table has a unique index that may be over what ON CONFLICT names. The planner says so, behind all else.

    INSERT INTO patients (ssn) VALUES ('x') ON CONFLICT (city) DO UPDATE SET ssn = patients.ssn || EXCLUDED.ssn
    → refused 42P10
    """
    elements = [only(node)[1] for node in body.get("onConflictClause", {}).get("infer", {}).get("indexElems", ())]
    columns = {one["name"] if "name" in one and one.keys().isdisjoint(("collation", "opclass")) else "" for one in elements}
    known = target.relation is not None and target.relation.kind in "rp" and columns.issubset(c.name for c in target.columns)
    if not v.refused or not elements or target.relation is None or not known:
        return
    if not any(index.unique and columns.issubset(index.columns) for index in target.relation.indexes):
        why = "there is no unique or exclusion constraint matching the ON CONFLICT specification"
        raise InvalidColumnReference(why, hint="Name the columns of a unique index of the table.")


def _returning(v: Verdict, body: Node, level: Level) -> Outputs:
    returned = body.get("returningClause", {}).get("exprs", body.get("returningList", ()))
    return targets(v, returned, replace(level, barred="RETURNING"))


def _target_column(v: Verdict, body: Node, target: Source, value: Node | None = None) -> Column | None:
    """Return the column that ``value`` is assigned to; None for an unknown one, or where only a part of it is assigned.

    UPDATE patients SET notes[1] = DEFAULT
    → refused 0A000
    """
    if body.get("name") in SYSTEM_COLUMNS:
        why = f'cannot assign to system column "{body["name"]}"'
        raise v.error(NotSupported, why, location(body), "PostgreSQL itself fills it.")
    column = next(iter(named(target.columns, body.get("name", ""))), None)
    if body.get("indirection"):
        if value is not None and "SetToDefault" in value:
            part = "an array element" if "A_Indices" in body["indirection"][0] else "a subfield"
            raise v.error(NotSupported, f"cannot set {part} to DEFAULT", location(body), "Assign a value, or the whole column.")
        row = v.signatures.row(v.signatures.base(column.type)) if column is not None else None
        if row is not None and row.category in "BDNST":
            why = f"cannot assign to a part of a column of type {v.shown(row.oid)}"
            raise v.error(DatatypeMismatch, why, location(body), "Assign the whole value.")
        return None
    return column


def _check_listed(v: Verdict, body: Node, target: Source) -> list[Node]:
    """Check the columns that INSERT lists, and return them: none as a whole besides another time.

    INSERT INTO patients (id, id, ssn) VALUES (1, 2, upper('x'))
    → refused 42701
    """
    listed = [only(node)[1] for node in (body["cols"] if "cols" in body else body.get("targetList", ()))]
    parts = dict[str, bool]()
    for node in listed:
        name, part = node["name"], bool(node.get("indirection"))
        if name in SYSTEM_COLUMNS and target.relation is not None:
            raise _no_column(v, node, target)
        if name in parts and not (part and parts[name]):
            raise v.error(DuplicateColumn, f'column "{name}" specified more than once', location(node), "Give it one value.")
        parts[name] = part
    return listed


def _inserted(v: Verdict, body: Node, listed: Sequence[Node], target: Source, outer: Level | None) -> list[Assigned]:
    given = list[Assigned]()

    def assigned(values: Sequence[tuple[Type, Node]]) -> None:
        if not listed:
            for column, (value_type, node) in zip(target.columns, values, strict=False):
                given.append(_assign(v, column, value_type, node))
        for one, (value_type, node) in zip(listed, values, strict=False):
            given.append(_assign(v, _target_column(v, one, target, node), value_type, node))

    if "valuesLists" in body:
        one_row = len(body["valuesLists"]) == 1
        level = Level(outer=outer, barred="VALUES", gives_sets=one_row)
        for row in body["valuesLists"]:
            assigned([(type_of(v, item, level), item) for item in only(row)[1]["items"]])
    else:
        assigned([(output.type, output.node) for output in select(v, body, outer) or ()])
    return given


def _assign(v: Verdict, column: Column | None, value_type: Type, node: Node) -> Assigned:
    if column is None or v.signatures.takes(column.type, value_type, "a"):
        return column, node
    why = f'column "{column.name}" is of type {v.shown(column.type)} but expression is of type {v.shown(value_type)}'
    raise v.error(DatatypeMismatch, why, first(node), "You will need to rewrite or cast the expression.")


def _check_deduced(v: Verdict, assigned: Sequence[Assigned], parts: Sequence[Node]) -> None:
    """Check that a parameter that is only assigned has one type. ``parts`` are those of the statement that may say its type before.

    INSERT INTO stays (born, admitted) VALUES ($1, $1)
    → refused 42P08
    """
    if v.a.statement.kind == "PrepareStmt" and "argtypes" in v.a.statement.body:
        return  # PREPARE says what they are
    uses = dict[int, list[tuple[Type, Node]]]()
    for column, node in assigned:
        if column is not None and column.type is not None and "ParamRef" in node and not isinstance(node["ParamRef"], Parameter):
            uses.setdefault(node["ParamRef"].get("number", 0), []).append((column.type, node))
    for number, found in uses.items():
        other = next((node for one, node in found if one != found[0][0]), None)
        if other is not None and len(found) == sum(_is_parameter(m, number) for part in parts for m in messages(part)):
            why = f"inconsistent types deduced for parameter ${number}"
            raise v.error(AmbiguousParameter, why, first(other), "Cast it to one type, or send two parameters.")


def _is_parameter(message: Node, number: int) -> bool:
    return message.get("number") == number and message.keys() <= {"number", "location"}


def _set(v: Verdict, body: Node, target: Source, level: Level) -> list[Assigned]:
    barred, assigned, outputs = replace(level, barred="UPDATE"), list[Assigned](), list[Output]()
    for node in (only(node)[1] for node in body.get("targetList", ())):
        value = node["val"]
        if "MultiAssignRef" in value:
            ref = value["MultiAssignRef"]
            if ref["colno"] == 1:
                outputs = _outputs(v, ref, level)
            if outputs:
                one = outputs[ref["colno"] - 1]
                _assign(v, _target_column(v, node, target), one.type, one.node)
            value = _of_list(v, ref)
        if value is not None:
            value_type = type_of(v, value, barred)
            assigned.append(_assign(v, _target_column(v, node, target, value), value_type, value))
    return assigned


def _where(v: Verdict, body: Node, level: Level) -> None:
    if "whereClause" in body:
        condition(v, body["whereClause"], level, "WHERE")


def _outputs(v: Verdict, ref: Node, level: Level) -> list[Output]:
    """Return the outputs of the query in ``(a, b) = (SELECT …)``; none of a row, or where they are not known.

    UPDATE stays SET (born, bed) = (SELECT word, 5)
    → refused 42804
    """
    kind, source = only(ref["source"])
    if kind != "SubLink" or source["subLinkType"] != "EXPR_SUBLINK":
        return []
    outputs = query(v, source["subselect"], level)
    if outputs is not None:
        _check_count(v, ref, len(outputs))
    return outputs or []


def _of_list(v: Verdict, ref: Node) -> Node | None:
    """Return the value of ``(a, b) = (…, …)`` that is one column's; None of a query."""
    kind, source = only(ref["source"])
    if kind != "RowExpr":
        return None
    _check_count(v, ref, len(source.get("args", ())))
    value: Node = source["args"][ref["colno"] - 1]
    return value


def _check_count(v: Verdict, ref: Node, count: int) -> None:
    """Check that a row, or a query, has one value for each column.

    UPDATE patients SET (ssn, city) = (SELECT upper(ssn) FROM visits)
    → refused 42601
    """
    if count != ref["ncolumns"]:
        why = "number of columns does not match number of values"
        raise v.error(WrongCount, why, location(only(ref["source"])[1]), "Give one value for each column.")


def _check_assigned_once(v: Verdict, body: Node) -> None:
    """Check that SET gives each column one value. Of members of a column there may be several.

    UPDATE patients SET notes = upper(notes), notes = 'x'
    → refused 42601
    """
    if v.sent or v.a.statement.kind == "PrepareStmt":
        return
    whole = dict[str, bool]()
    for node in (only(item)[1] for item in body.get("targetList", ())):
        name, part = node["name"], bool(node.get("indirection"))
        if name in whole and not (part and whole[name]):
            raise v.error(WrongCount, f'multiple assignments to same column "{name}"', location(node), "Give it one value.")
        whole[name] = part


def update_or_delete(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    """Check an UPDATE or DELETE.

    UPDATE stays SET bed = true
    → refused 42804
    """
    with ctes(v, body, outer):
        target = table(v, body["relation"], target=True)
        level = from_clause(v, [*body.get("fromClause", ()), *body.get("usingClause", ())], outer, target)
        level.own_star = None if level.own_star is None else [*target.columns, *level.star]
        level.sources.insert(0, target)
        # In the order of transformUpdateStmt: a parameter has the type that the first of these gives it.
        _where(v, body, level)
        outputs = _returning(v, body, level)
        _check_deduced(v, _set(v, body, target, level), [body])
        _check_targets(v, body, target)
        _check_assigned_once(v, body)
        return outputs


def _check_targets(v: Verdict, body: Node, target: Source) -> None:
    """Check that the columns of SET are there.

    UPDATE patients SET notes = upper(notes), nothing = 1
    → refused 42703
    """
    names = {column.name for column in target.columns}
    for node in (only(item)[1] for item in body.get("targetList", ())):
        if target.relation is not None and not target.opaque and node["name"] not in names:
            raise _no_column(v, node, target)


def _no_column(v: Verdict, node: Node, target: Source) -> UndefinedColumn:
    relation = target.relation.name if target.relation is not None else target.alias
    return UndefinedColumn(f'column "{node["name"]}" of relation "{relation}" does not exist', position=v.a.position(node))


def merge(v: Verdict, body: Node, outer: Level | None) -> Outputs:
    """Check a MERGE.

    MERGE INTO patients p USING visits v ON p.mrn = v.patient_id WHEN MATCHED THEN DELETE
    → refused 42883
    """
    with ctes(v, body, outer):
        target = table(v, body["relation"], target=True)
        rest = from_clause(v, [body["sourceRelation"]], outer)
        both = Level([target, *rest.sources], rest.merged, [*rest.star, *target.columns], outer)
        condition(v, body["joinCondition"], both, "JOIN/ON")
        seen = {"MERGE_WHEN_MATCHED": both, "MERGE_WHEN_NOT_MATCHED_BY_SOURCE": Level([target], outer=outer)}
        for clause in (only(node)[1] for node in body["mergeWhenClauses"]):
            level = seen.get(clause["matchKind"], rest)
            if "condition" in clause:
                condition(v, clause["condition"], replace(level, barred="MERGE WHEN conditions"), "WHEN")
            if clause["commandType"] == "CMD_UPDATE":
                _set(v, {"targetList": clause["targetList"]}, target, level)
            elif "values" in clause:
                _merged(v, clause, target, level)
        outputs = _returning(v, body, both)
        for clause in (only(node)[1] for node in body["mergeWhenClauses"]):
            if clause["commandType"] == "CMD_UPDATE":
                _check_assigned_once(v, clause)
        return outputs


def _merged(v: Verdict, clause: Node, target: Source, level: Level) -> None:
    """Check what a MERGE inserts."""
    listed = _check_listed(v, clause, target)
    for number, item in enumerate(clause["values"]):
        value_type = type_of(v, item, replace(level, barred="VALUES"))
        if number < len(listed):
            _assign(v, _target_column(v, listed[number], target, item), value_type, item)
        elif not listed and number < len(target.columns):
            _assign(v, target.columns[number], value_type, item)
