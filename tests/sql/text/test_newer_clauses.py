"""Clauses of MERGE that older servers do not read are refused as these do."""

from __future__ import annotations

import pytest

from phiproxy.errors import SyntaxRefused
from phiproxy.sql.text.newer_clauses import check_clauses
from phiproxy.sql.text.parse import Scan, parse

MERGE = "MERGE INTO m USING v ON v.id = m.id "


def check(text: str, version: int) -> None:
    check_clauses(Scan(text.encode()), parse(text.encode()), version)


@pytest.mark.parametrize(("text", "word"), [
    (MERGE + "WHEN NOT MATCHED BY SOURCE THEN DELETE", "BY"),
    (MERGE + "WHEN NOT MATCHED /* é */ by TARGET THEN DO NOTHING", "by"),
    (MERGE + "WHEN MATCHED THEN DELETE RETURNING m.id", "RETURNING"),
    ("SELECT 1; EXPLAIN " + MERGE + "WHEN MATCHED THEN DELETE RETURNING m.id", "RETURNING"),
])  # fmt: skip
def test_a_clause_of_newer_servers(text: str, word: str) -> None:
    with pytest.raises(SyntaxRefused, match=f'syntax error at or near "{word}"') as refused:
        check(text, 160000)
    assert refused.value.position == text.index(f" {word} ") + 2
    check(text, 170000)


@pytest.mark.parametrize("text", [
    MERGE + "WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "SELECT NOT matched by FROM t",
    "UPDATE t SET id = 1 RETURNING id",
])  # fmt: skip
def test_what_is_no_such_clause(text: str) -> None:
    check(text, 150000)
