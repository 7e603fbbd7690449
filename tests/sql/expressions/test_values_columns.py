"""Columns of given values: who uses them decides, and salts stay with their rows."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.column_types import builtin
from phiproxy.sql.values.uses import Plain, Store
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import PLANNER, VIEW, ask
from tests.sql.writes.test_assignment import rows


def test_what_a_row_of_values_holds_is_sealed_together() -> None:
    one, two, three, four = rows("UPDATE patients SET ssn = v.a, notes = v.b FROM (VALUES ($1, $2), ($3, $4)) v (a, b)")
    assert one == two != three == four


def test_values_that_are_used_in_two_places_are_sealed_each_by_itself() -> None:
    twice = "WITH v (a, b) AS (VALUES ($1, $2)) INSERT INTO patients (ssn, notes) SELECT one.a, two.b FROM v one, v two"
    assert len(set(rows(twice))) == 2
    apart = "WITH v (a, b) AS (VALUES ($1, $2)), u AS (UPDATE patients SET ssn = a FROM v) UPDATE patients SET notes = b FROM v"
    assert len(set(rows(apart))) == 2


def test_nested_ctes_refer_once() -> None:
    one, two = rows(
        "WITH v (a, b) AS (VALUES ($1, $2)), w AS (SELECT * FROM v) INSERT INTO patients (ssn, notes) SELECT a, b FROM w"
    )
    assert one == two


def test_what_nobody_stores_is_sent_as_it_is() -> None:
    plan = PLANNER.statement(b"SELECT v.a, p.ssn FROM (VALUES ($1)) v (a), patients p WHERE p.ssn = $2", (), VIEW)
    assert [type(use) is Plain for use, _, _ in plan.outputs] == [True, False]


def test_union_all_is_one_column() -> None:
    plan = PLANNER.statement(
        b"INSERT INTO patients (ssn) SELECT a FROM (SELECT $1 AS a UNION ALL (SELECT $2 UNION ALL VALUES ($3))) q", (), VIEW
    )
    assert all(isinstance(use, Store) for use, _, _ in plan.outputs)
    assert len({use.row for use, _, _ in plan.outputs if isinstance(use, Store)}) == 3


@pytest.mark.parametrize(
    "client",
    [
        "INSERT INTO patients (ssn) SELECT a FROM (SELECT 'x' AS a UNION SELECT 'y') q",
        "INSERT INTO patients (ssn) SELECT a FROM (SELECT 'x' AS a UNION ALL SELECT now()::text) q",
        "INSERT INTO patients (ssn) SELECT a FROM (SELECT DISTINCT 'x' AS a) q",
        "INSERT INTO patients (ssn) SELECT a FROM (SELECT 'x' AS a UNION ALL SELECT 'y' ORDER BY 1) q",
        "INSERT INTO patients (ssn) SELECT v.a FROM (VALUES ('x')) v (a) GROUP BY v.a",
        "INSERT INTO patients (ssn) SELECT v.a FROM (VALUES ('x')) v (a) WHERE row_to_json(v) IS NOT NULL",
        "INSERT INTO patients (ssn, notes) SELECT v.a, v.a FROM (VALUES ('x')) v (a)",
    ],
)
def test_given_values_that_the_server_would_touch_are_not_stored(client: str) -> None:
    assert ask(client) == "0A000"


def test_the_first_cast_is_the_type_of_the_column() -> None:
    client = b"UPDATE patients SET ssn = v.a FROM (VALUES ($1), ('x'::varchar), (NULL::text)) v (a)"
    assert PLANNER.statement(client, (), VIEW).described == (1043,)


@pytest.mark.parametrize(
    ("entries", "cast", "answered"),
    [
        ("($1), ($2)", "::numeric(6, 2)", True),  # as SQLAlchemy inserts many rows
        ("($1), ($2)", "::numeric", True),
        ("($1), ($2)", "", False),  # 42804 in PostgreSQL too: it is a column of texts
        ("($1), ($2)", "::numeric(6, 1)", True),
        ("($1), ($2)", "::text::numeric(6, 2)", True),
    ],
)
def test_values_without_a_type_are_what_a_cast_of_all_makes_of_them(entries: str, cast: str, answered: bool) -> None:
    patients = PROTECTION.by_name["public", "patients"]
    notes = dataclasses.replace(patients.columns["notes"], type=builtin("numeric", (6 << 16 | 2) + 4, "(6,2)"))
    typed = dataclasses.replace(patients, columns={**patients.columns, "notes": notes})
    others = [table for table in PROTECTION.tables if table is not patients]
    planner = Planner(dataclasses.replace(PROTECTION, tables=(typed, *others)), CATALOG, Ciphers(Keyring(lambda: 0.0)))
    answer = ask(f"INSERT INTO patients (notes) SELECT a{cast} FROM (VALUES {entries}) v (a)", planner=planner)
    assert (answer not in ("42804", "0A000")) is answered, answer
