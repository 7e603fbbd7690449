"""Where the clauses of a MERGE stand, and which part of its source tells what it matches."""

from __future__ import annotations

import pytest

from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.writes.merge_clauses import Merge, merge_of
from phiproxy.sql.split.writes.merge_source import matching
from phiproxy.sql.split.writes.targets import target_of
from phiproxy.sql.text.parse import parse
from phiproxy.sql.text.token_spans import Spans
from tests.fixtures.model import VIEW, planner

TEXT = """MERGE INTO members AS m USING visits v JOIN log l ON l.id = v.id ON m.mrn = v.mrn
 WHEN MATCHED AND CASE WHEN v.room = 'x' THEN true ELSE m.id > (1) END
 THEN UPDATE SET (email, city) = (upper(m.email), v.room), note = $1
 WHEN NOT MATCHED THEN INSERT (mrn, email) OVERRIDING USER VALUE VALUES (v.mrn, lower($2))
 WHEN MATCHED THEN DELETE WHEN NOT MATCHED BY SOURCE THEN DO NOTHING RETURNING m.id;"""


def _merge(text: str) -> tuple[bytes, Spans, Merge]:
    there, encoded = planner(17), text.encode()
    (statement,) = parse(encoded)
    a = Analysis(encoded, Context(there.protection, there.catalog, VIEW.path, VIEW.database), statement, RULES)
    spans = Spans(a.tokens())
    return encoded, spans, merge_of(statement, spans, target_of(a, statement.body["relation"]))


def test_clauses() -> None:
    text, _, merge = _merge(TEXT)

    def said(span: tuple[int, int] | None) -> str:
        return "" if span is None else text[slice(*span)].decode()

    assert said(merge.relation) == "members AS m"
    assert said(merge.source) == "visits v JOIN log l ON l.id = v.id"
    assert said(merge.condition) == "m.mrn = v.mrn"
    assert said(merge.returning) == "m.id"
    assert [one.command for one in merge.whens] == ["CMD_UPDATE", "CMD_INSERT", "CMD_DELETE", "CMD_NOTHING"]
    update, insert, *_ = merge.whens
    assert said(update.condition) == "CASE WHEN v.room = 'x' THEN true ELSE m.id > (1) END"
    assert [(one.column, said(one.span)) for one in update.values] == [
        ("email", "upper(m.email)"),
        ("city", "v.room"),
        ("note", "$1"),
    ]
    assert [(one.column, said(one.span)) for one in insert.values] == [("mrn", "v.mrn"), ("email", "lower($2)")]
    assert said(insert.into) == "(mrn, email) OVERRIDING USER VALUE"


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        ("(VALUES ($1, f(1, 2), 'c'), ($3, NULL, 'd')) AS s (mrn, email, city)", '(VALUES ($1), ($3)) AS "s" ("mrn")'),
        ("(SELECT $1::text AS mrn, upper($2) email) s", '(VALUES ($1::text)) AS "s" ("mrn")'),
        ("(SELECT 1) s", '(SELECT true) AS "s"'),
        ("(SELECT mrn FROM visits) s", "(SELECT mrn FROM visits) s"),
        ("visits s", "visits s"),
    ],
)
def test_what_tells_the_rows_that_are_matched(source: str, needed: str) -> None:
    on = "m.id = 1" if source == "(SELECT 1) s" else "m.mrn = s.mrn"
    text, spans, merge = _merge(f"MERGE INTO members m USING {source} ON {on} WHEN MATCHED THEN DELETE")
    pieces = matching(spans, merge)
    assert "".join(p if isinstance(p, str) else text[slice(*p)].decode() for p in pieces) == needed
