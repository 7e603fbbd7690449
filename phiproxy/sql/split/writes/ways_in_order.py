"""Splits a write that the server cannot answer: what it stores is computed by the engine, and stored by a write of its own.

All parts go through the analysis like statements of a client: so values are sealed, tags made and constraints checked as ever, and
nothing may flow where it may not. What only all parts together show is in ``parts_seen_together``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.result import Split, Waiting
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.writes.assigned_values import Written, written
from phiproxy.sql.split.writes.clear_leaves import LeafMoved
from phiproxy.sql.split.writes.computed_proposals import computed_proposals
from phiproxy.sql.split.writes.computed_returning import computed_returning
from phiproxy.sql.split.writes.computed_values import computed_values
from phiproxy.sql.split.writes.conflicts import computed_conflicts
from phiproxy.sql.split.writes.conflicts_of_query import computed_query_conflicts
from phiproxy.sql.split.writes.decided_branches import decided_branches
from phiproxy.sql.split.writes.drawn import is_drawn
from phiproxy.sql.split.writes.drawn_merge import drawn_merge
from phiproxy.sql.split.writes.drawn_order import ASKED_FIRST
from phiproxy.sql.split.writes.inserted_from_write import inserted_from_write
from phiproxy.sql.split.writes.inserted_rows import inserted_rows
from phiproxy.sql.split.writes.merged_returning import computed_merge_returning
from phiproxy.sql.split.writes.merged_rows import merged_rows
from phiproxy.sql.split.writes.read_beside import computed_beside_tables
from phiproxy.sql.split.writes.row_by_row import check_row_by_row
from phiproxy.sql.split.writes.updated_and_deleted_rows import computed_rows
from phiproxy.sql.split.writes.values_in_with import computed_values_in_with
from phiproxy.sql.split.writes.with_write import computed_around_writes, computed_over_write, computed_write
from phiproxy.sql.text.parse import Statement
from phiproxy.sql.text.token_spans import Spans

# The first that is possible is taken: those before lock fewer rows, or none.
_Way = Callable[[Analysis, Spans, StatementRefused | ValueRefused], Split]
_IN_WITH: tuple[_Way, ...] = (
    computed_over_write,
    computed_around_writes,
    computed_values_in_with,
    computed_write,
    computed_beside_tables,
    inserted_from_write,
)
_IN_PLACE = (
    "What is sealed in a document may not come to where the document is in clear, nor into a key. jsonb_set of a constant path, "
    "jsonb_build_object of constant names, ||, - and #- keep fields in place; a cast to text says that a value has no keys."
)
_WAYS: tuple[Callable[[Analysis, Spans, Written, StatementRefused | ValueRefused], Split], ...] = (
    computed_values,
    computed_returning,
    computed_rows,
    computed_conflicts,
    computed_proposals,
    computed_query_conflicts,
    inserted_rows,
    decided_branches,
)


def split_write(
    statement: Statement,
    text: bytes,
    context: Context,
    refusal: StatementRefused | ValueRefused,
    waiting: Waiting | None = None,
) -> Split | None:
    """Return how a refused INSERT, UPDATE, DELETE or MERGE is split, or None where that is not possible; PathNeeded, CatalogNeeded.

    ``waiting``: the values for which no index answers what it answers for others. What they stand in is decided by the engine.
    """
    if not _is_row_by_row(statement, context):
        return None
    if statement.kind == "MergeStmt":
        merges = (partial(computed_merge_returning, waiting=waiting), partial(merged_rows, waiting=waiting), drawn_merge)
        return _first(merges, statement, text, context, refusal)
    if statement.kind not in ("DeleteStmt", "InsertStmt", "UpdateStmt"):
        return None
    own = told = refusal.hint
    for way in _WAYS:
        a = Analysis(text, context, statement, RULES)
        try:
            spans = Spans(a.tokens())
            result = way(a, spans, written(a, spans, waiting), refusal)
        except LeafMoved:
            refusal.hint = _IN_PLACE
            return None
        except RefusedWithHint as impossible:
            told = impossible.hint
            continue
        except (Impossible, StatementRefused, RecursionError):
            continue
        if result.waiting == waiting:
            return result
    refusal.hint = told if told != own or not is_drawn(statement.body) else ASKED_FIRST
    return _first(_IN_WITH, statement, text, context, refusal) if waiting is None else None


def split_with_write(statement: Statement, text: bytes, context: Context, refusal: StatementRefused | ValueRefused) -> Split | None:
    """Return how a refused SELECT with a write in its WITH is split, or None where that is not possible."""
    return _first(_IN_WITH, statement, text, context, refusal) if _is_row_by_row(statement, context) else None


def _is_row_by_row(statement: Statement, context: Context) -> bool:
    if context.catalog.signatures is None:
        return False
    try:
        check_row_by_row(statement, context.catalog.signatures)
    except Impossible:
        return False
    return True


def _first(
    ways: Sequence[_Way], statement: Statement, text: bytes, context: Context, refusal: StatementRefused | ValueRefused
) -> Split | None:
    told = refusal.hint
    for way in ways:
        a = Analysis(text, context, statement, RULES)
        try:
            return way(a, Spans(a.tokens()), refusal)
        except LeafMoved:
            refusal.hint = _IN_PLACE
            return None
        except RefusedWithHint as impossible:
            told = impossible.hint
        except (Impossible, StatementRefused, RecursionError):
            continue
    refusal.hint = told
    return None
