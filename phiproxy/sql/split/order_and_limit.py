"""What stands behind a query's conditions: ORDER BY, LIMIT, OFFSET and the locking of rows; what of it the source may have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from phiproxy.sql.pg_errors.calls import is_aggregate
from phiproxy.sql.resolve.outputs_without_as import output_name
from phiproxy.sql.split.blocks import Block
from phiproxy.sql.split.clauses import first_token, tail
from phiproxy.sql.split.ctes import is_volatile
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.sources import Source
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.text.parse import Node, location, only, strings
from phiproxy.sql.text.token_spans import CLOSE, SET_OPERATORS, Spans

_GROUPING = ("groupClause", "havingClause", "distinctClause", "windowClause")
_STRENGTHS = {
    "LCS_FORKEYSHARE": "FOR KEY SHARE", "LCS_FORSHARE": "FOR SHARE", "LCS_FORNOKEYUPDATE": "FOR NO KEY UPDATE",
    "LCS_FORUPDATE": "FOR UPDATE",
}  # fmt: skip
_WAITS = {"LockWaitBlock": "", "LockWaitSkip": "SKIP LOCKED", "LockWaitError": "NOWAIT"}
_ENDS = SET_OPERATORS | {"ASCII_59", CLOSE}


def nothing_waits(whole: Whole, read: Block, source: Source, gone: Collection[int]) -> bool:
    """Tell whether the rows of a query are those of its source, one for one, so that the source may sort and limit them."""
    body = read.body
    if (
        source.waiting
        or any(key in body for key in _GROUPING)
        or not all(id(node) in gone for part in read.parts for node in part.nodes)
    ):
        return False
    if not ({"sortClause", "limitCount", "limitOffset"} & body.keys()):
        return False
    return not any(changes_rows(whole, message) for message in bodies([body.get("targetList", []), body.get("sortClause", [])], ()))


def changes_rows(whole: Whole, message: Node) -> bool:
    """Tell whether something in the outputs of a query makes of its rows others, or more: an aggregate, a window, a set."""
    if "funcname" not in message:
        return False
    functions = whole.verdict.signatures.functions(strings(message["funcname"])[-1])
    if not functions or "over" in message or is_aggregate(whole.verdict, message):
        return True
    return any(f.kind != "f" or f.rows for f in functions)


def behind(whole: Whole, read: Block) -> list[tuple[int, int]]:
    """Return the spans of ORDER BY, LIMIT and OFFSET; none where the server would read them otherwise in the source.

    SELECT upper(full_name) FROM patients ORDER BY id LIMIT 10
    → source: SELECT patients.id, patients.full_name FROM patients ORDER BY id LIMIT 10

    SELECT upper(full_name) FROM patients ORDER BY random()
    → source: SELECT patients.full_name FROM patients ORDER BY random()
    → rest: SELECT upper(full_name) FROM (SELECT s.c1 FROM {} AS s) AS patients (full_name)
    """
    if not all(_means_the_same(read.body, only(node)[1]["node"]) for node in read.body.get("sortClause", ())):
        return []
    if "limitCount" not in read.body and "limitOffset" not in read.body and not _keeps_order(whole, read.body):
        return []
    first, end, locks = _tail(whole, read.body)
    tokens, spans, at = whole.spans.tokens, [], first
    for begin, stop in [*locks, (end, end)]:
        if begin > at:
            spans.append((tokens[at].start, tokens[begin - 1].end))
        at = stop
    return spans


def _means_the_same(body: Node, key: Node) -> bool:
    """Tell whether a key of ORDER BY is no name or number of an output that is something else than the column of that name."""
    kind, entry = only(key)
    if kind == "A_Const":
        return False
    if kind != "ColumnRef" or len(names := strings(entry["fields"])) != 1:
        return True
    targets = (only(node)[1] for node in body.get("targetList", ()))
    named = [t["val"] for t in targets if (t.get("name") or output_name(t["val"])) == names[0]]
    return all("ColumnRef" in value and strings(only(value)[1]["fields"])[-1] == names[0] for value in named)


def locking(whole: Whole, read: Block, source: Source, label: str) -> None:
    """Let a source lock what the query locks; ``label``: it is one of several tables, of which perhaps some are locked.

    SELECT upper(full_name) FROM patients WHERE id = 1 FOR UPDATE
    → source: SELECT patients.full_name FROM patients WHERE id = 1 FOR UPDATE
    """
    clauses = [only(node)[1] for node in read.body.get("lockingClause", ())]
    if not clauses:
        return
    targets = read.body.get("targetList", [])
    subqueries = {id(m["subselect"]) for m in bodies(targets, ()) if "subselect" in m}
    aggregates = any(changes_rows(whole, m) for m in bodies(targets, subqueries))
    if any(key in read.body for key in _GROUPING) or aggregates:
        raise Impossible("PostgreSQL does not lock rows of groups")
    if any(t.rest is not None and t.rest.rows == "other" and locks(read.body, t.label) for t in whole.tables):
        raise Impossible("nor those of a view that has groups")
    joins = [message for message in bodies(read.body["fromClause"], ()) if "jointype" in message] if label else []
    # PostgreSQL locks no rows that an outer join may leave out, and none of a join that has a name.
    odd = any(join["jointype"] != "JOIN_INNER" or "alias" in join for join in joins)
    if label and (read.inner or read.outer or odd) and not _are_no_joins(read.body, clauses):
        raise Impossible("it is not looked at whether a join lets rows be locked")
    source.locking = []
    for clause in clauses:
        named = [only(node)[1] for node in clause.get("lockedRels", ())]
        # The server says so of a name that is nowhere in FROM.
        unknown = [one for one in named if one["relname"] not in {item.label for item in read.items}] if label else []
        if label and named and not unknown and label not in [one["relname"] for one in named]:
            continue
        locked = unknown if label else named
        source.locking.append((f"{_STRENGTHS[clause['strength']]}{' OF' if locked else ''}".encode(), -1))
        for number, one in enumerate(locked, start=1):
            source.locking.append((f"{_quoted(one['relname'])}{',' if number < len(locked) else ''}".encode(), location(one)))
        waits = _WAITS[clause.get("waitPolicy", "LockWaitBlock")]
        source.locking += [(waits.encode(), -1)] if waits else []


def check_outer_joins(whole: Whole, read: Block, gone: Collection[int]) -> None:
    """Refuse locks of rows that an outer join may leave out, where the source has not all conditions, as one may rule that out.

    PostgreSQL makes inner joins of such, and does not look at a subquery of which no row is asked for.

    SELECT upper(p.notes) FROM patients p LEFT JOIN visits v ON p.id = v.patient_id WHERE upper(v.diagnosis) < 'X' FOR SHARE
    → refused 0A000
    """
    if read.body is whole.body and all(id(node) in gone for part in read.parts for node in part.nodes):
        return
    for body in bodies({"query": [read.body], "from": read.body["fromClause"]}, ()):
        missing = [label for item in body.get("fromClause", ()) for label in _may_be_missing(item, missing=False)]
        if any(locks(body, label) for label in missing):
            raise Impossible("it is not known whether an outer join leaves something out")


def _may_be_missing(item: Node, *, missing: bool) -> Iterator[str]:
    """Yield the names of the items in a FROM that an outer join may leave out."""
    kind, body = only(item)
    if kind == "JoinExpr":
        yield from _may_be_missing(body["larg"], missing=missing or body["jointype"] in ("JOIN_RIGHT", "JOIN_FULL"))
        yield from _may_be_missing(body["rarg"], missing=missing or body["jointype"] in ("JOIN_LEFT", "JOIN_FULL"))
    elif missing:
        named = body["relation"]["RangeVar"] if kind == "RangeTableSample" else body
        yield named.get("alias", {}).get("aliasname") or named.get("relname", "")


def _are_no_joins(body: Node, clauses: Sequence[Node]) -> bool:
    """Tell whether all that is locked stands in FROM by itself."""
    items = [only(item)[1] for item in body["fromClause"] if "RangeVar" in item]
    alone = {item.get("alias", {}).get("aliasname") or item["relname"] for item in items}
    locked = [[only(node)[1]["relname"] for node in clause.get("lockedRels", ())] for clause in clauses]
    return all(names and alone.issuperset(names) for names in locked)


def locks(body: Node, label: str) -> bool:
    """Tell whether a query locks the rows of the item of its FROM that is called so."""
    named = (
        [only(node)[1]["relname"] for node in only(clause)[1].get("lockedRels", ())] for clause in body.get("lockingClause", ())
    )
    return any(not names or label in names for names in named)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def without(whole: Whole, body: Node, *, limited: bool) -> Iterator[tuple[int, int]]:
    """Yield the spans of what the rest does not have: the locking of rows, and OFFSET where the source has it.

    Of rows that are written with what was drawn for them, ORDER BY and LIMIT too: the engine might sort equal ones otherwise. So it
    is of rows that are sorted by something volatile.
    """
    if limited and _keeps_order(whole, body):
        first, end, _ = _tail(whole, body)
        yield whole.spans.tokens[first].start, whole.spans.tokens[end - 1].end
        return
    if "lockingClause" not in body and not (limited and "limitOffset" in body):
        return
    first, end, locks = _tail(whole, body)
    tokens = whole.spans.tokens
    for begin, stop in locks:
        yield tokens[begin].start, tokens[stop - 1].end
    i = first
    while limited and i < end:
        if whole.spans.name(i) == "OFFSET":
            stop = _next(whole.spans, i + 1, end, {"LIMIT", "FETCH", "FOR"})
            yield tokens[i].start, tokens[stop - 1].end
            return
        i += 1


def _keeps_order(whole: Whole, body: Node) -> bool:
    """Tell whether rows stay as the source sorts them: by what is volatile, or they are written with such values for each row."""
    return (bool(whole.calls.each) and body is whole.body) or sorts_by_chance(whole, body)


def sorts_by_chance(whole: Whole, body: Node) -> bool:
    """Tell whether the statement sorts by what is volatile, as ``ORDER BY random()``: nobody can do so again.

    Of a subquery this is not asked: it may be evaluated for each row of the query around it.
    """
    return body is whole.body and not whole.stored and is_volatile(whole, {"sortClause": body.get("sortClause", [])})


def _tail(whole: Whole, body: Node) -> tuple[int, int, list[tuple[int, int]]]:
    """Return where ORDER BY or what follows begins and ends, and the lockings in it: token indexes, ends excluded."""
    spans = whole.spans
    first = tail(spans, first_token(spans, body))
    end = _next(spans, first, len(spans.tokens), set())
    locks, i = [], first
    while i < end:
        i = _next(spans, i, end, {"FOR"})
        if i < end:
            stop = _next(spans, i + 1, end, {"FOR", "LIMIT", "OFFSET", "FETCH"})
            locks.append((i, stop))
            i = stop
    return first, end, locks


def _next(spans: Spans, i: int, end: int, words: set[str]) -> int:
    while i < end:
        name = spans.name(i)
        if name in words or name in _ENDS:
            return i
        i = spans.partner(i) + 1 if name in ("ASCII_40", "ASCII_91") else i + 1
    return end
