"""JOIN: which columns USING and NATURAL merge, what the merged columns are, and what an alias of a join names (manual 7.2.1).

Envelopes of equal values differ, so a join that merges protected columns becomes ``ON T(a.c) = T(b.c)``. The columns that it would
merge are then spelled with their sources, and ``*`` becomes a list.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from phiproxy.errors import AmbiguousColumn, StatementRefused, UndefinedColumn
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import tag_of
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.conditions import condition
from phiproxy.sql.expressions.expression import check_operators, equality_slot
from phiproxy.sql.expressions.term_values import united_type
from phiproxy.sql.expressions.terms import same_identity
from phiproxy.sql.queries.row_fields import name_fields
from phiproxy.sql.queries.select import from_item
from phiproxy.sql.queries.set_operations import value_type
from phiproxy.sql.resolve.protected_values import CLEAR, Clear, Combined, ListColumn, Protected, Value, as_they_are, own_value
from phiproxy.sql.resolve.scope import Joined, Merged, Scope, Source, SourceColumn, beside, joined_of
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft, Insert, TextEdit
from phiproxy.sql.rewrite.order_of_rewrites import Step
from phiproxy.sql.rewrite.references_and_markers import expression_tree, select_tree, spelled_text
from phiproxy.sql.table_names import rename
from phiproxy.sql.text.parse import Node, location, messages, only, strings
from phiproxy.sql.values.type_resolution import Type, how_compared, merged
from phiproxy.types.names import sql_name


@dataclass(frozen=True, slots=True)
class _Pair:
    """One name of USING: the columns of both sides, the merged column, and the slot by which they are compared."""

    left: SourceColumn
    right: SourceColumn
    column: SourceColumn
    slot: Slot | None = None


def join(a: Analysis, body: Node, outer: Scope, left: Joined) -> Joined:
    """Analyse a join, and return its sources.

    SELECT p.id FROM patients p JOIN visits v ON p.mrn = v.mrn
    → SELECT p.id FROM patients p JOIN visits v ON tag(p.mrn) = tag(v.mrn)

    SELECT p.id FROM patients p JOIN visits v USING (mrn)
    → SELECT p.id FROM patients p JOIN visits v ON tag("p"."mrn") = tag("v"."mrn")

    SELECT mrn FROM patients p FULL JOIN visits v USING (mrn)
    → SELECT COALESCE("p"."mrn", "v"."mrn") AS "mrn" FROM patients p FULL JOIN visits v ON tag("p"."mrn") = tag("v"."mrn")
    """
    one = from_item(a, *only(body["larg"]), outer, left)
    seen = beside(left, one)
    two = from_item(a, *only(body["rarg"]), outer, seen)
    names = _merged_names(a, body, one, two)
    pairs = [_pair(a, body, name, one, two) for name in names]
    # A side that was given another form has each merged name twice, to the server.
    rewritten = any(pair.slot is not None for pair in pairs) or (bool(pairs) and (one.listed or two.listed))
    sources = (*one.sources, *two.sources)
    # Where the join stays as it is, so do the names of what it merged.
    named = [p.column if rewritten else replace(p.column, spelled=()) for p in pairs]
    others = [m for side in (one, two) for m in side.merged if m.column.name not in names]
    merged = (*others, *(Merged(column, sources) for column in named))
    if "quals" in body:
        seen_by_on = Scope(sources, outer, merged)
        condition(a, name_fields(a, body, ("quals",), seen_by_on)["quals"], seen_by_on, "JOIN/ON")
    star = [p.column for p in pairs] + [c for side in (one, two) for c in side.star if c.name not in names] if names else None
    result = beside(one, two) if star is None else Joined(list(sources), merged, star, one.listed or two.listed or rewritten)
    if "join_using_alias" in body:
        alias = body["join_using_alias"]["aliasname"]
        result.sources.append(Source(alias, tuple(named), system=False, bare=False))
    if rewritten:
        _rewrite(a, body, pairs)
    return _aliased(a, body, result, left) if "alias" in body else result


def _aliased(a: Analysis, body: Node, inside: Joined, left: Joined) -> Joined:
    """Return a join with an alias as one source, which hides the sources inside."""
    alias = body["alias"]
    if inside.listed:
        return _as_subquery(a, body, inside, left)
    columns = tuple(replace(c, spelled=()) for c in inside.star)
    opaque, hidden = any(s.opaque for s in inside.sources), any(s.hidden for s in inside.sources)
    if hidden and "colnames" in alias:
        why = "an alias of a JOIN with a list of columns beside hidden columns is not in this version"
        raise a.refuse(why, {"location": _first(body["larg"])}, hint="Alias the tables.")
    return joined_of(rename(Source(alias["aliasname"], columns, opaque=opaque, system=False, hidden=hidden), alias))


def _as_subquery(a: Analysis, body: Node, inside: Joined, left: Joined) -> Joined:
    """Replace a rewritten join by a subquery that lists the columns of the client's join."""
    alias, at_left = body["alias"], {"location": _first(body["larg"])}
    lateral = any(m.get("lateral") or "functions" in m for m in messages(body))
    if any(s.opaque for s in inside.sources) or (lateral and left.sources):
        why = "an alias of a JOIN that merges protected columns by USING or NATURAL, beside a function, is not in this version"
        raise a.refuse(why, at_left, hint="Write the join as a subquery of FROM: (SELECT … FROM …) AS alias.")
    check_named(a, inside.star, at_left)
    if len({c.spelled for c in inside.star}) < len(inside.star):
        why = (
            "two columns of one name, in an alias of a JOIN that merges protected columns by USING or NATURAL, cannot be told apart"
        )
        raise a.refuse(why, at_left, hint="Give them different names.")
    listed = ", ".join(f"{spelled_text(c.spelled)} AS {quote_ident(c.name, always=True)}" for c in inside.star)
    a.rewrite(_put_into_query, Step.QUERIES, a=a, body=body, first=_first(body["rarg"]), listed=listed)
    columns = tuple(SourceColumn(c.name, own_value(c.value)) for c in inside.star)
    return joined_of(rename(Source(alias["aliasname"], columns, system=False), alias))


