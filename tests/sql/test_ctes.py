"""WITH: what the queries behind see."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, columns, refusal, tag

RECURSIVE = "WITH RECURSIVE r AS (SELECT id, mrn FROM public.patients UNION ALL SELECT p.id, p.mrn FROM public.patients p, r)"


def test_a_recursive_query_has_the_columns_of_its_start() -> None:
    assert columns(RECURSIVE + " SELECT * FROM r") == [None, "mrn"]
    assert ask(RECURSIVE + " SELECT 1 FROM r WHERE mrn = $1").endswith(f"WHERE {tag('mrn')} = $1")


def test_search_and_cycle_add_columns() -> None:
    assert columns(RECURSIVE + " SEARCH DEPTH FIRST BY id SET o CYCLE id SET c USING p SELECT * FROM r") == [
        None,
        "mrn",
        *[None] * 3,
    ]


@pytest.mark.parametrize(
    "statement",
    [
        RECURSIVE.replace("UNION ALL", "UNION") + " SELECT * FROM r",
        RECURSIVE + " CYCLE mrn SET c USING p SELECT * FROM r",
        RECURSIVE.replace("SELECT p.id, p.mrn", "SELECT p.id, p.city") + " SELECT * FROM r",
        "WITH RECURSIVE a AS (SELECT mrn FROM b), b AS (SELECT mrn FROM patients) SELECT * FROM a",
        "WITH RECURSIVE r AS (SELECT mrn FROM r) SELECT * FROM r, patients",
        "WITH RECURSIVE r AS (WITH x AS (SELECT 1) SELECT mrn FROM patients UNION ALL SELECT mrn FROM r) SELECT * FROM r",
    ],
)
def test_refused_with_a_hint(statement: str) -> None:
    refused = refusal(statement)
    assert refused.sqlstate == "0A000"
    assert refused.hint
