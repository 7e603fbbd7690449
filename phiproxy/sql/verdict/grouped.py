"""Columns that a grouped query may not name by themselves (parse_agg.c), as far as that is plain to see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phiproxy.errors import GroupingError
from phiproxy.sql.parse import Node, children, location, only, strings, without_locations
from phiproxy.sql.verdict.calls import is_aggregate
from phiproxy.sql.verdict.state import Level, Source, Verdict, resolve


def check_grouped(v: Verdict, body: Node, level: Level) -> None:
    """Refuse a column of this level that is neither grouped by nor inside of an aggregate, where the query has such."""
    parts = [*(only(node)[1]["val"] for node in body.get("targetList", ())), *_sorted(body)]
    parts += [body["havingClause"]] if "havingClause" in body else []
    clause = body.get("groupClause", [])
    grouped = "havingClause" in body or clause or any(_aggregates(v, part) for part in parts)
    if not grouped or any("GroupingSet" in node for node in clause) or level.opaque:
        return
    keys = [without_locations(_key(node, body, level)) for node in _entries(clause)]
    for part in parts:
        for node in _bare(v, part, keys):
            _check(v, node, keys, level)


def _sorted(body: Node) -> list[Node]:
    names = {only(node)[1].get("name") for node in body.get("targetList", ())}
    nodes = [only(node)[1]["node"] for node in body.get("sortClause", ())]
    return [n for n in nodes if not ("ColumnRef" in n and strings(only(n)[1]["fields"])[-1] in names)]


def _entries(clause: Sequence[Node]) -> Iterator[Node]:
    """Yield the entries of GROUP BY, those in brackets one by one."""
    for node in clause:
        kind, body = only(node)
        if kind == "RowExpr" and body.get("row_format") == "COERCE_IMPLICIT_CAST":
            yield from _entries(body.get("args", ()))
        else:
            yield node


def _key(node: Node, body: Node, level: Level) -> Node:
    """Return the expression that an entry of GROUP BY is: of a number, or an output's name, that of the output."""
    targets = [only(target)[1] for target in body.get("targetList", ())]
    kind, entry = only(node)
    if kind == "A_Const" and 1 <= (number := entry.get("ival", {}).get("ival", 0)) <= len(targets):
        return dict(targets[number - 1]["val"])
    names = strings(entry["fields"]) if kind == "ColumnRef" else []
    if len(names) == 1 and resolve(level, names) is None:
        return next((target["val"] for target in targets if target.get("name") == names[0]), node)
    return node


def _aggregates(v: Verdict, node: Node) -> bool:
    kind, body = only(node)
    if kind == "SubLink":
        return False
    return (kind == "FuncCall" and is_aggregate(v, body)) or any(_aggregates(v, child) for child in children(body))


def _bare(v: Verdict, node: Node, keys: Sequence[Node]) -> Iterator[Node]:
    """Yield the column references of an expression outside of aggregates, subqueries and what is grouped by."""
    kind, body = only(node)
    if kind in ("SubLink", "GroupingFunc") or without_locations(node) in keys or (kind == "FuncCall" and _is_over(v, body)):
        return
    if kind == "ColumnRef":
        yield body
    for child in children(body):
        yield from _bare(v, child, keys)


def _is_over(v: Verdict, body: Node) -> bool:
    """Tell whether a call is, or may be, an aggregate, which sees all rows of a group."""
    return any(function.kind == "a" for function in v.signatures.functions(strings(body["funcname"])[-1])) and "over" not in body


def _check(v: Verdict, body: Node, keys: Sequence[Node], level: Level) -> None:
    names = strings(body["fields"])
    found = resolve(level, names) if "*" not in names else None
    if found is None or found[0] is not level:
        return
    _, owner, column = found
    same = [k for key in keys if "ColumnRef" in key and (k := resolve(level, strings(only(key)[1]["fields"]))) is not None]
    if owner is None or any(k[2] is column for k in same) or _depends(owner, {k[2].name for k in same if k[1] is owner}):
        return
    why = f'column "{owner.alias}.{column.name}" must appear in the GROUP BY clause or be used in an aggregate function'
    raise v.error(GroupingError, why, location(body), "Group by it too, or put it into an aggregate.")


def _depends(owner: Source, grouped: set[str]) -> bool:
    """Tell whether a source's columns may depend on those by which is grouped: by its primary key, or where that is not known."""
    relation = owner.relation
    if relation is None:
        return False
    return any(index.key and grouped.issuperset(index.columns) for index in relation.indexes)
