"""Equality in all its spellings."""

from __future__ import annotations

import pytest

from tests.fixtures.model import VIEW as FIXTURES_VIEW
from tests.fixtures.model import planner as fixtures_planner
from tests.sql.ask import PLANNER, VIEW, ask, refusal, tag

SELECT = 'SELECT id FROM "public".patients WHERE '
SSN, MRN = tag("ssn"), tag("mrn")


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("(ssn, city) = ($1, 'a')", f"({SSN}, city) = ($1, 'a')"),
        ("(city, ssn) IN (('a', 'b'), ('c', NULL))", f"(city, {SSN}) IN (('a', $1), ('c', NULL::bytea))"),
        ("CASE ssn WHEN 'a' THEN true WHEN $1 THEN false END", f"CASE {SSN} WHEN $2 THEN true WHEN $1 THEN false END"),
        ("ssn = ANY (ARRAY['a', $1]::text[])", f"{SSN} = ANY (ARRAY[$2, $1]::bytea[])"),
        ("ssn = ALL ('{a}')", f"{SSN} = ALL ($1)"),
        ("nullif(ssn, '') IS NULL", f"nullif({SSN}, $1) IS NULL"),
        ("coalesce(ssn, notes, full_name) IS NULL", "coalesce(ssn, notes, full_name) IS NULL"),
        ("coalesce(ssn, 'x') IS NULL", f"coalesce({SSN}, $1) IS NULL"),
        ("'x' = 'y' OR $1::text = 'z'", "'x' = 'y' OR $1::text = 'z'"),
        ("$1 = '' OR $1 = ssn", f"$1 = $2 OR $1 = {SSN}"),
        ("city = ANY (ARRAY['a']::text[])", "city = ANY (ARRAY['a']::text[])"),
        ("(SELECT true) AND ssn = 'x'", f"(SELECT true) AND {SSN} = $1"),
    ],
)
def test_rewritten(client: str, server: str) -> None:
    assert ask(SELECT + client) in (SELECT + server, "=" if client == server else "")


@pytest.mark.parametrize(
    "client",
    [
        "(ssn, city) < ('a', 'b')",
        "(ssn, city) = (SELECT city, city FROM patients)",
        "ssn = ANY (ARRAY[city])",
        "ssn = ANY (string_to_array($1, ','))",
        "CASE ssn WHEN city THEN true END",
        "$1 = city OR $1 = ssn",
        "ssn > ANY (SELECT ssn FROM patients)",
        "nullif(ssn, full_name) IS NULL",
    ],
)
def test_refused(client: str) -> None:
    assert ask(SELECT + client) == "0A000"


@pytest.mark.parametrize(
    ("client", "hint"),
    [
        ("full_name LIKE 'a%'", "left(full_name,1)"),
        ("full_name ILIKE 'a%'", "lower(full_name)"),
        ("ssn < 'a'", "no order"),
        ("ssn BETWEEN 'a' AND 'b'", "no order"),
        ("ssn || 'x' = 'y'", "in the client"),
        ("upper(ssn) = 'X'", "Add `upper(ssn)` to the indexes"),
        ("(SELECT max(ssn) FROM patients) = 'x'", "no order"),
        ("(SELECT array_agg(ssn) FROM patients) IS NULL", "in the client"),
        ("ssn ~ 'x'", "a prefix ('^abc')"),
    ],
)
def test_a_refusal_says_what_would_work(client: str, hint: str) -> None:
    refused = refusal(SELECT + client)
    assert hint in (refused.hint or "")
    assert refused.position is not None


@pytest.mark.parametrize(
    ("client", "planned"),
    [
        ("SELECT CASE WHEN true THEN mrn END FROM patients", "varchar(12)"),
        ("SELECT CASE WHEN false THEN 'x' ELSE mrn END FROM patients", "varchar(12)"),
        ("SELECT CASE WHEN id > 1 THEN mrn WHEN true THEN mrn ELSE 'x' END FROM patients", "varchar(12)"),
        ("SELECT CASE WHEN false THEN mrn WHEN id > 1 THEN mrn END FROM patients", "varchar"),
        ("SELECT CASE WHEN id > 1 THEN mrn ELSE 'x' END FROM patients", None),
    ],
)
def test_constants_among_the_conditions_of_case_decide_the_type_once_it_is_planned(client: str, planned: str | None) -> None:
    found = PLANNER.statement(client.encode(), (), VIEW).columns
    assert found is not None
    (reveal,) = found.reveals
    assert reveal is not None
    assert (reveal.planned.name if reveal.planned is not None else None) == planned


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("ssn = NULL", f"{tag('ssn')} = NULL"),
        ("NULL = ssn", f"NULL = {tag('ssn')}"),
        ("ssn <> NULL", f"{tag('ssn')} <> NULL::bytea"),
        ("ssn OPERATOR(pg_catalog.=) NULL", f"{tag('ssn')} OPERATOR(pg_catalog.=) NULL::bytea"),
        ("ssn = NULL::text", f"{tag('ssn')} = NULL::bytea"),
        ("ssn IN (NULL, 'x')", f"{tag('ssn')} IN (NULL::bytea, $1)"),
    ],
)
def test_a_null_beside_an_equals_sign_is_left_to_transform_null_equals(client: str, server: str) -> None:
    assert ask(SELECT + client) == SELECT + server


@pytest.mark.parametrize("client", ["$1 IN (bed, $1)", "'7' IN (bed, $1, NULL)", "$1 IN (word, 'x'::char(3))"])
def test_a_value_in_a_list_of_columns_and_values(client: str) -> None:
    refused = refusal(f"SELECT id FROM stays WHERE {client}", FIXTURES_VIEW, fixtures_planner())
    assert (refused.sqlstate, bool(refused.hint)) == ("0A000", True)


def test_a_text_in_a_list_of_columns_and_texts() -> None:
    assert ask(SELECT + "'x' IN (ssn, $1, NULL)") == SELECT + f"$2 IN ({tag('ssn')}, $1, NULL::bytea)"


def test_case_compares_a_literal_without_a_type_as_a_text() -> None:
    assert ask(SELECT + "CASE 'x' WHEN ssn THEN true END") == SELECT + f"CASE $1 WHEN {tag('ssn')} THEN true END"
