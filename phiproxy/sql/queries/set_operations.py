"""UNION, INTERSECT and EXCEPT: a column of the result holds protected values of one identity, given values and NULL.

UNION ALL stays as it is. The other operations compare rows, so they must compare tags: UNION ALL of the operands becomes a
subquery, whose rows are grouped by tags and by what is unprotected.
"""

from collections.abc import Callable, Iterator, Sequence

from phiproxy.errors import WrongCount
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import tag_of
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import equality_slot
from phiproxy.sql.expressions.term_values import united_type
from phiproxy.sql.expressions.terms import same_identity
from phiproxy.sql.resolve.functional_dependencies import Outputs, combined_in
from phiproxy.sql.resolve.protected_values import (
    CLEAR,
    About,
    Clear,
    Combined,
    ListColumn,
    Output,
    Protected,
    Value,
    about_whom,
    as_they_are,
    type_of,
)
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft, Insert, TextEdit
from phiproxy.sql.rewrite.order_of_rewrites import Step
from phiproxy.sql.rewrite.references_and_markers import column_list, representative, select_tree, subquery_of
from phiproxy.sql.text.parse import Node, location, messages
from phiproxy.sql.values.type_resolution import TEXT, Type, merged

# From this version on INTERSECT and EXCEPT return rows of the left operand as they are, with the modifiers of their types.
_LEFT_ROWS = 180000
# Types with values that are equal and yet differ: 1.0 and 1.00, 'a' and 'a ', 1 day and 24 hours, 0 and -0.
_SPELLED_APART = frozenset({"bpchar", "citext", "float4", "float8", "interval", "jsonb", "numeric"})
_OUTER = ("sortClause", "limitOffset", "limitCount", "limitOption", "withClause", "lockingClause")
Analyse = Callable[[Node], list[Output]]


def set_operation(
    a: Analysis, body: Node, analyse: Analyse, analyse_right: Analyse | None = None, *, by_envelopes: bool = False
) -> list[Output]:
    """Analyse a set operation, with ``analyse`` for its operands, and return its outputs.

    ``by_envelopes``: a UNION of a recursive query may compare its rows by their envelopes, and needs no tags.

    SELECT mrn FROM patients UNION ALL SELECT mrn FROM visits
    → SELECT mrn FROM "public".patients UNION ALL SELECT mrn FROM "public".visits

    SELECT mrn FROM patients UNION SELECT 'x'
    → SELECT DISTINCT ON (tag(phi.c1)) phi.c1 AS "mrn" FROM (SELECT mrn FROM patients UNION ALL SELECT envelope('x')) AS phi
      (c1)

    SELECT ssn FROM patients UNION ALL SELECT city FROM patients
    → refused 0A000
    """
    starts = (_first(body["larg"]), _first(body["rarg"]), *_firsts(body["rarg"]))
    left = analyse(body["larg"])
    right = (analyse_right or analyse)(body["rarg"])
    if len(left) != len(right):
        name = body["op"].removeprefix("SETOP_")
        at = a.at(starts[1]) if right else None  # where there is nothing to point at, PostgreSQL points at nothing
        raise WrongCount(f"each {name} query must have the same number of columns", position=at)
    outputs = [(name, unite(a, body, value, other)) for (name, value), (_, other) in zip(left, right, strict=True)]
    all_rows = bool(body.get("all"))
    if body["op"] != "SETOP_UNION" or not all_rows:
        for _, value in outputs:
            a.refuse_masked(value, _at(starts[0]))
    compares_none = body["op"] == "SETOP_UNION" and (all_rows or by_envelopes)
    if not compares_none and any(isinstance(value, Protected) for _, value in outputs):
        if all_rows:
            why = "INTERSECT ALL and EXCEPT ALL over a protected column are not in this version"
            raise a.refuse(why, _at(starts[0]), hint="Use INTERSECT or EXCEPT, without ALL.")
        _wrap(a, body, outputs, [other for _, other in right], [value for _, value in left], starts)
    return Outputs(outputs, (*combined_in(left), *combined_in(right)) if body["op"] == "SETOP_UNION" else [None])


def _at(offset: int) -> Node:
    return {"location": offset}