def _put_into_query(draft: Draft, *, a: Analysis, body: Node, first: int, listed: str) -> Iterator[Insert]:
    spans = draft.spans
    opening = spans.around(spans.before(spans.at(first), "JOIN"))
    query = select_tree(f"SELECT {listed}")
    node = next(m for m in a.whole() if m.get("JoinExpr") is body)
    query["fromClause"] = [{"JoinExpr": body}]
    alias = draft.tree.edit(body).pop("alias")
    draft.tree.replace(node, {"RangeSubselect": {"subquery": {"SelectStmt": query}, "alias": alias}})
    yield Insert(spans.tokens[opening].end, f"SELECT {listed} FROM ".encode())


def _merged_names(a: Analysis, body: Node, one: Joined, two: Joined) -> list[str]:
    at_right = {"location": _first(body["rarg"])}
    if "usingClause" in body:
        names = strings(body["usingClause"])
        for name in names:
            lacking = [said for side, said in ((one, "left"), (two, "right")) if not any(c.name == name for c in side.star)]
            if lacking and not any(s.opaque for s in (*one.sources, *two.sources)):
                why = f'column "{name}" specified in USING clause does not exist in {lacking[0]} table'
                raise UndefinedColumn(why, position=a.at(at_right["location"]))
            if lacking:
                raise a.refuse(
                    f'column "{name}" of USING is not known on both sides', at_right, hint="Write the condition with ON."
                )
        return names
    if not body.get("isNatural"):
        return []
    if any(s.opaque for s in (*one.sources, *two.sources)):
        why = "NATURAL JOIN with a function beside a protected table is not in this version"
        raise a.refuse(why, at_right, hint="Write the condition with ON.")
    right = {c.name for c in two.star}
    names = [c.name for c in one.star if c.name != "\0" and c.name in right]
    return list(dict.fromkeys(names))


def _pair(a: Analysis, body: Node, name: str, one: Joined, two: Joined) -> _Pair:
    owned = []
    for side, said in ((one, "left"), (two, "right")):
        own = [c for c in side.star if c.name == name]
        if len(own) > 1:
            why = f'common column name "{name}" appears more than once in {said} table'
            raise AmbiguousColumn(why, position=a.at(_first(body["rarg"])))
        owned.append(own[0])
    left, right = owned
    kind = body.get("jointype", "JOIN_INNER")
    columns = [c.value.column for c in owned if isinstance(c.value, Protected)]
    if not columns:
        as_they_are(c.value for c in owned)
        value = _merged_value(kind, left.value, right.value)
        return _Pair(left, right, SourceColumn(name, value, _spelled(kind, left, right)))
    at_right = {"location": _first(body["rarg"])}
    column = same_identity(a, columns, {"JoinExpr": at_right})
    with a.positioned(at_right):
        shared = united_type(column, merged([value_type(left.value), value_type(right.value)]))
        for c in owned:
            _check_compared(column, value_type(c.value))
    for c in owned:
        if isinstance(c.value, Clear):
            why = f"{column.label} is protected and meets an unprotected column in USING or NATURAL"
            raise a.refuse(why, at_right, hint="Only columns of the same identity, parameters and literals can meet it.")
        if isinstance(c.value, ListColumn):
            c.value.users.append(Combined(column, (shared,)))
    slot = equality_slot(a, column, {"JoinExpr": at_right})
    check_operators(a, column, {"JoinExpr": at_right})
    return _Pair(left, right, _merge(name, kind, left, right, Protected(column, shared, cast=True)), slot)


