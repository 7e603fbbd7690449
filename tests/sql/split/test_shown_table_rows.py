"""Rows of tables as outputs: of which type the client is told."""

from __future__ import annotations

import pytest

from phiproxy.sql.result import Origin, Split
from tests.fixtures.model import planner
from tests.sql.split.ask import split_of

CATALOG = planner(15).catalog
ROW = CATALOG.by_name["public", "patients"]


def row_types(split: Split) -> dict[str, int]:
    return {one.name: one.oid for one in split.row_types}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT p FROM patients p",
        "SELECT p AS p FROM patients p ORDER BY p.full_name",
        "SELECT patients, upper(ssn) FROM public.patients",
        "SELECT p FROM visits v LEFT JOIN patients p ON p.id = v.patient_id",
    ],
)
def test_the_type_of_its_table(statement: str) -> None:
    split = split_of(statement)
    assert split is not None
    assert split.origins[0] == Origin(ROW.oid, 0, ROW.row_type)


@pytest.mark.parametrize("statement", ["SELECT p::text FROM patients p", "SELECT upper(ssn) AS p FROM patients p ORDER BY p"])
def test_no_row(statement: str) -> None:
    split = split_of(statement)
    assert split is not None
    assert split.origins == (None,)


@pytest.mark.parametrize(
    ("statement", "origin"),
    [
        ("SELECT p FROM patients p UNION ALL SELECT p FROM patients p", None),
        ("SELECT (SELECT p) FROM patients p", None),
        ("SELECT q.p FROM (SELECT p FROM patients p) q", Origin(ROW.oid, 0)),
        ("SELECT r.x FROM (SELECT q.p AS x FROM (SELECT p FROM patients p) q) r", Origin(ROW.oid, 0)),
        ("WITH c AS (SELECT p FROM patients p) SELECT c.p FROM c", Origin(ROW.oid, 0)),
        ("SELECT (q.p).ssn FROM (SELECT p FROM patients p) q", None),
        ("SELECT q.ssn FROM (SELECT ssn(p), upper(ssn) FROM patients p) q", Origin(ROW.oid, 3)),
    ],
)
def test_a_row_that_is_a_column_of_a_query(statement: str, origin: Origin | None) -> None:
    split = split_of(statement)
    assert split is not None
    assert split.origins == (origin,)
    assert row_types(split) == {"patients": ROW.row_type}


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("SELECT array_agg(n), upper(max(n.full_name)) FROM patient_names n", ["patient_names"]),
        ("SELECT q.n FROM (SELECT n, upper(full_name) FROM patient_names n) q", ["patient_names"]),
        ("SELECT q.l FROM (SELECT l, upper(p.ssn) FROM log l, patients p) q", ["log"]),
        ("SELECT q.p::patients FROM (SELECT p FROM patients p) q", ["patients"]),
        ("SELECT NULL::log, p::public.patients, upper(p.ssn) FROM patients p", ["log", "patients"]),
        ("SELECT upper(ssn), '{}'::log[] FROM patients", ["log"]),
    ],
)
def test_rows_of_views_and_tables_of_which_the_engine_must_have_the_type(statement: str, names: list[str]) -> None:
    split = split_of(statement)
    assert split is not None
    assert row_types(split) == {name: CATALOG.by_name["public", name].row_type for name in names}


def test_the_columns_of_a_row_are_as_clients_see_them() -> None:
    split = split_of("SELECT array_agg(x), upper(max(x.b)) FROM patient_names x (a, b)")
    assert split is not None
    ((*_, columns),) = split.row_types
    assert [(name, one.type.name) for name, one in columns] == [("id", "int4"), ("full_name", "text")]


@pytest.mark.parametrize("row", ["v", "row_to_json(v)", "count(v)", "(v).room"])
def test_a_column_that_the_server_computes_is_none_of_the_row(row: str) -> None:
    assert split_of(f"SELECT {row}, upper(max(diagnosis)), random() FROM visits v GROUP BY v") is None
    assert split_of(f"SELECT {row.replace('count(v)', 'v::text')}, diagnosis || random() FROM visits v") is None


@pytest.mark.parametrize(
    ("statement", "typed"),
    [
        ("SELECT coalesce(p, p) FROM patients p", True),
        ("SELECT p = ROW(1, 2), upper(ssn) FROM patients p", True),
        ("SELECT upper(ssn) AS p, array_agg(p) FROM patients p GROUP BY 1", True),
        ("SELECT upper(ssn(p)) FROM patients p", True),
        ("SELECT p, upper(ssn) FROM patients p", False),
        ("SELECT row_to_json(p), p IS NULL, p::text FROM patients p", False),
    ],
)
def test_a_row_that_has_the_type_of_its_table(statement: str, typed: bool) -> None:
    split = split_of(statement)
    assert split is not None
    assert row_types(split) == ({"patients": ROW.row_type} if typed else {})
    assert all((b'AS "public"."patients") FROM ' in rest.parts[0]) == typed for rest in (split.rest, split.described))


def test_a_column_that_is_selected_of_a_row() -> None:
    split = split_of("SELECT ssn(p), city(p), upper(ssn(p)) FROM patients p")
    assert split is not None
    numbers = {column.name: column.attnum for column in ROW.columns}
    assert split.origins == (Origin(ROW.oid, numbers["ssn"]), Origin(ROW.oid, numbers["city"]), None)
