"""What tells the rows of tables and views: of a view the primary key of its table, where the view has it."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.writes.row_keys import base_of, row_keys
from phiproxy.sql.split.writes.targets import Target, target_of
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import VIEW, planner

SPRINGFIELD = 111
AS_IT_IS = "SELECT patients.id, patients.ssn AS social, patients.city FROM public.patients WHERE patients.city = 'x'::text;"


def target(query: str, relation: str = "springfield") -> tuple[Analysis, Target]:
    there = planner()
    catalog = dataclasses.replace(there.catalog, views={**there.catalog.views, SPRINGFIELD: query})
    text = f"DELETE FROM {relation}".encode()
    (statement,) = parse(text)
    a = Analysis(text, Context(there.protection, catalog, VIEW.path, VIEW.database), statement, RULES)
    return a, target_of(a, statement.body["relation"])


def test_rows_of_a_table_are_told_by_where_they_are_stored() -> None:
    keys = row_keys(*target(AS_IT_IS, "patients AS p"))
    assert [key.given for key in keys] == ['"p".ctid::text', '"p".tableoid::text']
    assert [key.cast for key in keys] == ["::tid", "::oid"]


def test_rows_of_a_view_are_told_by_the_primary_key() -> None:
    (key,) = row_keys(*target(AS_IT_IS))
    assert (key.given, key.cast, key.type.name) == ('"springfield"."id"', "", "int4")
    a, view = target(AS_IT_IS)
    assert base_of(a, view.relation)[1] == {"id": "id", "social": "ssn", "city": "city"}


@pytest.mark.parametrize(
    "query",
    [
        AS_IT_IS.replace("patients.id,", "(patients.id + 1) AS id,"),
        AS_IT_IS.replace("patients.id,", "patients.visits_count AS id,"),
    ],
)
def test_a_view_without_the_key_is_refused_with_a_hint(query: str) -> None:
    with pytest.raises(RefusedWithHint) as refused:
        row_keys(*target(query))
    assert "primary key" in refused.value.hint


def test_rows_of_a_view_over_a_view_are_told_by_the_primary_key() -> None:
    a, view = target("SELECT n.id, n.full_name AS social, n.id AS city FROM public.patient_names n;")
    table, columns = base_of(a, view.relation)
    assert (table.name, columns["id"], columns["social"]) == ("patients", "id", "full_name")


@pytest.mark.parametrize(
    "query",
    [
        "",
        AS_IT_IS.replace("SELECT ", "SELECT DISTINCT "),
        AS_IT_IS.replace(";", " LIMIT 3;"),
        AS_IT_IS.replace("public.patients", "public.patients, public.visits"),
        AS_IT_IS.replace("public.patients", "public.city_of patients"),
        f"{AS_IT_IS[:-1]} UNION ALL {AS_IT_IS}",
        AS_IT_IS.replace(", patients.city FROM", " FROM"),
    ],
)
def test_another_view(query: str) -> None:
    with pytest.raises(Impossible):
        row_keys(*target(query))
