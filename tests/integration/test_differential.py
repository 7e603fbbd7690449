"""The statements of the first release, each on the plaintext twin and through the proxy, in every protocol and format."""

from __future__ import annotations

import pytest

from tests.harness.clinic import Clinic
from tests.harness.differential import Differential

WRITTEN_SSN = "INSERT INTO patients (ssn, full_name, city) VALUES ($1, $2, $3)"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM patients",
        "SELECT * FROM patients ORDER BY id",
        "SELECT p.* FROM patients p",
        "SELECT p.ssn AS number, p.city, full_name FROM patients AS p WHERE p.active",
        "SELECT id, mrn FROM public.patients WHERE notes IS NOT NULL",
        "SELECT id FROM patients WHERE ssn IS NULL",
        "SELECT p.full_name, v.diagnosis FROM patients p JOIN visits v ON v.mrn = p.mrn ORDER BY p.id, v.id",
        "SELECT p.full_name, v.diagnosis FROM patients p LEFT JOIN visits v ON v.patient_id = p.id",
        "SELECT count(*) FROM patients",
        "SELECT city, count(*) FROM patients GROUP BY city ORDER BY city",
        "SELECT notes, address FROM patients LIMIT 2",
    ],
)
def test_reads_without_parameters(differential: Differential, statement: str) -> None:
    differential.read(statement)


@pytest.mark.parametrize(
    ("where", "columns"),
    [
        ("ssn = $1", ["ssn"]),
        ("$1 = ssn", ["ssn"]),
        ("ssn <> $1", ["ssn"]),
        ("ssn IN ($1, $2)", ["ssn", "ssn"]),
        ("ssn NOT IN ($1, $2)", ["ssn", "ssn"]),
        ("full_name = $1 AND ssn = $2", ["full_name", "ssn"]),
        ("full_name = $1 OR phone = $2", ["full_name", "phone"]),
        ("NOT (mrn = $1)", ["mrn"]),
        ("mrn = $1 AND notes IS NOT NULL", ["mrn"]),
        ("ssn IS DISTINCT FROM $1", ["ssn"]),
    ],
)
def test_reads_by_parameter(differential: Differential, where: str, columns: list[str]) -> None:
    patients = differential.clinic.patients
    values = [getattr(patients[n], column) for n, column in enumerate(columns)]
    found = differential.read(f"SELECT id, ssn, full_name, mrn, phone FROM patients WHERE {where}", values)
    assert found.sqlstate is None
    literal = where
    for number, value in enumerate(values, 1):
        literal = literal.replace(f"${number}", f"'{value}'")
    again = differential.read(f"SELECT id, ssn, full_name, mrn, phone FROM patients WHERE {literal}")
    assert sorted(again.rows, key=repr) == sorted(found.rows, key=repr)


def test_a_value_that_no_row_has(differential: Differential) -> None:
    nobody = differential.clinic.plant("ssn")
    assert differential.read("SELECT * FROM patients WHERE ssn = $1", [nobody]).rows == ()
    assert len(differential.read("SELECT * FROM patients WHERE ssn <> $1", [nobody]).rows) == 5
    assert differential.read("SELECT * FROM patients WHERE ssn = $1", [None]).rows == ()


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("param_format", [0, 1])
def test_writes(differential: Differential, clinic: Clinic, named: bool, param_format: int) -> None:
    def run(statement: str, params: list[object]) -> list[tuple[str | None, ...]]:
        return differential.run(statement, params, param_format=param_format, named=named).text

    ssn, name, notes = clinic.plant("ssn"), clinic.plant("name"), clinic.plant()
    run(WRITTEN_SSN, [ssn, name, "Springfield"])
    several = "INSERT INTO patients (ssn, mrn) VALUES ($1, $2), ($3, NULL) RETURNING id, ssn, mrn"
    rows = run(several, [ssn, clinic.plant("mrn"), None])
    assert [row[1] for row in rows] == [ssn, None]
    rows = run("INSERT INTO visits VALUES (DEFAULT, NULL, $1, $2, $3) RETURNING *", [clinic.plant("mrn"), notes, "R9"])
    assert rows[0][3] == notes
    run("UPDATE patients SET notes = $1, city = $2 WHERE ssn = $3", [notes, "Capital City", ssn])
    rows = run("UPDATE patients SET ssn = $1 WHERE ssn = $2 RETURNING id, ssn", [clinic.plant("ssn"), ssn])
    assert len(rows) == 2
    rows = run("DELETE FROM patients WHERE full_name = $1 RETURNING full_name, notes", [name])
    assert rows == [(name, notes)]
    clinic.assert_twins_equal()


