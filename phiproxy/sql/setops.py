"""UNION, INTERSECT and EXCEPT: protected columns of one identity meet each other, given values and NULL.

UNION ALL stays as it is. The others compare rows, and so must compare tags: the operands become a subquery by UNION ALL, whose rows
are put together by what is unprotected and by tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from phiproxy.errors import WrongCount
from phiproxy.policy.guards import tag_of
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.brackets import Brackets
from phiproxy.sql.expressions import equality_slot
from phiproxy.sql.given_types import type_of
from phiproxy.sql.meaning import Edit
from phiproxy.sql.parse import Node, location, messages, only
from phiproxy.sql.scope import CLEAR, Clear, Kept, ListColumn, Output, Protected, Value
from phiproxy.sql.terms import same_identity, united_type
from phiproxy.sql.type_resolution import TEXT, Type, merged
from phiproxy.sql.wrap import Change, Insert, column_list, hold, quote_ident, replace, representative, select_tree

# From this version on the rows of the left operand pass through INTERSECT and EXCEPT, with their types' modifiers.
_LEFT_ROWS = 180000
# Types with values that are equal and yet differ: 1.0 and 1.00, 'a' and 'a ', 1 day and 24 hours, 0 and -0.
_SPELLED_APART = frozenset({"bpchar", "citext", "float4", "float8", "interval", "jsonb", "numeric"})
_OUTER = ("sortClause", "limitOffset", "limitCount", "limitOption", "withClause", "lockingClause")
Analyse = Callable[[Node], list[Output]]


def set_operation(
    a: Analysis, body: Node, analyse: Analyse, analyse_right: Analyse | None = None, *, as_it_is: bool = False
) -> list[Output]:
    """Analyse a set operation with ``analyse`` for its operands, and return its outputs.

    ``as_it_is``: the rows of a UNION may be compared by their envelopes.
    """
    places = (_first(body["larg"]), _first(body["rarg"]), *_firsts(body["rarg"]))
    left = analyse(body["larg"])
    right = (analyse_right or analyse)(body["rarg"])
    if len(left) != len(right):
        name = body["op"].removeprefix("SETOP_")
        raise WrongCount(f"each {name} query must have the same number of columns", position=a.at(places[1]))
    outputs = [(name, unite(a, body, value, other)) for (name, value), (_, other) in zip(left, right, strict=True)]
    all_rows = bool(body.get("all"))
    if any(isinstance(value, Protected) for _, value in outputs) and not (body["op"] == "SETOP_UNION" and (all_rows or as_it_is)):
        if all_rows:
            raise a.refuse(
                "INTERSECT ALL and EXCEPT ALL over a protected column are not in this version",
                _at(places[0]),
                hint="Use INTERSECT or EXCEPT, without ALL.",
            )
        _wrap(a, body, outputs, [other for _, other in right], [value for _, value in left], places)
    return outputs


def _at(offset: int) -> Node:
    return {"location": offset}


def _first(body: Node) -> int:
    """Return the byte offset at which the first item of the leftmost SELECT or VALUES of an operand begins."""
    while body.get("op", "SETOP_NONE") != "SETOP_NONE":
        body = body["larg"]
    nodes = (body.get("valuesLists") or body.get("targetList") or [])[:1]
    return min((location(m) for m in messages(nodes) if m.get("location", -1) >= 0), default=-1)


def unite(a: Analysis, body: Node, value: Value, other: Value) -> Value:
    """Return what a column is that has values of both kinds one below the other."""
    columns = [v.column for v in (value, other) if isinstance(v, Protected)]
    for leaf in other.leaves() if isinstance(other, ListColumn) else ():
        leaf.unnamed = True
    if columns:
        column = same_identity(a, columns, {"SelectStmt": {"location": max(_first(body), 0)}})
        with a.placed(_at(max(_first(body), 0))):
            shared = united_type(column, merged([value_type(value), value_type(other)]))
        for one in (value, other):
            if isinstance(one, Clear):
                raise a.refuse(
                    f"{column.label} is protected and meets an unprotected column in a set operation",
                    _at(max(_first(body), 0)),
                    hint="Let the other queries have columns of the same identity, parameters, literals or NULL there.",
                )
            if isinstance(one, ListColumn):
                one.users.append(Kept(column, (shared,)))
        return Protected(column, shared, cast=True, planned=_planned(a, body, value, shared))
    if isinstance(value, ListColumn) and isinstance(other, ListColumn) and body["op"] == "SETOP_UNION" and body.get("all"):
        united = ListColumn([], [], parts=(value, other))
        a.lists.append(united)
        return united
    for one in (value, other):
        if isinstance(one, ListColumn):
            one.users.append(None)
    return CLEAR


def _planned(a: Analysis, body: Node, value: Value, shared: DeclaredType) -> DeclaredType | None:
    """Return the type of an INTERSECT or EXCEPT once PostgreSQL has planned it, where that is another one."""
    if body["op"] == "SETOP_UNION" or a.context.catalog.server_version < _LEFT_ROWS:
        return None
    left = value.type if isinstance(value, Protected) else shared
    return left if left.oid == shared.oid else None


def value_type(value: Value) -> Type:
    """Return the type of a column of a query: its own, or that of its given values."""
    return value.type if isinstance(value, Protected) else type_of(value) if isinstance(value, ListColumn) else None


def _wrap(
    a: Analysis,
    body: Node,
    outputs: Sequence[Output],
    right: Sequence[Value],
    left: Sequence[Value],
    places: Sequence[int],
) -> None:
    columns = [f"phi.c{i + 1}" for i in range(len(outputs))]
    place = _at(max(places[0], 0))
    keys, shown = [], []
    union = body["op"] == "SETOP_UNION"
    for (name, value), column in zip(outputs, columns, strict=True):
        if name is None:
            raise a.refuse("a column of this set operation has no name that is known", place, hint="Name it with AS.")
        protected = isinstance(value, Protected)
        slot = equality_slot(a, value.column, {"SelectStmt": place}) if isinstance(value, Protected) else None
        keys.append(tag_of(column, slot) if slot is not None else column)
        shown.append(f"{column if union or not protected else representative(a, column)} AS {quote_ident(name)}")
    names = column_list(len(outputs))
    inner: Node = {"SelectStmt": {k: v for k, v in body.items() if k not in _OUTER} | {"limitOption": "LIMIT_OPTION_DEFAULT"}}
    if union:
        head, middle, tail = f"SELECT DISTINCT ON ({', '.join(keys)}) {', '.join(shown)} FROM (", None, f") AS phi ({names})"
        template = select_tree(f"{head}SELECT{tail}")
        inner["SelectStmt"]["all"] = True
        hold(template, inner)
    else:
        _same_types(a, left, right, place)
        head = f"SELECT {', '.join(shown)} FROM (SELECT 0, phi.* FROM ("
        middle = ") AS phi UNION ALL SELECT 1, phi.* FROM ("
        both = "pg_catalog.min(phi.side) < pg_catalog.max(phi.side)"
        last = "pg_catalog.max(phi.side) = 0" if body["op"] == "SETOP_EXCEPT" else both
        tail = f") AS phi) AS phi (side, {names}) GROUP BY {', '.join(keys)} HAVING {last}"
        template = select_tree(f"{head}SELECT{middle}SELECT{tail}")
        united = only(template["fromClause"][0])[1]["subquery"]["SelectStmt"]
        hold(united["larg"], {"SelectStmt": body["larg"]})
        hold(united["rarg"], {"SelectStmt": body["rarg"]})
    template.update({k: body[k] for k in _OUTER if k in body})
    replace(body, template)
    a.wraps.append(partial(_spell, places=places, head=head, middle=middle, tail=tail))


def _is_untyped(column: ListColumn) -> bool:
    return any(entry is None or entry.type_oid in (0, TEXT.oid) for part in column.leaves() for entry in part.entries)


def _same_types(a: Analysis, left: Sequence[Value], right: Sequence[Value], place: Node) -> None:
    """Refuse a given value without a type beside a column: PostgreSQL would convert it to the column's, the subquery to text.

    And one beside a protected column whose values may be equal and differ: which of them is shown depends on PostgreSQL's plan.
    """
    for value, other in zip(left, right, strict=True):
        column = next((v.column for v in (value, other) if isinstance(v, Protected)), None)
        given = any(isinstance(v, ListColumn) for v in (value, other))
        if given and column is not None and column.type.underlying.family in _SPELLED_APART:
            raise a.refuse(
                f"INTERSECT or EXCEPT of {column.label} and given values, which may be equal and spelled in another way",
                place,
                hint=f"Write WHERE {column.name} IN (…), or NOT IN.",
            )
        kinds = [v.type for v in (value, other) if isinstance(v, Clear)]
        if (
            len(kinds) == 1
            and (kinds[0] is None or kinds[0][0] != TEXT.oid)
            and any(isinstance(v, ListColumn) and _is_untyped(v) for v in (value, other))
        ):
            raise a.refuse(
                "INTERSECT or EXCEPT over a protected column beside a given value whose type is that of the other side",
                place,
                hint="Cast the value to its type.",
            )


def _firsts(body: Node) -> Iterator[int]:
    """Yield where the operands on the right of an operand begin, were it a set operation without brackets."""
    while body.get("op", "SETOP_NONE") != "SETOP_NONE":
        body = body["rarg"]
        yield _first(body)


def _spell(
    brackets: Brackets, _text: bytes, *, places: Sequence[int], head: str, middle: str | None, tail: str
) -> Iterator[Change]:
    tokens = brackets.tokens
    operator = brackets.operator(brackets.select(places[1]))
    start = brackets.left_start(operator, brackets.select(places[0]))
    last = operator
    if len(places) > 2 and brackets.right_start(operator) == brackets.select(places[1]):
        last = brackets.operator(brackets.select(places[-1]))
    end = tokens[brackets.right_end(last)].end
    yield Insert(tokens[start].start, head.encode())
    said = tokens[brackets.right_start(operator) - 1].end
    if middle is not None:
        yield Edit(tokens[operator].start, said, middle.encode())
    else:
        yield Edit(tokens[operator].start, said, b"UNION ALL")
    yield Insert(end, tail.encode(), closing=True)
