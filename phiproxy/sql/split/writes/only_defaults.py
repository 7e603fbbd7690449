"""Statements of which only computed DEFAULTs are left to the engine: it computes each once, and the server does all else."""

from __future__ import annotations

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.assigned_values import written
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.composition import Parts, Stored, composition
from phiproxy.sql.split.writes.described import described, described_around
from phiproxy.sql.split.writes.given_defaults import WithDefaults
from phiproxy.sql.split.writes.inner_write import all_writes
from phiproxy.sql.split.writes.parts_seen_together import answered, check_whatever_is_given
from phiproxy.sql.split.writes.targets import Target
from phiproxy.sql.text.parse import messages
from phiproxy.sql.text.token_spans import Spans

_WRITES = ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt")


def only_defaults(given: WithDefaults, refusal: StatementRefused | ValueRefused) -> Split | None:
    """Return how a statement is split that the server answers with parameters for its defaults; None for any other.

    INSERT INTO tasks (id, task_text) SELECT id, 'x' FROM visits
    → source: SELECT current_date
    → rest: SELECT q.q1 FROM (SELECT ((SELECT s.c1 AS current_date FROM {} AS s) + 30)) AS q (q1)
    → write: INSERT INTO tasks (id, task_text, task_due) SELECT id, 'x', $1 FROM visits
    """
    a = Analysis(given.text, given.context, given.statement, RULES)
    try:
        return _split(a, Spans(a.tokens()), given, refusal)
    except (Impossible, StatementRefused, RecursionError):
        return None


def _split(a: Analysis, spans: Spans, given: WithDefaults, refusal: StatementRefused | ValueRefused) -> Split:
    select, changed = Composed(a.text, spans).add("SELECT "), Composed(a.text, spans)
    at, stored, numbers = a.statement.start, list[Stored](), dict[object, int]()
    for span, column in zip(a.context.default_spans, given.columns, strict=True):
        key = column.number, column.name, a.text[slice(*span)]
        if key not in numbers:
            numbers[key] = len(numbers) + 1
            select.add(", " if len(numbers) > 1 else "", span)
            stored.append(Stored(column.type.underlying.unlimited))
        changed.add((at, span[0]), changed.parameter(-numbers[key]))
        at = span[1]
    changed.add((at, a.statement.end))
    declared = [0 if n > 0 else stored[-n - 1].type.oid for n in changed.parameters]
    check_whatever_is_given(answered(a, changed.text, changed.parameters, declared))
    told, targets, returns = _told(a, spans)
    return composition(a, Parts(select, stored, changed, told, targets, returns=returns), refusal)


def _told(a: Analysis, spans: Spans) -> tuple[Composed, list[Target], bool]:
    """Return what is described of the statement, what it writes to, and whether it returns rows."""
    if a.statement.kind == "SelectStmt":
        return described_around(a, spans, all_writes(a, spans)), [], True
    write = written(a, spans)
    inner = any(kind in message for message in messages(write.body.get("withClause", {})) for kind in _WRITES)
    told = described_around(a, spans, all_writes(a, spans)) if inner else described(a.text, spans, write)
    return told, [write.target], write.clauses.returning is not None
