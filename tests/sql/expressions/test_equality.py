"""Equality in all its spellings."""

from __future__ import annotations

import pytest

from tests.fixtures.model import VIEW as FIXTURES_VIEW
from tests.fixtures.model import planner as fixtures_planner
from tests.sql.ask import ask, refusal, tag

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
def test_each_spelling_of_equality_compares_tags(client: str, server: str) -> None:
    assert ask(SELECT + client) in (SELECT + server, "=" if client == server else "")


@pytest.mark.parametrize("client", ["$1 IN (bed, $1)", "'7' IN (bed, $1, NULL)", "$1 IN (word, 'x'::char(3))"])
def test_a_value_in_a_list_of_columns_and_values(client: str) -> None:
    refused = refusal(f"SELECT id FROM stays WHERE {client}", FIXTURES_VIEW, fixtures_planner())
    assert (refused.sqlstate, bool(refused.hint)) == ("0A000", True)


def test_a_text_in_a_list_of_columns_and_texts() -> None:
    assert ask(SELECT + "'x' IN (ssn, $1, NULL)") == SELECT + f"$2 IN ({tag('ssn')}, $1, NULL::bytea)"
