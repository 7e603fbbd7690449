"""A protected value that an application repeats in the same statement, where the server could read it: blanked or refused."""

from __future__ import annotations

import psycopg
import pytest

from tests.harness.clinic import Clinic

IN_COMMENTS = [
    "SELECT id FROM patients WHERE ssn = {} /*route='%2Fpatients%2F{value}'*/",
    "SELECT id FROM patients WHERE ssn = {} /*application='{value}'*/",
    "SELECT id FROM patients WHERE ssn = {} /*+ {value} */",
    "/*+ SeqScan({value}) */ SELECT id FROM patients WHERE ssn = {}",
    "SELECT id FROM patients WHERE ssn = {} -- {value}",
]


@pytest.mark.parametrize("statement", IN_COMMENTS)
@pytest.mark.parametrize("bound", [False, True])
def test_a_comment_with_it_is_blanked(clinic: Clinic, statement: str, bound: bool) -> None:
    patient = clinic.seed(2)[1]
    value = clinic.plant("ssn")
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute("UPDATE patients SET ssn = %s WHERE ssn = %s", (value, patient.ssn))
        if bound:
            query = statement.replace("%", "%%").format("%s", value=value)
            rows = conn.execute(query.encode(), (value,)).fetchall()
        else:
            rows = conn.execute(statement.format(f"'{value}'", value=value).encode()).fetchall()
        assert len(rows) == 1
    if not bound:
        string = f"SELECT 1 /* {value} */; {statement.format(repr(value), value=value)}"
        with psycopg.connect(clinic.proxy_dsn) as conn:
            conn.execute(string.encode())


@pytest.mark.parametrize(
    "statement",
    [
        """SELECT count(*) FROM patients, (VALUES (1)) x ("{value}") WHERE ssn = '{value}'""",
        """WITH t ("{value}") AS (SELECT 1) SELECT count(*) FROM patients WHERE ssn = '{value}'""",
        """DECLARE "{value}" CURSOR FOR SELECT id FROM patients WHERE ssn = '{value}'""",
        """PREPARE "{value}" AS SELECT id FROM patients WHERE ssn = '{value}'""",
        """SELECT count(*) OVER "{value}" FROM patients WHERE ssn = '{value}' WINDOW "{value}" AS (ORDER BY id)""",
    ],
)
def test_a_name_with_it_is_refused(clinic: Clinic, statement: str) -> None:
    with psycopg.connect(clinic.proxy_dsn) as conn, pytest.raises(psycopg.errors.FeatureNotSupported):
        conn.execute(statement.format(value=clinic.plant("ssn")).encode())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE patients SET notes = '{number}', id = {number} WHERE id = 1",
        "INSERT INTO patients (id, notes, city) VALUES (5, '{number}', '0{number}.0')",
        "INSERT INTO patients (id, notes) VALUES (5, 'x'), ({number}, '{number}')",
        "SELECT id FROM patients WHERE ssn = '{number}' LIMIT {number}",
    ],
)
def test_a_number_with_it_is_refused(clinic: Clinic, statement: str) -> None:
    clinic.seed(1)
    number = 70_000_000 + int(clinic.plant("ssn").replace("-", "")[-6:])
    with psycopg.connect(clinic.proxy_dsn) as conn, pytest.raises(psycopg.errors.FeatureNotSupported):
        conn.execute(statement.format(number=number).encode())


def test_a_number_of_another_row_is_not(clinic: Clinic) -> None:
    rows = ", ".join(f"({i}, '{i + 1}')" for i in range(4000, 4700))
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute(f"INSERT INTO patients (id, notes) VALUES {rows}".encode())
        assert conn.execute("SELECT notes FROM patients WHERE id = 4321").fetchall() == [("4322",)]
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute(f"INSERT INTO patients (id, notes) VALUES {rows}, (9321, '9321')".encode())