def _first(body: Node) -> int:
    """Return the byte offset at which the first item of the leftmost SELECT or VALUES of an operand begins."""
    while body.get("op", "SETOP_NONE") != "SETOP_NONE":
        body = body["larg"]
    nodes = (body.get("valuesLists") or body.get("targetList") or [])[:1]
    return min((location(m) for m in messages(nodes) if m.get("location", -1) >= 0), default=-1)


def unite(a: Analysis, body: Node, value: Value, other: Value) -> Value:
    """Return the column of the result whose values are those of both columns.

    SELECT ssn FROM patients UNION ALL SELECT NULL
    → SELECT ssn FROM patients UNION ALL SELECT NULL

    SELECT ssn FROM patients UNION ALL SELECT full_name FROM patients
    → refused 0A000
    """
    columns = [v.column for v in (value, other) if isinstance(v, Protected)]
    for leaf in other.leaves() if isinstance(other, ListColumn) else ():
        leaf.unnamed = True
    if columns:
        column = same_identity(a, columns, {"SelectStmt": {"location": max(_first(body), 0)}})
        with a.positioned(_at(max(_first(body), 0))):
            shared = united_type(column, merged([value_type(value), value_type(other)]))
        for one in (value, other):
            if isinstance(one, Clear):
                raise a.refuse(
                    f"{column.label} is protected and meets an unprotected column in a set operation",
                    _at(max(_first(body), 0)),
                    hint="Let the other queries have columns of the same identity, parameters, literals or NULL there.",
                )
            if isinstance(one, ListColumn):
                one.users.append(Combined(column, (shared,)))
        planned, about = _planned(a, body, value, shared), _about(body["op"], value, other)
        return Protected(column, shared, cast=True, planned=planned, about=about)
    if isinstance(value, ListColumn) and isinstance(other, ListColumn) and body["op"] == "SETOP_UNION" and body.get("all"):
        united = ListColumn([], [], parts=(value, other))
        a.lists.append(united)
        return united
    as_they_are((value, other))
    about = _about(body["op"], value, other)
    return Clear(about=about) if about else CLEAR


def _about(op: str, value: Value, other: Value) -> tuple[About, ...]:
    """Return the relations of whose rows a column of the result says whom they are about; of EXCEPT those of the left query."""
    left, right = about_whom(value), about_whom(other)
    if op == "SETOP_UNION" and not (left and right and left[0].kind == right[0].kind):
        return ()  # a value may be that of a row about somebody, or something else
    return (*left, *(() if op == "SETOP_EXCEPT" else right))


def _planned(a: Analysis, body: Node, value: Value, shared: DeclaredType) -> DeclaredType | None:
    """Return the type of a column of INTERSECT or EXCEPT once PostgreSQL has planned it, where that differs."""
    if body["op"] == "SETOP_UNION" or a.context.catalog.server_version < _LEFT_ROWS:
        return None
    left = value.type if isinstance(value, Protected) else shared
    return left if left.oid == shared.oid else None


def value_type(value: Value) -> Type:
    """Return the type of a column, or of its given values."""
    return value.type if isinstance(value, Protected) else type_of(value) if isinstance(value, ListColumn) else None


def _wrap(
    a: Analysis,
    body: Node,
    outputs: Sequence[Output],
    right: Sequence[Value],
    left: Sequence[Value],
    starts: Sequence[int],
) -> None:
    columns = [f"phi.c{i + 1}" for i in range(len(outputs))]
    at_first = _at(max(starts[0], 0))
    keys, shown = [], []
    union, version = body["op"] == "SETOP_UNION", a.context.catalog.server_version
    for (name, value), column in zip(outputs, columns, strict=True):
        if name is None:
            raise a.refuse("a column of this set operation has no name that is known", at_first, hint="Name it with AS.")
        protected = isinstance(value, Protected)
        slot = equality_slot(a, value.column, {"SelectStmt": at_first}) if isinstance(value, Protected) else None
        keys.append(tag_of(column, slot) if slot is not None else column)
        shown.append(f"{column if union or not protected else representative(version, column)} AS {quote_ident(name, always=True)}")
    names = column_list(len(outputs))
    if union:
        head, middle, tail = f"SELECT DISTINCT ON ({', '.join(keys)}) {', '.join(shown)} FROM (", None, f") AS phi ({names})"
    else:
        _same_types(a, left, right, at_first)
        head = f"SELECT {', '.join(shown)} FROM (SELECT 0, phi.* FROM ("
        middle = ") AS phi UNION ALL SELECT 1, phi.* FROM ("
        both = "pg_catalog.min(phi.side) < pg_catalog.max(phi.side)"
        last = "pg_catalog.max(phi.side) = 0" if body["op"] == "SETOP_EXCEPT" else both
        tail = f") AS phi) AS phi (side, {names}) GROUP BY {', '.join(keys)} HAVING {last}"
    a.rewrite(_around, Step.QUERIES, body=body, starts=starts, head=head, middle=middle, tail=tail)


