"""Given values that derived tables and queries of WITH show to what may meet something protected in the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from phiproxy.sql.pg_errors.names_and_signatures import Column, Level, Source, resolve
from phiproxy.sql.resolve.scope import SYSTEM_COLUMNS
from phiproxy.sql.split.blocks import column_references
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.pieces import COMPUTED_ITEM
from phiproxy.sql.split.remaining import bodies, nodes
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.text.parse import Node, messages, only

# What gives the columns of a query, or of a function in FROM.
_SHOWING = ("targetList", "valuesLists", "functions", "docexpr", "rowexpr")


def shown_beside_protected(whole: Whole, gone: set[int]) -> dict[int, object]:
    """Return the values that derived tables of the rest show to what may meet something protected, by where they stand.

    SELECT p.id FROM people p JOIN (VALUES ($1::date + 0, 1 + 0)) v (d, n) ON v.n = p.id WHERE p.born < v.d
    """
    # Of what a write stores a source that shows given values is none (``writes.parts_seen_together``).
    return shown_values(whole, gone) if whole.shows or whole.kept or whole.stored else {}


def shown_values(whole: Whole, gone: set[int]) -> dict[int, object]:
    """Return the same of any query."""
    found: dict[int, object] = {}
    shown = _Shown(whole)
    for expressions in _together(whole, gone):
        refers = (one for node, level in expressions for one in column_references(whole.verdict, node, level))
        names = [(one, level) for one, level in refers if one[-1] not in SYSTEM_COLUMNS or resolve(level, one) is not None]
        seen = [resolve(level, one) if "*" not in one and "" not in one else None for one, level in names]
        known = [one for one in seen if one is not None]
        computed = [(source, column) for _, source, column in known if column.origin is None]
        secret = len(known) < len(seen) or any(column.origin in whole.protected for _, _, column in known)
        if secret or len({(id(source), column.name) for source, column in computed}) > 1:
            followed = len(known) == len(seen) and all(source is not None for source, _ in computed)
            found |= shown.of_columns(computed) if followed else shown.everywhere()
    return found


def _together(whole: Whole, gone: set[int]) -> Iterator[list[tuple[Node, Level]]]:
    """Yield the expressions of the rest in which values meet: one by one, and of a set operation the outputs of all its queries.

    An output of the whole that is a column is shown to the client, and no more.
    """
    levels, outputs = whole.verdict.levels, {id(node) for node in whole.body.get("targetList", ())}
    for body in bodies(whole.body, gone):
        if "larg" in body and "op" in body and not (body["op"] == "SETOP_UNION" and body.get("all")):
            sides = [one for one in bodies([body["larg"], body["rarg"]], gone) if id(one) in levels]
            yield [(node, levels[id(one)]) for one in sides for node in one.get("targetList", ())]
        for node in units(body, gone) if id(body) in levels else ():
            if id(node) not in outputs or "ColumnRef" not in only(node)[1]["val"]:
                yield [(node, levels[id(body)])]


class _Shown:
    """Finds the values in the outputs of derived tables and queries of WITH, with where they stand."""

    def __init__(self, whole: Whole) -> None:
        self._whole = whole
        self._every = whole.a.whole()
        self._done: set[tuple[int, int]] = set()

    def everywhere(self) -> dict[int, object]:
        """Return those in all of them; Impossible where writes in WITH may return some."""
        for query in (m["ctequery"] for m in self._every if "ctequery" in m and "SelectStmt" not in m["ctequery"]):
            self._check_returned(only(query)[1])
        inside = [one for m in self._every if "subquery" in m or "ctequery" in m for one in messages(m)]
        return {at: value for one in inside for key in _SHOWING for at, value in _given(one.get(key, []))}

    def of_columns(self, columns: Collection[tuple[Source | None, Column]]) -> dict[int, object]:
        """Return those that these columns of items of FROM are computed of."""
        found: dict[int, object] = {}
        for source, column in columns:
            items = [m for m in self._every if source is not None and _label(m) == source.alias]
            if source is None or not items or any(_refers(m.get("functions", [])) for m in items):
                return self.everywhere()
            position = [one.name for one in source.columns].index(column.name)
            for item in items:
                found |= dict(_given(item.get("functions", [])))
                for inner in [item["subquery"]] if "subquery" in item else self._of_with(item.get("relname")):
                    found |= self._of_output(*only(inner), position)
        return found

    def _of_with(self, name: str | None) -> list[Node]:
        return [m["ctequery"] for m in self._every if "ctequery" in m and m["ctename"] == name]

    def _of_output(self, kind: str, body: Node, position: int) -> dict[int, object]:
        if (id(body), position) in self._done:
            return {}
        self._done.add((id(body), position))
        if kind != "SelectStmt":
            self._check_returned(body, position)
            return {}
        if "larg" in body:
            return self._of_output(kind, body["larg"], position) | self._of_output(kind, body["rarg"], position)
        level, targets = self._whole.verdict.levels.get(id(body)), body.get("targetList", [])
        rows = [only(row)[1]["items"] for row in body.get("valuesLists", ())] or [targets]
        outputs = [node for row in rows for node in row[position : position + 1]]
        if not outputs or any("A_Star" in m for m in messages([targets])) or (level is None and _refers(outputs)):
            return self.everywhere()
        found = {at: value for node in outputs for at, value in _given([node])}
        names = column_references(self._whole.verdict, outputs, level) if level is not None else ()
        seen = [resolve(one, name) if "*" not in name and "" not in name else None for name, one in names]
        known = [one for one in seen if one is not None]
        if len(known) < len(seen):
            return self.everywhere()
        return found | self.of_columns([(source, column) for _, source, column in known if column.origin is None])

    def _check_returned(self, write: Node, position: int | None = None) -> None:
        """Go on where an output of a write in WITH, or none, is of given values; Impossible: the server has it as it is."""
        outputs = write.get("returningClause", {}).get("exprs", [])
        starred = any("A_Star" in m for m in messages([outputs]))
        output = outputs if starred or position is None else outputs[position : position + 1]
        sources = [write["sourceRelation"]] if "sourceRelation" in write else []
        items = [*sources, *write.get("fromClause", []), *write.get("usingClause", [])]
        items = [item for item in items if _label(only(item)[1]) != COMPUTED_ITEM]
        read = [output, *items]
        names = {m["relname"] for m in messages(read) if "relname" in m}
        if any(_given([*read, *(query for name in names for query in self._of_with(name))])):
            raise Impossible("a write in WITH returns given values, which may meet something protected")


def units(body: Node, gone: set[int]) -> Iterator[Node]:
    """Yield the expressions of a query, a condition at a time."""
    for key in (
        "targetList",
        "whereClause",
        "groupClause",
        "havingClause",
        "sortClause",
        "windowClause",
        "distinctClause",
        "fromClause",
    ):
        value = body.get(key)
        for node in value if isinstance(value, list) else [value] if value else []:
            if node and id(node) not in gone:
                yield from _conjuncts(node, gone)


def _conjuncts(node: Node, gone: set[int]) -> Iterator[Node]:
    kind, body = only(node)
    if kind == "BoolExpr" and body["boolop"] == "AND_EXPR":
        for argument in body["args"]:
            if id(argument) not in gone:
                yield from _conjuncts(argument, gone)
    elif kind == "JoinExpr":
        for key in ("larg", "rarg", "quals"):
            if key in body and id(body[key]) not in gone:
                yield from _conjuncts(body[key], gone)
    elif kind not in ("RangeVar", "RangeSubselect"):
        yield node


def _given(tree: Any) -> Iterator[tuple[int, object]]:
    """Yield all parameters and constants, with where they stand."""
    for kind, node in nodes({"": tree}, ()):
        if kind == "ParamRef":
            yield node.get("location", 0), node.get("number", 0)
        elif kind == "A_Const" and not node.get("isnull") and "boolval" not in node:
            known = node["sval"].get("sval", "") if "sval" in node else repr({k: v for k, v in node.items() if k != "location"})
            yield node.get("location", 0), known


def _refers(tree: Any) -> bool:
    return any("ColumnRef" in m for m in messages([tree]))


def _label(message: Node) -> str:
    """Return the name by which the columns of an item of FROM are qualified; empty of anything else."""
    label: str = message.get("alias", {}).get("aliasname") or message.get("relname", "")
    return label if not {"subquery", "relname", "functions"}.isdisjoint(message) else ""
