"""Ungrouped columns of a grouped query (parse_agg.c), where that is certain."""

from collections.abc import Iterator, Sequence

from phiproxy.errors import GroupingError
from phiproxy.sql.pg_errors.calls import is_aggregate
from phiproxy.sql.pg_errors.names_and_signatures import Level, Verdict, resolve
from phiproxy.sql.text.parse import Node, children, grouping_entries, location, only, strings, without_locations


def check_grouped(v: Verdict, body: Node, level: Level) -> None:
    """Reject a column that is neither grouped by nor inside an aggregate, in a query that groups or aggregates.

    SELECT ssn, city FROM patients GROUP BY ssn
    → refused 42803
    """
    if v.a.keys.isdisjoint(("groupClause", "havingClause", "FuncCall")):
        return
    parts = [*(only(node)[1]["val"] for node in body.get("targetList", ())), *_sorted(body)]
    parts += [body["havingClause"]] if "havingClause" in body else []
    clause = body.get("groupClause", [])
    grouped = "havingClause" in body or clause or any(_aggregates(v, part) for part in parts)
    if not grouped or any("GroupingSet" in node for node in clause) or level.opaque:
        return
    keys = [without_locations(_key(node, body, level)) for node in grouping_entries(clause)]
    if any("A_Const" in key for key in keys):
        return  # a number that no output has, or no number: PostgreSQL says that first
    for part in parts:
        for node in _bare(v, part, keys):
            _check(v, node, keys, level)


def _sorted(body: Node) -> list[Node]:
    names = {only(node)[1].get("name") for node in body.get("targetList", ())}
    nodes = [only(node)[1]["node"] for node in body.get("sortClause", ())]
    return [n for n in nodes if not ("ColumnRef" in n and strings(only(n)[1]["fields"])[-1] in names)]


def _key(node: Node, body: Node, level: Level) -> Node:
    """Return the expression of an entry of GROUP BY; for an output's number or name, that of the output."""
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
    """Yield the column references outside of aggregates, subqueries and expressions that are grouped by."""
    kind, body = only(node)
    if kind in ("SubLink", "GroupingFunc") or without_locations(node) in keys:
        return
    functions = v.signatures.functions(strings(body["funcname"])[-1]) if kind == "FuncCall" and "over" not in body else ()
    if any(function.kind == "a" for function in functions):
        return  # it may be an aggregate, which sees all rows of a group
    if kind == "ColumnRef":
        yield body
    for child in children(body):
        yield from _bare(v, child, keys)


def _check(v: Verdict, body: Node, keys: Sequence[Node], level: Level) -> None:
    names = strings(body["fields"])
    resolved = resolve(level, names) if "*" not in names else None
    if resolved is None or resolved[0] is not level:
        return
    _, owner, column = resolved
    same = [k for key in keys if "ColumnRef" in key and (k := resolve(level, strings(only(key)[1]["fields"]))) is not None]
    if owner is None or any(k[2] is column for k in same):
        return
    grouped, indexes = {k[2].name for k in same if k[1] is owner}, owner.relation.indexes if owner.relation is not None else ()
    if any(index.key and grouped.issuperset(index.columns) for index in indexes):
        return  # the source's columns may depend on the grouped ones, by its primary key
    why = f'column "{owner.alias}.{column.name}" must appear in the GROUP BY clause or be used in an aggregate function'
    raise v.error(GroupingError, why, location(body), "Group by it too, or put it into an aggregate.")