def _same_types(a: Analysis, left: Sequence[Value], right: Sequence[Value], body: Node) -> None:
    """Refuse an untyped given value beside a column: PostgreSQL would convert it to the column's type, a subquery to text.

    Refuse it also beside a protected column whose values may be equal and differ: PostgreSQL's plan decides which is shown.
    """
    for value, other in zip(left, right, strict=True):
        column = next((v.column for v in (value, other) if isinstance(v, Protected)), None)
        given = any(isinstance(v, ListColumn) for v in (value, other))
        if given and column is not None and column.type.underlying.family in _SPELLED_APART:
            why = f"INTERSECT or EXCEPT of {column.label} and given values, which may be equal and spelled in another way"
            raise a.refuse(why, body, hint=f"Write WHERE {column.name} IN (…), or NOT IN.")
        kinds = [v.type for v in (value, other) if isinstance(v, Clear)]
        entries = (e for v in (value, other) if isinstance(v, ListColumn) for part in v.leaves() for e in part.entries)
        if (
            len(kinds) == 1
            and (kinds[0] is None or kinds[0][0] != TEXT.oid)
            and any(entry is None or entry.type_oid in (0, TEXT.oid) for entry in entries)
        ):
            why = "INTERSECT or EXCEPT over a protected column beside a given value whose type is that of the other side"
            raise a.refuse(why, body, hint="Cast the value to its type.")


def _firsts(body: Node) -> Iterator[int]:
    """Yield the offsets of the right operands of an operand that is itself a set operation without parentheses."""
    while body.get("op", "SETOP_NONE") != "SETOP_NONE":
        body = body["rarg"]
        yield _first(body)


def _around(draft: Draft, *, body: Node, starts: Sequence[int], head: str, middle: str | None, tail: str) -> Iterator[TextEdit]:
    """Put a query around a set operation, which becomes UNION ALL of the same operands."""
    spans, tokens, edited = draft.spans, draft.spans.tokens, draft.tree.now(body)
    if middle is None:
        template = select_tree(f"{head}SELECT{tail}")
        inner = {k: v for k, v in edited.items() if k not in _OUTER} | {"limitOption": "LIMIT_OPTION_DEFAULT", "all": True}
        subquery_of(template)["subquery"] = {"SelectStmt": inner}
    else:
        template = select_tree(f"{head}SELECT{middle}SELECT{tail}")
        united = subquery_of(template)["subquery"]["SelectStmt"]
        for side in ("larg", "rarg"):
            subquery_of(united[side])["subquery"] = {"SelectStmt": edited[side]}
    draft.tree.replace(body, template | {k: edited[k] for k in _OUTER if k in edited})
    operator = spans.operator(spans.select(starts[1]))
    start = spans.left_start(operator, spans.select(starts[0]))
    last = operator
    if len(starts) > 2 and spans.right_start(operator) == spans.select(starts[1]):
        last = spans.operator(spans.select(starts[-1]))
    end = tokens[spans.right_end(last)].end
    yield Insert(tokens[start].start, head.encode())
    said = tokens[spans.right_start(operator) - 1].end
    if middle is not None:
        yield Edit(tokens[operator].start, said, middle.encode())
    else:
        yield Edit(tokens[operator].start, said, b"UNION ALL")
    yield Insert(end, tail.encode(), closing=True)
