"""JOIN: which columns USING and NATURAL merge, what the merged ones are, and what an alias of a join names (manual 7.2.1).

Envelopes of equal values differ, so a join that merges protected columns is given the form ``ON T(a.c) = T(b.c)``: what it merged
is then named by its sources, ``*`` is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from phiproxy.errors import AmbiguousColumn, StatementRefused, UndefinedColumn
from phiproxy.policy.guards import tag_of
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Slot
from phiproxy.sql.analysis import Analysis, rename
from phiproxy.sql.brackets import Brackets
from phiproxy.sql.expressions import check_operators, equality_slot
from phiproxy.sql.meaning import Edit
from phiproxy.sql.mismatch import condition
from phiproxy.sql.parse import Node, location, messages, only, strings
from phiproxy.sql.respell import quoted, spelled_text
from phiproxy.sql.rowfields import name_fields
from phiproxy.sql.scope import (
    CLEAR,
    Clear,
    Joined,
    Kept,
    ListColumn,
    Merged,
    Protected,
    Scope,
    Source,
    SourceColumn,
    Value,
    joined_of,
    own_value,
)
from phiproxy.sql.select import from_item
from phiproxy.sql.setops import value_type
from phiproxy.sql.terms import same_identity, united_type
from phiproxy.sql.type_resolution import Type, how_compared, merged
from phiproxy.sql.wrap import Change, Insert, expression_tree, select_tree
from phiproxy.types.names import sql_name


@dataclass(frozen=True, slots=True)
class _Pair:
    """One name of USING: the columns of both sides, what becomes of them, and the slot by which they are compared."""

    left: SourceColumn
    right: SourceColumn
    column: SourceColumn
    slot: Slot | None = None


def join(a: Analysis, body: Node, outer: Scope, left: Joined) -> Joined:
    """Analyse a JoinExpr."""
    one = from_item(a, *only(body["larg"]), outer, left)
    seen = Joined([*left.sources, *one.sources], [], (*left.merged, *one.merged))
    two = from_item(a, *only(body["rarg"]), outer, seen)
    names = _merged_names(a, body, one, two)
    pairs = [_pair(a, body, name, one, two) for name in names]
    # A side that was given another form has each merged name twice, to the server.
    rewritten = any(pair.slot is not None for pair in pairs) or (bool(pairs) and (one.listed or two.listed))
    sources = (*one.sources, *two.sources)
    # Where the join stays as it is, so do the names of what it merged.
    named = [p.column if rewritten else replace(p.column, spelled=()) for p in pairs]
    kept = [m for side in (one, two) for m in side.merged if m.column.name not in names]
    merged = (*kept, *(Merged(column, sources) for column in named))
    if "quals" in body:
        seen_by_on = Scope(sources, outer, merged)
        name_fields(a, [body["quals"]], seen_by_on)
        condition(a, body["quals"], seen_by_on, "JOIN/ON")
    star = [p.column for p in pairs] + [c for side in (one, two) for c in side.star if c.name not in names]
    result = Joined(list(sources), star, merged, one.listed or two.listed or rewritten)
    if "join_using_alias" in body:
        alias = body["join_using_alias"]["aliasname"]
        result.sources.append(Source(alias, tuple(named), system=False, bare=False))
    if rewritten:
        _rewrite(a, body, pairs)
    return _aliased(a, body, result, left) if "alias" in body else result


def _aliased(a: Analysis, body: Node, inside: Joined, left: Joined) -> Joined:
    """Return what an alias of a whole join makes of it: one source, which hides those inside."""
    alias = body["alias"]
    if inside.listed:
        return _as_subquery(a, body, inside, left)
    columns = tuple(replace(c, spelled=()) for c in inside.star)
    opaque, hidden = any(s.opaque for s in inside.sources), any(s.hidden for s in inside.sources)
    if hidden and "colnames" in alias:
        raise a.refuse(
            "an alias of a JOIN with a list of columns beside hidden columns is not in this version",
            {"location": _first(body["larg"])},
            hint="Alias the tables.",
        )
    return joined_of(rename(Source(alias["aliasname"], columns, opaque=opaque, system=False, hidden=hidden), alias))


def _as_subquery(a: Analysis, body: Node, inside: Joined, left: Joined) -> Joined:
    """Let the server see a join that was given another form as a subquery that lists the columns which the client's has."""
    alias, place = body["alias"], {"location": _first(body["larg"])}
    lateral = any(m.get("lateral") or "functions" in m for m in messages(body))
    if any(s.opaque for s in inside.sources) or (lateral and left.sources):
        why = "an alias of a JOIN that merges protected columns by USING or NATURAL, beside a function, is not in this version"
        raise a.refuse(why, place, hint="Write the join as a subquery of FROM: (SELECT … FROM …) AS alias.")
    check_named(a, inside.star, place)
    if len({c.spelled for c in inside.star}) < len(inside.star):
        why = (
            "two columns of one name, in an alias of a JOIN that merges protected columns by USING or NATURAL, cannot be told apart"
        )
        raise a.refuse(why, place, hint="Give them different names.")
    listed = ", ".join(f"{spelled_text(c.spelled).decode()} AS {quoted(c.name)}" for c in inside.star)
    a.wraps.append(partial(_put_into_query, a=a, body=body, first=_first(body["rarg"]), listed=listed))
    columns = tuple(SourceColumn(c.name, own_value(c.value)) for c in inside.star)
    return joined_of(rename(Source(alias["aliasname"], columns, system=False), alias))


