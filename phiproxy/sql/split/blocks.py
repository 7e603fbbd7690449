"""The queries of a statement that have a FROM: its items, the conditions by which each may be filtered, and what these refer to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from phiproxy.sql.pg_errors.names_and_signatures import Level, Verdict, resolve
from phiproxy.sql.pg_errors.names_and_signatures import Source as Known
from phiproxy.sql.split.clauses import Part, on, where
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.text.parse import Node, children, is_node, only, strings
from phiproxy.sql.text.token_spans import Spans

# Of a join of this type, whether ON filters the rows of its left and right side, and whether WHERE and what is around it do.
_FILTERS = {
    "JOIN_INNER": (True, True, True, True),
    "JOIN_LEFT": (False, True, True, False),
    "JOIN_RIGHT": (True, False, False, True),
    "JOIN_FULL": (False, False, False, False),
}


@dataclass(slots=True)
class Item:
    """An item of FROM that is no join. ``parts`` are the conditions that may be applied to its rows before it is joined."""

    kind: str
    body: Node
    parts: list[Part]

    @property
    def table(self) -> Node:
        """Its RangeVar, where it is one or a sample of one."""
        table: Node = self.body["relation"]["RangeVar"] if self.kind == "RangeTableSample" else self.body
        return table

    @property
    def label(self) -> str:
        """The name by which its columns are qualified; empty where it has none."""
        name: str = self.table.get("alias", {}).get("aliasname") or self.table.get("relname", "")
        return name


@dataclass(slots=True)
class Block:
    """One query with a FROM. ``parts`` are those of its WHERE; ``merges``: a join has USING, NATURAL or an alias.

    ``inner`` are the parts of the ON of inner joins that are not inside of an outer one: they could stand in WHERE as well.
    ``outer`` are the conditions of all other joins.
    """

    body: Node
    level: Level
    parts: list[Part]
    items: list[Item] = field(default_factory=list)
    merges: bool = False
    inner: list[Part] = field(default_factory=list)
    outer: list[Node] = field(default_factory=list)


def block(spans: Spans, body: Node, level: Level) -> Block:
    """Return a query's FROM and WHERE; Impossible where a part of them is not found in the text."""
    parts = where(spans, body["whereClause"]) if "whereClause" in body else []
    read = Block(body, level, parts)
    for node in body.get("fromClause", ()):
        _add(spans, read, node, parts, inner=True)
    return read


def _add(spans: Spans, read: Block, node: Node, parts: list[Part], *, inner: bool) -> None:
    kind, body = only(node)
    if kind != "JoinExpr":
        read.items.append(Item(kind, body, parts))
        return
    read.merges = read.merges or "usingClause" in body or "alias" in body or bool(body.get("isNatural"))
    own = on(spans, body["quals"]) if "quals" in body else []
    if body["jointype"] not in _FILTERS:
        raise Impossible(body["jointype"])
    inner = inner and body["jointype"] == "JOIN_INNER"
    if inner:
        read.inner += own
    elif "quals" in body:
        read.outer.append(body["quals"])
    on_left, on_right, around_left, around_right = _FILTERS[body["jointype"]]
    _add(spans, read, body["larg"], [*(parts if around_left else []), *(own if on_left else [])], inner=inner)
    _add(spans, read, body["rarg"], [*(parts if around_right else []), *(own if on_right else [])], inner=inner)


@dataclass(slots=True)
class References:
    """What an expression refers to: items of its own query; ``beyond``: of a query outside, or what is not known."""

    sources: list[Known] = field(default_factory=list)
    beyond: bool = False
    secret: bool = False
    """Whether a column is among them of which it is not known that it is unprotected."""


def references(v: Verdict, nodes: Sequence[Node], level: Level, protected: frozenset[tuple[int, int]]) -> References:
    """Return what expressions of a query refer to; ``protected`` are the (table OID, attnum) of protected columns."""
    found = References()
    for node in nodes:
        for names, seen in column_references(v, node, level):
            resolved = resolve(seen, names) if "*" not in names and "" not in names else None
            if resolved is None:
                found.beyond = found.secret = True
                continue
            owner, source, column = resolved
            found.secret = found.secret or column.origin is None or column.origin in protected
            # Levels are copied with what is barred in a clause; their sources are the same.
            own = owner.sources is level.sources
            if own and source is not None:
                found.sources.append(source)
            elif own or any(owner.sources is outside.sources for outside in level.levels()):
                found.beyond = True
    return found


def column_references(v: Verdict, tree: Any, level: Level) -> Iterator[tuple[list[str], Level]]:
    """Yield the column references below a node or several, each with what the query in which it stands sees."""
    return ((strings(body["fields"]), seen) for body, seen in column_nodes(v, tree, level))


def column_nodes(v: Verdict, tree: Any, level: Level) -> list[tuple[Node, Level]]:
    """Return the same as nodes."""
    found = list[tuple[Node, Level]]()
    pending: list[tuple[Any, Level]] = [(tree, level)]
    while pending:
        one, seen = pending.pop()
        kind, body = only(one) if is_node(one) else ("", one)
        if kind == "ColumnRef":
            found.append((body, seen))
        elif kind == "SelectStmt":
            pending += reversed(_in_query(v, body, seen))
        else:
            pending += reversed([(child, seen) for child in children(body)])
    return found


def _in_query(v: Verdict, body: Node, level: Level) -> list[tuple[Any, Level]]:
    """Return the parts of a query, each with what it sees: those of a set operation see what is around it."""
    sides = [({"SelectStmt": body[side]}, level) for side in ("larg", "rarg") if side in body]
    inside = v.levels.get(id(body), level)
    return [*sides, *((child, inside) for child in children({k: part for k, part in body.items() if k not in ("larg", "rarg")}))]
