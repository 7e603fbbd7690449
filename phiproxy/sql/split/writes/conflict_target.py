"""What an INSERT with ON CONFLICT DO UPDATE may be in conflict with, and what of it is the same whatever proposes the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.signatures import Type
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Rest
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.tables_and_columns import type_of
from phiproxy.sql.split.writes.assigned_values import ALIAS, COLUMN, Given, Written
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.composition import Stored, as_element, as_stored, given_rows, given_value
from phiproxy.sql.split.writes.row_keys import RowKey, table_of
from phiproxy.sql.split.writes.targets import Target, cast_as
from phiproxy.sql.text.parse import Node, messages, only, strings
from phiproxy.types.declared import DeclaredType

_VALUE = (
    "A trigger BEFORE INSERT FOR EACH ROW may change what EXCLUDED is, and which row is in conflict. Give the value itself in the"
    " place of EXCLUDED, and no condition behind SET."
)
_OTHER = "Select the row FOR UPDATE, then update or insert it by a statement of its own."
GIVEN = "Give the columns of the unique index, and those of EXCLUDED that are computed with, as parameters or constants."
HIDDEN = "The row in conflict may be one that the view does not show: write to the table itself, or send the rows one by one."
MERGE = "Write it as MERGE, or select the rows FOR UPDATE and update them by a statement of its own."


def computed_of_row(write: Written) -> tuple[list[Given], list[Node]]:
    """Return what DO UPDATE sets and computes of the row, and all that is asked of it; Impossible where that is nothing."""
    computed = [one for one in write.conflict if one.computed]
    asked = [one.node for one in (*computed, *(one for one in write.conflict if not one.column))]
    if write.kind != "InsertStmt" or write.waiting is not None or not asked:
        raise Impossible("nothing is computed of a row that may be there")
    if write.body.get("override") == "OVERRIDING_USER_VALUE":  # of an identity column EXCLUDED has what is drawn
        raise RefusedWithHint("a proposed value that a default takes the place of", GIVEN)
    return computed, asked


def fires_before(a: Analysis, write: Written, asked: Sequence[Node]) -> bool:
    """Tell whether triggers BEFORE INSERT may change or drop what is proposed; RefusedWithHint where that may decide what is set.

    ``asked``: what is computed, with the condition. Where it is of the row alone that is there, it does not matter which proposed
    row is in conflict with that. What triggers FOR EACH STATEMENT change is 21000, as in PostgreSQL.

    INSERT INTO members AS m (mrn, email) VALUES ($1, $2) ON CONFLICT (mrn) DO UPDATE SET email = m.email || $2
    → source: SELECT …
    """
    relation = table_of(a, write.target.relation)
    every = (relation, *_partitions(a, relation))
    if any(one.kind not in "rp" for one in every):
        raise RefusedWithHint("rows that cannot be locked", _OTHER)
    if relation.kind == "r" and relation.parent:
        raise RefusedWithHint("rows of its children, which are in no conflict, would be locked", MERGE)
    fires = any(one.diverted for one in every)
    if fires and (write.clauses.updated_where is not None or any(excluded_columns(asked))):
        raise RefusedWithHint("what is proposed may be another row than is known", _VALUE)
    return fires


def _partitions(a: Analysis, relation: Relation) -> Iterator[Relation]:
    """Yield the partitions of a table, and theirs."""
    for child in a.context.catalog.children.get(relation.oid, ()) if relation.kind == "p" else ():
        yield child
        yield from _partitions(a, child)


def conflict_keys(conflict: Node, target: Target) -> Iterator[str]:
    """Yield the columns that the unique index is on that ON CONFLICT means; Impossible where it is on anything else."""
    infer = conflict.get("infer", {})
    if "whereClause" in infer:
        raise Impossible("a unique index of some rows")
    if "conname" in infer:
        index = target.relation.index(infer["conname"])
        if index is None or not index.unique or not index.columns:
            raise Impossible("a constraint that is not known")
        yield from index.columns
    for node in infer.get("indexElems", ()):
        element = only(node)[1]
        fields = strings(element.get("expr", {}).get("ColumnRef", {}).get("fields", ()))
        name = element.get("name") or (fields[0] if len(fields) == 1 else "")
        if not name or "collation" in element or "opclass" in element:
            raise Impossible("a unique index on something else than columns")
        yield name


def excluded_columns(asked: Sequence[Node]) -> Iterator[str]:
    """Yield the columns of EXCLUDED in expressions; Impossible for a proposed row as a whole."""
    for message in (m for node in asked for m in messages(node)):
        names = strings(message["fields"]) if isinstance(message.get("fields"), list) else []
        if "excluded" in names:
            if names[:1] != ["excluded"] or len(names) != 2 or names[1] == "*":
                raise Impossible("a proposed row as a whole")
            yield names[1]


def column_type(catalog: Catalog, target: Target, name: str) -> DeclaredType:
    """Return the type of a column with its length; Impossible where it cannot be carried."""
    if name in target.protected:
        return target.protected[name].type
    column = target.relation.column(name)
    declared = type_of(catalog, column.type_oid, column.typmod) if column is not None else None
    if declared is None or not declared.name:
        raise Impossible("a column of a type that cannot be carried")
    return declared


def in_one_row(
    rest: Rest, keys: int, stored: Sequence[Stored], values: Sequence[Stored], given: Sequence[Type], *, proposed: int | None = None
) -> Rest:
    """Return a rest that gives what is set as arrays over the rows that change, what is proposed, and how many rows change.

    The first ``keys`` of ``stored`` tell the row.

    ``values`` are those of VALUES, of which ``proposed`` is the number of rows; or those of a query, as arrays. The number is
    NULL where a row is met twice, and not changed at the first time: then it is not known what the write would do with it.
    """
    count = len(stored) + len(values)
    flag, row = f"q.q{count + 1}", f"q.q{count + 2}"
    outputs = []
    for n, (one, type_) in enumerate(zip((*stored, *values), given, strict=True), start=1):
        value = as_element(as_stored(f"q.q{n}", one, type_), one)
        if n <= len(stored):
            outputs.append(f"pg_catalog.array_agg({value} ORDER BY {row}) FILTER (WHERE {flag})")
        elif proposed is not None:
            first = f"(pg_catalog.array_agg({value}))[1]"
            outputs.append(first if one.type.element is None else f"CAST({first} AS {cast_as(one.type)})")
        else:
            outputs.append(f"pg_catalog.array_agg({value} ORDER BY {row})")
    met = f"pg_catalog.bool_or({flag} AND NOT q.first)"
    every = "pg_catalog.count(*)" if proposed is None else proposed
    dropped = f"pg_catalog.count(*) FILTER (WHERE q.q1 IS NOT NULL AND NOT {flag})"
    outputs.append(f"CASE WHEN {met} THEN NULL ELSE {every} - {dropped} END")
    names = ", ".join(f"q{n}" for n in range(1, count + 3))
    told = ", ".join(f"q.q{n}" for n in range(1, keys + 1))
    first = f"pg_catalog.first_value({flag}) OVER (PARTITION BY {told} ORDER BY {row}) AS first"
    before = f"SELECT {', '.join(outputs)} FROM (SELECT q.*, {first} FROM (".encode()
    behind = f") AS q ({names})) AS q".encode()
    texts = [before + rest.parts[0], *rest.parts[1:]]
    texts[-1] += behind
    return Rest(tuple(texts), rest.parameters, tuple((s + len(before), e + len(before), at) for s, e, at in rest.spans))


def add_updates(changed: Composed, write: Written, keys: Sequence[RowKey], stored: Sequence[Stored]) -> None:
    """Add what DO UPDATE sets, and that it changes the rows only that were locked; ``keys`` are the columns that tell these."""
    number, told = len(keys), range(1, len(keys) + 1)
    same = " AND ".join(f"{key.column} = {ALIAS}.{COLUMN}{n}{key.cast}" for n, key in enumerate(keys, start=1))
    for position, one in enumerate(one for one in write.conflict if one.column):
        changed.add(", " if position else "", f"{quote_ident(one.column, always=True)} = ")
        if one.computed:
            number += 1
            rows = given_rows(changed, stored, (*told, number))
            changed.add(f"(SELECT {given_value(stored, number)} FROM {rows} WHERE {same} LIMIT 1)")
        else:
            changed.add(*one.as_select)
    rows = given_rows(changed, stored, told)
    own, shown = (", ".join(key.column for key in keys), ", ".join(f"{ALIAS}.{COLUMN}{n}{keys[n - 1].cast}" for n in told))
    changed.add(f" WHERE ({own}) IN (SELECT {shown} FROM {rows})")
