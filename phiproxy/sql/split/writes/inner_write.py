"""Writes in WITH, as statements of their own: their text is the client's, with blanks for all that is around it."""

from __future__ import annotations

from dataclasses import dataclass

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.user_types import find_types, note_declared
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.writes.assigned_values import Written, written
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.text.parse import Node, location, only, parse, strings
from phiproxy.sql.text.token_spans import OPEN, Spans

_READ_APART = (
    "Beside a write in WITH tables are read where nothing is inserted, by their columns, and without locks. Read the table by a"
    " statement of its own, in the same transaction."
)


@dataclass(frozen=True, slots=True)
class InnerWrite:
    """A write in WITH of a statement. ``span`` is its text; positions are those of the whole."""

    a: Analysis
    spans: Spans
    write: Written
    span: Span

    def around(self, a: Analysis, spans: Spans) -> tuple[Composed, Span]:
        """Return a text with what is before the write, and where in the client's text that ends which is behind it."""
        return Composed(a.text, spans).add((a.statement.start, self.span[0])), (self.span[1], a.statement.end)

    def over_rows(self, a: Analysis, spans: Spans) -> Composed:
        """Return the statement with a SELECT of what the write returns in its place."""
        composed, behind = self.around(a, spans)
        clauses = self.write.clauses
        if clauses.returning is None:
            raise Impossible("it returns nothing")
        return composed.add("SELECT ", clauses.returning, " FROM ", clauses.relation, behind)


def inner_write(a: Analysis, spans: Spans) -> InnerWrite:
    """Return the write in WITH of a statement; Impossible where there are several, or more is read than what it returns."""
    ctes = _writes(a)
    if len(ctes) != 1:
        raise Impossible("several writes in WITH")
    return _inner(a, spans, ctes)[0]


def inner_writes(a: Analysis, spans: Spans, *, beside: bool = False) -> list[InnerWrite]:
    """Return the writes in WITH of a statement that choose rows, in the order of its text; Impossible where more is read.

    An INSERT may read what another query of WITH returns: it stays as it is. ``beside``: tables may be read around them.
    """
    chosen = [cte for cte in _writes(a) if only(cte["ctequery"])[0] != "InsertStmt"]
    if not chosen:
        raise Impossible("no write in WITH that chooses rows")
    return _inner(a, spans, chosen, beside=beside)


def all_writes(a: Analysis, spans: Spans) -> list[InnerWrite]:
    """Return all writes in WITH of a statement, whatever they read; Impossible."""
    return [_parsed(a, spans, cte) for cte in _writes(a)]


def kept_queries(a: Analysis) -> dict[str, Node]:
    """Return the writes in WITH of a statement and the queries of WITH that they read, by their names; Impossible."""
    ctes = {cte["ctename"]: cte for cte in _ctes(a)}
    wanted = [cte["ctename"] for cte in _writes(a)]
    if any(sum(m.get("ctename") == name for m in a.whole()) > 1 for name in ctes):
        raise Impossible("two queries of WITH of one name")
    for name in wanted:  # which grows
        read = (m["relname"] for m in bodies(ctes[name]["ctequery"], ()) if "relname" in m and "schemaname" not in m)
        wanted += [other for other in read if other in ctes and other not in wanted]
    return {name: ctes[name] for name in wanted}


def _ctes(a: Analysis) -> list[Node]:
    return [only(node)[1] for node in a.statement.body.get("withClause", {}).get("ctes", ())]


def writes_in_with(a: Analysis) -> list[Node]:
    """Return the queries of a statement's WITH that are writes."""
    return [cte for cte in _ctes(a) if only(cte["ctequery"])[0] != "SelectStmt"]


def _writes(a: Analysis) -> list[Node]:
    writes = writes_in_with(a)
    if not writes or a.statement.body["withClause"].get("recursive"):
        raise Impossible("no write in WITH")
    return writes


def _inner(a: Analysis, spans: Spans, ctes: list[Node], *, beside: bool = False) -> list[InnerWrite]:
    names = {one["ctename"] for one in _ctes(a)}
    if any(m.get("relname") in names for cte in ctes for m in bodies(cte["ctequery"], ())):
        raise Impossible("a write in WITH that reads another query of it")
    _check_around(a, ctes, names, beside=beside)
    return [_parsed(a, spans, cte) for cte in ctes]


def _parsed(a: Analysis, spans: Spans, cte: Node) -> InnerWrite:
    span = _span(spans, cte)
    text = b" " * span[0] + a.text[slice(*span)]
    (statement,) = parse(text)
    inner = Analysis(text, a.context, statement, RULES)
    note_declared(inner.whole(), a.context.catalog, a.context.declared)
    find_types(inner, inner.whole())
    own = Spans(inner.tokens())
    return InnerWrite(inner, own, written(inner, own), span)


def _span(spans: Spans, cte: Node) -> Span:
    try:
        i = spans.at(location(cte)) + 1
        if spans.name(i) == OPEN:
            i = spans.partner(i) + 1
        opening = spans.next(i, OPEN)
        return spans.tokens[opening].end, spans.tokens[spans.partner(opening)].start
    except StatementRefused:
        raise Impossible("a query of WITH that is not found") from None


def _check_around(a: Analysis, ctes: list[Node], names: set[str], *, beside: bool) -> None:
    """Go on where nothing around the writes reads a table: they and that would be of two snapshots."""
    body, signatures = a.statement.body, a.context.catalog.signatures
    inserts = [only(cte["ctequery"])[1] for cte in _ctes(a) if only(cte["ctequery"])[0] == "InsertStmt"]
    targets = [id(one.get("relation")) for one in (*inserts, *([body] if a.statement.kind == "InsertStmt" else []))]
    for message in bodies(body, {id(cte["ctequery"]) for cte in ctes}):
        is_read = "relname" in message and not beside and id(message) not in targets
        if is_read and ("schemaname" in message or message["relname"] not in names):
            raise RefusedWithHint("a table is read beside a write in WITH", _READ_APART)
        if "funcname" in message and (signatures is None or signatures.own_functions(strings(message["funcname"])[-1])):
            raise RefusedWithHint("a function of the database's own may read a table beside a write in WITH", _READ_APART)
