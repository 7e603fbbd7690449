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


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM patients WHERE ssn = '{}' AND visits_count = {number}.",
        "SELECT id FROM patients WHERE ssn = '{}' AND visits_count = {number}e0",
        "SELECT id AS \"{number}\" FROM patients WHERE ssn = '0{}'",
        "INSERT INTO patients (visits_count, ssn) VALUES " + ", ".join(["({number}., 'x')"] * 400) + ", ({number}., '{}')",
    ],
)
def test_a_number_in_a_statement_whose_shape_was_seen(clinic: Clinic, statement: str) -> None:
    number = 70_000_000 + int(clinic.plant("ssn").replace("-", "")[-6:])
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn:
        conn.execute(statement.format("x", number=number).encode())
        clinic.oracle.planted.append(str(number))
        clinic.site.tap.reset()
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute(statement.format(number, number=number).encode())
        assert str(number).encode() not in clinic.site.tap.upstream_bytes()
        clinic.oracle.planted.pop()  # it was sent before as what it was: a count of visits


def test_a_definition_with_it_is_refused(clinic: Clinic) -> None:
    value = clinic.plant("ssn")
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn:
        for statement in (
            f"ALTER TABLE patients ALTER ssn SET DEFAULT '{value}', ALTER city SET DEFAULT '{value}'",
            f"ALTER TABLE patients ADD CHECK (ssn <> '{value}' AND city <> '{value}')",
            f"ALTER TABLE patients ADD CONSTRAINT \"{value}\" CHECK (ssn <> '{value}')",
        ):
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                conn.execute(statement.encode())


def test_a_function_of_the_same_transaction_is_given_no_name(clinic: Clinic) -> None:
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute(
            "CREATE FUNCTION put(t text, v text) RETURNS void LANGUAGE plpgsql AS"
            " $$BEGIN EXECUTE format('INSERT INTO %I (ssn) VALUES (%L)', t, v); END$$"
        )
        with pytest.raises(psycopg.errors.FeatureNotSupported), conn.transaction():
            conn.execute(f"SELECT put('patients', '{clinic.plant('ssn')}')".encode())
        conn.execute("DROP FUNCTION put")


def test_what_is_stored_in_a_table_that_is_not_there_stays_here(clinic: Clinic) -> None:
    insert = f"INSERT INTO patient_s VALUES ('{clinic.plant()}')"
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn:
        for statement in (
            f"CREATE TABLE made AS WITH x AS ({insert} RETURNING 1) SELECT * FROM x",
            f"CREATE RULE made AS ON INSERT TO visits DO ALSO {insert}",
        ):
            with pytest.raises(psycopg.errors.UndefinedTable):
                conn.execute(statement.encode())


def test_a_number_of_another_row_is_not(clinic: Clinic) -> None:
    rows = ", ".join(f"({i}, '{i + 1}')" for i in range(4000, 4700))
    with psycopg.connect(clinic.proxy_dsn) as conn:
        conn.execute(f"INSERT INTO patients (id, notes) VALUES {rows}".encode())
        assert conn.execute("SELECT notes FROM patients WHERE id = 4321").fetchall() == [("4322",)]
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute(f"INSERT INTO patients (id, notes) VALUES {rows}, (9321, '9321')".encode())
