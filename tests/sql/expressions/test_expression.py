"""Where a protected column may stand in an expression, and what the server sees of it there."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask, refusal, tag

SELECT = 'SELECT id FROM "public".patients p WHERE '


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("ssn = $1", f"{tag('ssn')} = $1"),
        ("$1 = ssn", f"$1 = {tag('ssn')}"),
        ("p.ssn <> 'x'", f"{tag('p.ssn')} <> $1"),
        ("ssn != $1::text", f"{tag('ssn')} != $1"),
        ("ssn IN ($1, 'a', NULL)", f"{tag('ssn')} IN ($1, $2, NULL::bytea)"),
        ("ssn NOT IN ('a', 'a')", f"{tag('ssn')} NOT IN ($1, $1)"),
        ("ssn IS DISTINCT FROM $1", f"{tag('ssn')} IS DISTINCT FROM $1"),
        ("ssn IS NOT DISTINCT FROM NULL", f"{tag('ssn')} IS NOT DISTINCT FROM NULL::bytea"),
        ("ssn IS NULL AND notes IS NOT NULL", "ssn IS NULL AND notes IS NOT NULL"),
        ("ssn::text IS NULL", "ssn IS NULL"),
        ("ssn OPERATOR(pg_catalog.=) 'x'", f"{tag('ssn')} OPERATOR(pg_catalog.=) $1"),
        ("NOT (ssn = 'x' OR full_name = 'y')", f"NOT ({tag('ssn')} = $1 OR {tag('full_name')} = $2)"),
        ("(ssn = 'x') = (city = 'Rome')", f"({tag('ssn')} = $1) = (city = 'Rome')"),
        ("CASE WHEN ssn = 'x' THEN true ELSE false END", f"CASE WHEN {tag('ssn')} = $1 THEN true ELSE false END"),
        ("($1::text IS NULL OR ssn = $1)", f"($1 IS NULL OR {tag('ssn')} = $2)"),
        ('"ssn" = $1', tag('"ssn"') + " = $1"),
        ("p . ssn = $1", f"{tag('p . ssn')} = $1"),
        ("CAST(ssn AS varchar) = $1", f"({tag('ssn')} ) = $1"),
    ],
)
def test_a_comparison_with_values_is_one_of_tags(client: str, server: str) -> None:
    assert ask(SELECT + client) == SELECT + server


@pytest.mark.parametrize(
    "client",
    [
        "lower(ssn) = 'x'",
        "ssn || 'x' = 'y'",
        "ssn LIKE 'x%'",
        "ssn ILIKE 'x'",
        "ssn SIMILAR TO 'x'",
        "ssn ~ 'x'",
        "ssn < 'x'",
        "ssn BETWEEN 'a' AND 'b'",
        "ssn = N'x'",
        "ssn = 'a' || city",
        "ssn::varchar(3) = 'x'",
        "ssn::int = 5",
        "ssn = city",
        "ssn = full_name",
        "ssn IN ('x', city)",
        "GREATEST(ssn, 'x') = 'y'",
        "ssn OPERATOR(public.=) 'x'",
        "ARRAY[ssn] = ARRAY['x']",
        "length(ssn) = 3",
        "p = p",
        "ssn(p) = 'x'",
        "row_to_json(p) IS NULL",
        "(SELECT string_agg(ssn, ',') FROM patients) = 'x'",
        "ssn = 'x' AND city = 'x'",
        "ssn = $1 AND city = $1",
        "ssn = $1 AND $1 || 'x' = city",
        "xmlparse(document ssn) IS NULL",
        "read_ssn(1) = 'x'",
        "run_sql('select ssn from patients') = 'x'",
        "'x'::patients IS NULL",
        "notes = 'x'",
    ],
)
def test_an_expression_over_an_envelope_is_refused(client: str) -> None:
    assert ask(SELECT + client) == "0A000"


def test_a_missing_index_names_the_line_to_add() -> None:
    error = refusal(SELECT + "notes = 'x'")
    assert "`notes`" in (error.hint or "")
    assert error.position == len(SELECT) + 1


@pytest.mark.parametrize(("client", "state"), [("ssn = 5", "42883"), ("ssn = $1::int", "42883"), ("ssn 'x'", "42704")])
def test_what_postgresql_itself_refuses_has_its_sqlstate(client: str, state: str) -> None:
    assert ask(SELECT + client) == state


def test_refusals_hold_no_literal() -> None:
    for client in ("ssn LIKE '123-45%'", "ssn = '123-45' AND city = '123-45'", "ssn = '123-' || city"):
        error = refusal(SELECT + client)
        assert "123" not in f"{error.public_text} {error.hint}"


def test_the_empty_string_taints_nothing() -> None:
    assert ask(SELECT + "ssn = '' AND city = ''") == SELECT + f"{tag('ssn')} = $1 AND city = ''"


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("count(ssn)", "count(ssn)"),
        ("count(*) FILTER (WHERE ssn = 'x')", f"count(*) FILTER (WHERE {tag('ssn')} = $1)"),
        ("bool_or(ssn = 'x')", f"bool_or({tag('ssn')} = $1)"),
        ("count(*) OVER (PARTITION BY city)", "count(*) OVER (PARTITION BY city)"),
    ],
)
def test_aggregates_see_tags_in_conditions_and_envelopes_in_count(client: str, server: str) -> None:
    assert ask(f'SELECT {client} FROM "public".patients') == f'SELECT {server} FROM "public".patients'