def _put_into_query(brackets: Brackets, _text: bytes, *, a: Analysis, body: Node, first: int, listed: str) -> Iterator[Change]:
    opening = brackets.around(brackets.before(brackets.at(first), "JOIN"))
    query = select_tree(f"SELECT {listed}")
    node = next(m for m in a.whole() if m.get("JoinExpr") is body)
    node.clear()
    query["fromClause"] = [{"JoinExpr": body}]
    node["RangeSubselect"] = {"subquery": {"SelectStmt": query}, "alias": body.pop("alias")}
    yield Insert(brackets.tokens[opening].end, f"SELECT {listed} FROM ".encode())


def _merged_names(a: Analysis, body: Node, one: Joined, two: Joined) -> list[str]:
    place = {"location": _first(body["rarg"])}
    if "usingClause" in body:
        names = strings(body["usingClause"])
        for name in names:
            lacking = [said for side, said in ((one, "left"), (two, "right")) if not any(c.name == name for c in side.star)]
            if lacking and not any(s.opaque for s in (*one.sources, *two.sources)):
                why = f'column "{name}" specified in USING clause does not exist in {lacking[0]} table'
                raise UndefinedColumn(why, position=a.at(place["location"]))
            if lacking:
                raise a.refuse(f'column "{name}" of USING is not known on both sides', place, hint="Write the condition with ON.")
        return names
    if not body.get("isNatural"):
        return []
    if any(s.opaque for s in (*one.sources, *two.sources)):
        why = "NATURAL JOIN with a function beside a protected table is not in this version"
        raise a.refuse(why, place, hint="Write the condition with ON.")
    right = {c.name for c in two.star}
    names = [c.name for c in one.star if c.name != "\0" and c.name in right]
    return list(dict.fromkeys(names))


def _pair(a: Analysis, body: Node, name: str, one: Joined, two: Joined) -> _Pair:
    found = []
    for side, said in ((one, "left"), (two, "right")):
        own = [c for c in side.star if c.name == name]
        if len(own) > 1:
            why = f'common column name "{name}" appears more than once in {said} table'
            raise AmbiguousColumn(why, position=a.at(_first(body["rarg"])))
        found.append(own[0])
    left, right = found
    kind = body.get("jointype", "JOIN_INNER")
    columns = [c.value.column for c in found if isinstance(c.value, Protected)]
    if not columns:
        for c in found:
            if isinstance(c.value, ListColumn):
                c.value.users.append(None)
        value = _merged_value(kind, left.value, right.value)
        return _Pair(left, right, SourceColumn(name, value, _spelled(kind, left, right)))
    place = {"location": _first(body["rarg"])}
    column = same_identity(a, columns, {"JoinExpr": place})
    with a.placed(place):
        shared = united_type(column, merged([value_type(left.value), value_type(right.value)]))
        for c in found:
            _check_compared(column, value_type(c.value))
    for c in found:
        if isinstance(c.value, Clear):
            raise a.refuse(
                f"{column.label} is protected and meets an unprotected column in USING or NATURAL",
                place,
                hint="Only columns of the same identity, parameters and literals can meet it.",
            )
        if isinstance(c.value, ListColumn):
            c.value.users.append(Kept(column, (shared,)))
    slot = equality_slot(a, column, {"JoinExpr": place})
    check_operators(a, column, {"JoinExpr": place})
    return _Pair(left, right, _merge(name, kind, left, right, Protected(column, shared, cast=True)), slot)


