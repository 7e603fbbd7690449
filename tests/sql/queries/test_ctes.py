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


def test_with_recursive_sees_what_stands_behind() -> None:
    client = "WITH RECURSIVE a AS (SELECT mrn FROM b), b AS (SELECT mrn FROM public.patients) SELECT mrn FROM a WHERE mrn = $1"
    assert ask(client) == client.replace("mrn = $1", f"{tag('mrn')} = $1")


def test_with_inside_of_a_recursive_query_is_seen_by_start_and_step() -> None:
    inside = (
        "WITH s AS (SELECT id, mrn FROM public.patients) SELECT id, mrn FROM s UNION ALL SELECT s.id, s.mrn FROM s JOIN r ON true"
    )
    assert columns(f"WITH RECURSIVE r AS ({inside}) SELECT * FROM r") == [None, "mrn"]


@pytest.mark.parametrize(
    "statement",
    [
        RECURSIVE.replace("UNION ALL", "UNION") + " SELECT * FROM r",  # the catalogue of these tests has no keys
        RECURSIVE + " CYCLE mrn SET c USING p SELECT * FROM r",
        RECURSIVE.replace("SELECT p.id, p.mrn", "SELECT p.id, p.city") + " SELECT * FROM r",
        "WITH RECURSIVE a AS (SELECT mrn FROM patients UNION ALL SELECT mrn FROM b), b AS (SELECT mrn FROM a) SELECT * FROM a",
        "WITH RECURSIVE r AS (SELECT mrn FROM r) SELECT * FROM r, patients",
        "WITH RECURSIVE r AS (WITH x AS (SELECT mrn FROM r) SELECT mrn FROM patients UNION ALL SELECT mrn FROM x) SELECT * FROM r",
    ],
)
def test_refused_with_a_hint(statement: str) -> None:
    refused = refusal(statement)
    assert refused.sqlstate == "0A000"
    assert refused.hint