def _merged_value(kind: str, left: Value, right: Value) -> Clear:
    """Return the column that two unprotected ones are merged to: one side's own, unless it may be either's."""
    if not (isinstance(left, Clear) and isinstance(right, Clear)) or left.type != right.type:
        return CLEAR
    if kind == "JOIN_FULL":
        return Clear(left.type)
    return right if kind == "JOIN_RIGHT" else left


def _check_compared(column: ProtectedColumn, given: Type) -> None:
    """Refuse given values that USING compares otherwise once they are converted to the column's type."""
    own = column.type
    if given is not None and how_compared(own, given).at != how_compared(own, own).at:
        why = f"values of type {sql_name(given)} are compared with {column.label} by USING in another way than as {sql_name(own)}"
        raise StatementRefused(why, hint=f"Cast them to {sql_name(own.underlying)}.")


def _merge(name: str, kind: str, left: SourceColumn, right: SourceColumn, merged_value: Protected) -> SourceColumn:
    """Return the merged column: that of the side that has no NULLs of the join's own, or both where each may."""
    spelled = _spelled(kind, left, right)
    if kind == "JOIN_FULL":
        return SourceColumn(name, merged_value, spelled)
    side = right if kind == "JOIN_RIGHT" else left
    other = left if side is right else right
    given = isinstance(side.value, ListColumn)  # of the common type, which is made after the left side
    if kind == "JOIN_INNER" and not given and not _is(side, merged_value.type) and _is(other, merged_value.type):
        return SourceColumn(name, other.value, other.spelled)
    return SourceColumn(
        name, side.value if _is(side, merged_value.type) or not isinstance(side.value, Protected) else merged_value, spelled
    )


def _is(column: SourceColumn, shared: DeclaredType) -> bool:
    return isinstance(column.value, Protected) and column.value.type == shared


def _spelled(kind: str, left: SourceColumn, right: SourceColumn) -> tuple[tuple[str, str], ...]:
    if kind == "JOIN_FULL":
        return (*left.spelled, *right.spelled)
    return right.spelled if kind == "JOIN_RIGHT" else left.spelled


def _first(node: Node) -> int:
    return min((location(m) for m in messages(node) if m.get("location", -1) >= 0), default=0)


def _rewrite(a: Analysis, body: Node, pairs: Sequence[_Pair]) -> None:
    at_right = {"location": _first(body["rarg"])}
    check_named(a, [c for p in pairs for c in (p.left, p.right)], at_right)
    for pair in pairs:
        types = [c.value.type for c in (pair.left, pair.right) if isinstance(c.value, Clear) and c.value.type is not None]
        if len(set(types)) > 1:
            why = f'"{pair.column.name}" has different types on both sides of USING or NATURAL, beside protected columns'
            raise a.refuse(why, at_right, hint="Write the condition with ON.")
    conditions = []
    for pair in pairs:
        sides = [spelled_text(c.spelled) for c in (pair.left, pair.right)]
        conditions.append(" = ".join(sides if pair.slot is None else [tag_of(side, pair.slot) for side in sides]))
    a.rewrite(_join_on, Step.QUERIES, body=body, first=_first(body["rarg"]), condition=" AND ".join(conditions))


def check_named(a: Analysis, columns: Sequence[SourceColumn], body: Node) -> None:
    """Refuse columns of a subquery without a name, since a rewritten join could not name them."""
    if any("\0" in part for c in columns for pair in c.spelled for part in pair):
        raise a.refuse("USING or NATURAL over protected columns of a subquery without a name", body, hint="Give it an alias.")


def _join_on(draft: Draft, *, body: Node, first: int, condition: str) -> Iterator[TextEdit]:
    """Replace ``USING (mrn)``, or NATURAL, by ``ON <tag> = <tag>``."""
    spans, tokens, body = draft.spans, draft.spans.tokens, draft.tree.edit(body)
    introduced = spans.before(spans.at(first), "JOIN")
    if body.pop("isNatural", False):
        natural = spans.before(introduced, "NATURAL")
        yield Edit(tokens[natural].start, tokens[natural].end, b"")
        yield Insert(tokens[spans.from_item_end(introduced + 1)].end, f" ON {condition}".encode(), closing=True)
    else:
        using = spans.join_condition(introduced)
        end = spans.partner(using + 1) + (2 if body.pop("join_using_alias", None) is not None else 0)
        yield Edit(tokens[using].start, tokens[end].end, f"ON {condition}".encode())
    body.pop("usingClause", None)
    body["quals"] = expression_tree(condition, {})
