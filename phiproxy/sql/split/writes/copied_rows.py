"""COPY FROM that leaves out columns with computed DEFAULTs: the engine computes each once, for all rows, before the data comes.

It does what an INSERT of one row does that leaves them out, so that is what the values are asked for by.
"""

from __future__ import annotations

import dataclasses

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.result import Rest, Split, SplitWrite
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.given_defaults import with_defaults
from phiproxy.sql.split.writes.only_defaults import only_defaults
from phiproxy.sql.split.writes.parts_seen_together import answered
from phiproxy.sql.statements.copy import columns_of_data, place_of_columns
from phiproxy.sql.statements.utility import effects
from phiproxy.sql.table_names import meant_relation
from phiproxy.sql.text.parse import Statement, location, parse
from phiproxy.sql.text.token_spans import Spans
from phiproxy.sql.writes.column_defaults import without

_TABLES = "rp"


def copied_rows(statement: Statement, text: bytes, context: Context, refusal: StatementRefused | ValueRefused) -> Split | None:
    """Return how a COPY FROM is split that leaves out columns with computed defaults; None for any other; PathNeeded.

    Its data has no column more: the write gets the computed values behind those of each row.

    COPY tasks (id, ward) FROM STDIN
    → source: SELECT current_date, now()
    → write: COPY tasks (id, ward, task_due, task_text) FROM STDIN
    """
    a = Analysis(text, context, statement, RULES)
    try:
        return _split(a, refusal)
    except (Impossible, StatementRefused):
        return None


def _split(a: Analysis, refusal: StatementRefused | ValueRefused) -> Split | None:
    body, statement = a.statement.body, a.statement
    relation = meant_relation(a, body["relation"])
    if not body.get("is_from") or relation.kind not in _TABLES:
        return None
    given = columns_of_data(a, relation, body)
    computed = [name for name, column in without(a, relation, ()) if column.computed_default is not None]
    names = [name for name in computed if name not in given]
    if not names:
        return None
    spans = Spans([t for t in a.tokens() if statement.start <= t.start < statement.end])
    start, end = place_of_columns(spans, body)
    listed = ", ".join(quote_ident(name, always=True) for name in [*given, *names])
    write = Composed(a.text, spans).add((statement.start, start), f" ({listed})", (end, statement.end))
    copy = answered(a, write.text, ()).answer.copy
    if copy is None or copy.columns[len(given) :] != tuple(names) or not all(copy.reveals[len(given) :]):
        raise Impossible("a computed value would be stored where nothing is protected")
    if any(position >= len(given) for position in copy.form.force_not_null):
        raise Impossible("a computed NULL would be none")
    wanted = {**dict.fromkeys(names, "DEFAULT"), **dict.fromkeys([name for name in computed if name in given], "NULL")}
    values = _values(a, a.text[location(body["relation"]) : start], wanted, refusal)
    return dataclasses.replace(
        values,
        kind="write",
        start=statement.start,
        end=statement.end,
        source_spans=(),
        rest=dataclasses.replace(values.rest, spans=()),
        described=Rest((b"SELECT",)),
        described_columns=(),
        origins=(),
        returns=False,
        write=SplitWrite(write.text, (), (), frozenset(), spans=tuple(write.origins), copied=len(names)),
        effects=effects(statement.kind, body, a.whole(), a.context.catalog.setters),
        plain_select=False,
        refusal=refusal,
    )


def _values(a: Analysis, table: bytes, wanted: dict[str, str], refusal: StatementRefused | ValueRefused) -> Split:
    """Return how the defaults of a row are asked for, in this order; Impossible where each row may have its own.

    ``wanted`` says of all columns that have a computed default whether it is wanted: DEFAULT or NULL. The statement that is asked
    about is ``INSERT INTO tasks (task_due, task_text) VALUES (DEFAULT, NULL)``.
    """
    columns, values = ", ".join(quote_ident(name, always=True) for name in wanted), ", ".join(wanted.values())
    insert = b"INSERT INTO " + table + f" ({columns}) VALUES ({values})".encode()
    count = [*wanted.values()].count("DEFAULT")
    given = with_defaults(parse(insert)[0], insert, a.context)
    split = only_defaults(given, refusal) if given is not None else None
    placed = given.placed(split) if given is not None and split is not None else None
    if placed is None or placed.write is None or placed.write.parameters != tuple(-n for n in range(1, count + 1)):
        raise Impossible("a default of which each row has its own")
    return placed
