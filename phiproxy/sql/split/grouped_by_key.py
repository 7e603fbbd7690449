"""GROUP BY a primary key: the other columns of its table depend on it for PostgreSQL, but in the rest no table has a key."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.pg_errors.calls import is_aggregate
from phiproxy.sql.pg_errors.names_and_signatures import Column, Level, Source, resolve
from phiproxy.sql.split.blocks import column_references
from phiproxy.sql.split.clauses import group_by_end
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.pieces import Replaced
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.text.parse import Node, children, grouping_entries, is_node, only, strings

_SHOWN = ("targetList", "havingClause", "sortClause", "distinctClause", "windowClause")


def grouped_too(whole: Whole, gone: Collection[int]) -> Iterator[Replaced]:
    """Yield what GROUP BY must also say in the rest: the columns that are shown and depend on what it says.

    SELECT p.id, p.full_name, max(v.diagnosis) FROM patients p JOIN visits v ON p.id = v.patient_id GROUP BY p.id
    → rest: SELECT p.id, p.full_name, max(v.diagnosis) FROM … GROUP BY p.id, p.full_name

    Of several groupings each must have the key, as in ``GROUP BY p.id, ROLLUP (v.room)`` and ``GROUPING SETS ((id), (id, room))``:
    where one has not, PostgreSQL and the engine say of such a column that it is not grouped by.
    """
    for body in bodies(whole.body, gone):
        level = whole.verdict.levels.get(id(body))
        if body.get("groupClause") and level is not None:
            added = list(dict.fromkeys(_dependent(whole, body, _in_each(body, body["groupClause"], level), level)))
            if added:
                at = group_by_end(whole.spans, body["groupClause"][0])
                yield Replaced(at, at, (b"".join(b", " + column for column in added),))


def _in_each(body: Node, entries: Sequence[Node], level: Level) -> list[Column]:
    """Return the columns that are in each of the groupings that these entries of GROUP BY come to.

    Of ``GROUP BY a, GROUPING SETS ((b, c), (c)), ROLLUP (d)`` these are a and c.
    """
    found: list[Column] = []
    for node in entries:
        if "GroupingSet" not in node:
            columns = (_column(body, entry, level) for entry in grouping_entries([node]))
            found += (column for column in columns if column is not None)
        elif node["GroupingSet"]["kind"] == "GROUPING_SET_SETS":
            first, *others = (_in_each(body, [one], level) for one in node["GroupingSet"]["content"])
            found += (column for column in first if all(any(column is one for one in other) for other in others))
    return found


def _dependent(whole: Whole, body: Node, keys: Sequence[Column], level: Level) -> Iterator[bytes]:
    """Yield the columns that are shown, and depend on a primary key among these columns."""
    every = [column for node in grouping_entries(body["groupClause"]) if (column := _column(body, node, level)) is not None]
    for source in level.sources:
        if source.relation is None or not _is_keyed(source, keys):
            continue
        for column in _shown(whole, body, level, source):
            if not any(column is key for key in every) and whole.verdict.signatures.operations("=", column.type, column.type):
                names = (source.alias, column.name)
                yield ".".join(quote_ident(name, always=True) for name in names).encode()
        if any(_is_row(names, seen, source) for names, seen in _references(whole, body, level)):
            if not all(whole.verdict.signatures.operations("=", column.type, column.type) for column in source.columns):
                raise Impossible("a row depends on a primary key, and cannot be grouped by")
            yield quote_ident(source.alias, always=True).encode()


def _is_keyed(source: Source, keys: Sequence[Column]) -> bool:
    """Tell whether a primary key of a table is among the columns that are grouped by."""
    assert source.relation is not None
    numbers = {c.name: c.attnum for c in source.relation.columns}
    grouped = {c.origin[1] for c in keys if c.origin is not None and any(c is own for own in source.columns)}
    return any(
        index.key and index.columns and grouped.issuperset(numbers.get(name, 0) for name in index.columns)
        for index in source.relation.indexes
    )


def _column(body: Node, node: Node, level: Level) -> Column | None:
    """Return the column that an entry of GROUP BY is, perhaps by the number or name of an output."""
    targets = [only(target)[1] for target in body.get("targetList", ())]
    kind, entry = only(node)
    if kind == "A_Const" and 1 <= (number := entry.get("ival", {}).get("ival", 0)) <= len(targets):
        kind, entry = only(targets[number - 1]["val"])
    names = strings(entry["fields"]) if kind == "ColumnRef" else []
    found = resolve(level, names) if names and "*" not in names else None
    if found is None and len(names) == 1:
        value = next((target["val"] for target in targets if target.get("name") == names[0] and "ColumnRef" in target["val"]), None)
        found = resolve(level, strings(only(value)[1]["fields"])) if value is not None else None
    return found[2] if found is not None and found[0].sources is level.sources else None


def _shown(whole: Whole, body: Node, level: Level, source: Source) -> Iterator[Column]:
    """Yield the columns of a source to which a query refers behind its grouping."""
    for names, seen in _references(whole, body, level):
        if names[-1] == "*" and names[:-1] in ([], [source.alias]):
            yield from source.columns
        found = resolve(seen, names) if "*" not in names and "" not in names else None
        if found is not None and found[1] is source:
            yield found[2]


def _references(whole: Whole, body: Node, level: Level) -> Iterator[tuple[list[str], Level]]:
    for key in _SHOWN:
        for part in _unaggregated(whole, body.get(key, [])):
            yield from column_references(whole.verdict, part, level)


def _unaggregated(whole: Whole, tree: Any) -> Iterator[Node]:
    """Yield the columns and subqueries of expressions, but for those in aggregates, which are computed of all rows of a group."""
    kind, body = only(tree) if is_node(tree) else ("", tree)
    if kind in ("ColumnRef", "SubLink"):
        yield tree
    elif kind != "FuncCall" or not is_aggregate(whole.verdict, body):
        for child in children(body):
            yield from _unaggregated(whole, child)


def _is_row(names: Sequence[str], seen: Level, source: Source) -> bool:
    """Tell whether a reference is to a whole row of a source."""
    return list(names) == [source.alias] and resolve(seen, names) is None
