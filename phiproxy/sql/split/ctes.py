"""Queries of WITH that a source needs, and what may be evaluated another number of times than the client wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from phiproxy.errors import StatementRefused
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.text.parse import Node, location, strings
from phiproxy.sql.text.token_spans import OPEN


@dataclass(frozen=True, slots=True)
class Needed:
    """The spans of queries of WITH, in their order, and whether one may refer to itself."""

    spans: list[tuple[int, int]]
    recursive: bool


def needed(whole: Whole, names: Iterable[str], visible: Sequence[Node], defining: set[str]) -> Needed | None:
    """Return the queries of WITH that these names mean; None where a source may not have them: it may be a second one to do so."""
    wanted, found = set(names), []
    for cte in reversed(visible):
        if cte["ctename"] not in wanted or cte["ctename"] in whole.kept:
            continue
        if cte["ctename"] in defining or "search_clause" in cte or "cycle_clause" in cte:
            return None
        if sum(1 for m in whole.a.whole() if m.get("ctename") == cte["ctename"]) > 1 or is_volatile(whole, cte):
            return None
        wanted |= {m["relname"] for m in bodies(cte["ctequery"], ()) if "relname" in m and "schemaname" not in m} & whole.cte_names
        found.append(cte)
    if wanted - {cte["ctename"] for cte in found} - set(whole.kept):
        return None
    recursive = any(m.get("recursive") for m in whole.a.whole() if "ctes" in m)
    return Needed([_span(whole, cte) for cte in reversed(found)], bool(recursive))


def kept(whole: Whole) -> list[tuple[int, int]]:
    """Return the spans of the queries of WITH that stand before the sources, in their order."""
    return sorted(_span(whole, cte) for cte in whole.kept.values())


def query_span(whole: Whole, cte: Node) -> tuple[int, int]:
    """Return the brackets around a query of WITH, as token indexes."""
    spans = whole.spans
    try:
        i = spans.at(location(cte)) + 1
        if spans.name(i) == OPEN:
            i = spans.partner(i) + 1
        opening = spans.next(i, OPEN)
        return opening, spans.partner(opening)
    except StatementRefused:
        raise Impossible("a query of WITH that is not found") from None


def _span(whole: Whole, cte: Node) -> tuple[int, int]:
    _, closing = query_span(whole, cte)
    return location(cte), whole.spans.tokens[closing].end


def is_volatile(whole: Whole, tree: Node) -> bool:
    """Tell whether something in a tree may give another value each time, or do something."""
    for message in bodies(tree, ()):
        if "funcname" in message:
            functions = whole.verdict.signatures.functions(strings(message["funcname"])[-1])
            if not functions or any(function.volatile == "v" for function in functions):
                return True
        if "lockingClause" in message or "method" in message:
            return True
    return False
