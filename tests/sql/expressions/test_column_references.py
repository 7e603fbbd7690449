"""References to columns of a join that was given another form get another name; of all others they stay as they are.

Columns that a query computes and names like protected ones: no text is sent to be compared with them.
"""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, tag
from tests.sql.queries.test_views import ask as ask_view
from tests.sql.queries.test_views import planner

MRN = tag('"p"."mrn"') + " = " + tag('"v"."mrn"')


@pytest.mark.parametrize(
    ("selected", "spelled"),
    [("mrn", '"p"."mrn"'), ("p.mrn", "p.mrn"), ("id", None), ("v.diagnosis", "v.diagnosis")],
)
def test_a_merged_column_is_named_by_its_source(selected: str, spelled: str | None) -> None:
    answer = ask(f"SELECT {selected} FROM public.patients p JOIN public.visits v USING (mrn)")
    expected = f"SELECT {spelled} FROM public.patients p JOIN public.visits v ON {MRN}"
    assert answer == (expected if spelled is not None else "42702")


VIEW = planner("SELECT p.id, (p.ssn IS NULL) AS ssn, p.city FROM public.patients p;", "id", "ssn", "city", booleans=("ssn",))
QUERIES = ("v", "(SELECT id, ssn IS NULL AS ssn, city FROM public.patients) v", "(SELECT * FROM v LIMIT 3) v")
MEANT = (
    "ssn = '078-05-1120'",
    "'078-05-1120' = v.ssn",
    "ssn IN (true, '078-05-1120')",
    "ssn = ANY ('{078-05-1120}')",
    "ssn IS DISTINCT FROM $1",
    "(id, ssn) = (1, '078-05-1120')",
    "CASE ssn WHEN '078-05-1120' THEN true END",
    "ssn > '078-05-1120'",
    "COALESCE(ssn, false) = '078-05-1120'",
)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("condition", MEANT)
def test_a_text_is_not_sent(query: str, condition: str) -> None:
    # PostgreSQL itself would not compare some of these with a truth value.
    assert ask_view(VIEW, f"SELECT id FROM {query} WHERE {condition}") in ("0A000", "42804", "42883")


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(
    "condition", ["ssn", "NOT ssn", "ssn = true", "ssn = $1::bool", "v.ssn IS NULL", "city = 'x'", "ssn = (id > 3)"]
)
def test_what_is_meant_is_asked(query: str, condition: str) -> None:
    assert ask_view(VIEW, f"SELECT id FROM {query} WHERE {condition}").endswith(f"WHERE {condition}")


def test_a_column_of_a_table_is_what_it_is() -> None:
    text = "SELECT q.id FROM (SELECT id, city AS ssn FROM public.patients) q WHERE q.ssn = 'Springfield'"
    assert ask_view(VIEW, text).endswith("WHERE q.ssn = 'Springfield'")
