"""What may be counted, and what no function is given."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, tag


@pytest.mark.parametrize(
    ("call", "server"),
    [
        ("count(ssn)", "count(ssn)"),
        ("count(ssn::text) FILTER (WHERE ssn = 'x')", f"count(ssn) FILTER (WHERE {tag('ssn')} = $1)"),
        ("count(DISTINCT ssn)", f"count(DISTINCT {tag('ssn')})"),
        ("pg_catalog.count(DISTINCT (ssn, city))", f"pg_catalog.count(DISTINCT ({tag('ssn')}, city))"),
        ("count(*) OVER (PARTITION BY ssn ORDER BY id)", f"count(*) OVER (PARTITION BY {tag('ssn')} ORDER BY id)"),
        ("bool_or(ssn = 'x')", f"bool_or({tag('ssn')} = $1)"),
        ("count('x')", "count('x')"),
    ],
)
def test_what_is_counted_may_be_protected(call: str, server: str) -> None:
    assert ask(f"SELECT {call} FROM public.patients") == f"SELECT {server} FROM public.patients"


@pytest.mark.parametrize(
    "call",
    ["upper(ssn)", "max(ssn)", "array_agg(ssn)", "count(id ORDER BY ssn)", "rank() OVER (ORDER BY ssn)", "count(DISTINCT notes)"],
)
def test_no_other_function_takes_what_is_protected(call: str) -> None:
    assert ask(f"SELECT {call} FROM patients") == "0A000"