def test_empty_strings_and_nulls(differential: Differential, clinic: Clinic) -> None:
    differential.run("INSERT INTO patients (ssn, notes, mrn) VALUES ($1, $2, $3)", ["", "", None])
    assert differential.read("SELECT ssn, notes, mrn FROM patients WHERE ssn = $1", [""]).text == [("", "", None)]
    clinic.assert_twins_equal()


def test_a_value_too_long_is_postgresqls_own_error(differential: Differential, clinic: Clinic) -> None:
    long = clinic.plant() + "far too long for a column of 12 or 20 characters"
    assert differential.run("INSERT INTO patients (mrn) VALUES ($1)", [long]).sqlstate == "22001"
    assert differential.run("UPDATE patients SET phone = $1", [long]).sqlstate == "22001"
    assert differential.read("SELECT id FROM patients WHERE mrn = $1", [long]).rows == ()
    assert differential.run("INSERT INTO patients (mrn) VALUES ($1)", ["twelve chars   "]).sqlstate is None
    clinic.assert_twins_equal()


def test_transactions(differential: Differential, clinic: Clinic) -> None:
    ssn = clinic.plant("ssn")
    differential.run("BEGIN", protocol="simple")
    differential.run(WRITTEN_SSN, [ssn, None, None])
    assert differential.run("SELECT ssn FROM patients WHERE ssn = $1", [ssn]).text == [(ssn,)]
    differential.run("ROLLBACK", protocol="simple")
    assert differential.run("SELECT ssn FROM patients WHERE ssn = $1", [ssn]).rows == ()
    both = f"BEGIN; INSERT INTO patients (ssn) VALUES ('{ssn}'); SELECT ssn FROM patients WHERE ssn = '{ssn}'; COMMIT"
    differential.run(both, protocol="simple")
    assert differential.run("SELECT ssn FROM patients WHERE ssn = $1", [ssn]).text == [(ssn,)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT upper(ssn) FROM patients",
        "SELECT ssn || 'x' FROM patients",
        "SELECT id FROM patients WHERE ssn LIKE '%{}%'",
        "SELECT id FROM patients WHERE address = '{}'",
        "SELECT id FROM patients WHERE ssn < '{}'",
        "SELECT id FROM patients ORDER BY full_name",
        "SELECT p.id FROM patients p JOIN visits v ON p.ssn = v.mrn",
        "SELECT id FROM patients WHERE ssn = mrn AND city = '{}'",
        "UPDATE patients SET city = ssn",
        "UPDATE patients SET city = '{}' WHERE ssn = '{}'",
        "INSERT INTO patients (city) SELECT ssn FROM patients",
        "CREATE TABLE thief AS SELECT * FROM patients",
        "SELECT patients FROM patients WHERE ssn = '{}'",
    ],
)
def test_refusals(differential: Differential, clinic: Clinic, statement: str) -> None:
    differential.refused(statement.replace("{}", clinic.plant()))


def test_a_refusal_aborts_a_transaction(differential: Differential, clinic: Clinic) -> None:
    differential.run("BEGIN", protocol="simple")
    differential.refused("SELECT id FROM patients WHERE address = $1", [clinic.plant()])


def test_a_refused_statement_refuses_its_string(differential: Differential, clinic: Clinic) -> None:
    ssn = clinic.plant("ssn")
    both = f"INSERT INTO patients (ssn) VALUES ('{ssn}'); SELECT id FROM patients WHERE notes = '{ssn}'"
    differential.refused(both, protocol="simple")
    assert differential.proxied.transaction_status == 0
    clinic.assert_twins_equal()


def test_a_mistyped_name_is_answered_by_the_proxy(differential: Differential, clinic: Clinic) -> None:
    differential.refused(f"SELECT ssn FROM patient WHERE ssn = '{clinic.plant()}'", sqlstate="42P01")
    differential.refused(f"SELECT id FROM patients WHERE snn = '{clinic.plant()}'", sqlstate="42703")
    differential.refused(f"SELECT id FROM patients WHERE ssn = = '{clinic.plant()}'", sqlstate="42601")
    differential.refused("SELECT * FROM phiproxy.data_key", sqlstate="42501")