def _merged_value(kind: str, left: Value, right: Value) -> Clear:
    """Return what a merged column is of two unprotected ones: one side's own, unless it may be either's."""
    if not (isinstance(left, Clear) and isinstance(right, Clear)) or left.type != right.type:
        return CLEAR
    if kind == "JOIN_FULL":
        return Clear(left.type)
    return right if kind == "JOIN_RIGHT" else left


def _check_compared(column: ProtectedColumn, given: Type) -> None:
    """Refuse values that USING compares in another way than they are when they have become the column's type."""
    own = column.type
    if given is not None and how_compared(own, given).at != how_compared(own, own).at:
        raise StatementRefused(
            f"values of type {sql_name(given)} are compared with {column.label} by USING in another way than as {sql_name(own)}",
            hint=f"Cast them to {sql_name(own.underlying)}.",
        )


def _merge(name: str, kind: str, left: SourceColumn, right: SourceColumn, made: Protected) -> SourceColumn:
    """Return the merged column: the side that has no NULLs of the join's own, or both where each may."""
    spelled = _spelled(kind, left, right)
    if kind == "JOIN_FULL":
        return SourceColumn(name, made, spelled)
    side = right if kind == "JOIN_RIGHT" else left
    other = left if side is right else right
    given = isinstance(side.value, ListColumn)  # of the common type, which is made after the left side
    if kind == "JOIN_INNER" and not given and not _is(side, made.type) and _is(other, made.type):
        return SourceColumn(name, other.value, other.spelled)
    return SourceColumn(name, side.value if _is(side, made.type) or not isinstance(side.value, Protected) else made, spelled)


def _is(column: SourceColumn, shared: DeclaredType) -> bool:
    return isinstance(column.value, Protected) and column.value.type == shared


def _spelled(kind: str, left: SourceColumn, right: SourceColumn) -> tuple[tuple[str, str], ...]:
    if kind == "JOIN_FULL":
        return (*left.spelled, *right.spelled)
    return right.spelled if kind == "JOIN_RIGHT" else left.spelled


def _first(node: Node) -> int:
    """Return the byte offset of the first part of a FROM item that has a place."""
    return min((location(m) for m in messages(node) if m.get("location", -1) >= 0), default=0)


def _rewrite(a: Analysis, body: Node, pairs: Sequence[_Pair]) -> None:
    place = {"location": _first(body["rarg"])}
    check_named(a, [c for p in pairs for c in (p.left, p.right)], place)
    for pair in pairs:
        types = [c.value.type for c in (pair.left, pair.right) if isinstance(c.value, Clear) and c.value.type is not None]
        if len(set(types)) > 1:
            why = f'"{pair.column.name}" has different types on both sides of USING or NATURAL, beside protected columns'
            raise a.refuse(why, place, hint="Write the condition with ON.")
    conditions = []
    for pair in pairs:
        sides = [spelled_text(c.spelled).decode() for c in (pair.left, pair.right)]
        conditions.append(" = ".join(sides if pair.slot is None else [tag_of(side, pair.slot) for side in sides]))
    a.wraps.append(partial(_spell, body=body, first=_first(body["rarg"]), condition=" AND ".join(conditions)))


def check_named(a: Analysis, columns: Sequence[SourceColumn], place: Node) -> None:
    """Refuse columns of a subquery without a name: the server could not be told of them."""
    if any("\0" in part for c in columns for pair in c.spelled for part in pair):
        raise a.refuse("USING or NATURAL over protected columns of a subquery without a name", place, hint="Give it an alias.")


def _spell(brackets: Brackets, _text: bytes, *, body: Node, first: int, condition: str) -> Iterator[Change]:
    tokens = brackets.tokens
    introduced = brackets.before(brackets.at(first), "JOIN")
    if body.pop("isNatural", False):
        natural = brackets.before(introduced, "NATURAL")
        yield Edit(tokens[natural].start, tokens[natural].end, b"")
        yield Insert(tokens[brackets.from_item_end(introduced + 1)].end, f" ON {condition}".encode(), closing=True)
    else:
        using = brackets.join_condition(introduced)
        end = brackets.partner(using + 1) + (2 if body.pop("join_using_alias", None) is not None else 0)
        yield Edit(tokens[using].start, tokens[end].end, f"ON {condition}".encode())
    body.pop("usingClause", None)
    body["quals"] = expression_tree(condition, {})
