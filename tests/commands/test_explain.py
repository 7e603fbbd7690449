"""``phiproxy explain`` on a real database."""

import json

from tests.commands.conftest import Clinic


def ready(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    clinic.sql(clinic.ok("ddl"))


def test_rewritten(clinic: Clinic) -> None:
    ready(clinic)
    out = clinic.ok("explain", "SELECT ssn FROM patients WHERE ssn = $1")
    assert out.startswith("rewritten\n")
    assert "substring" in out
    assert "tag of public.patients.ssn" in out
    assert "opened: public.patients.ssn as text" in out


def test_forwarded(clinic: Clinic) -> None:
    ready(clinic)
    assert clinic.ok("explain", "SELECT 1") == "forwarded\nSELECT 1\n"


def test_refused(clinic: Clinic) -> None:
    ready(clinic)
    code, out, err = clinic.run("explain", "SELECT * FROM patients WHERE ssn LIKE '%zq9%'")
    assert (code, err) == (1, "")
    assert out.startswith("refused: SQLSTATE 0A000")
    assert "zq9" not in out


def test_as_json(clinic: Clinic) -> None:
    ready(clinic)
    found = json.loads(clinic.ok("explain", "--json", "INSERT INTO patients (id, ssn) VALUES ($1, $2)"))
    assert (found["database"], found["answer"]) == (clinic.database, "rewritten")
    assert any("sealed for public.patients.ssn" in use for _, use in found["parameters"])


def test_a_string_of_statements_in_another_search_path(clinic: Clinic) -> None:
    ready(clinic)
    text = "PREPARE s AS SELECT ssn FROM patients WHERE ssn = $1; EXECUTE s('zq9')"
    out = clinic.ok("explain", text, "--path", "elsewhere, public")
    assert "statement 2, column 1" in out
    assert "tag of public.patients.ssn" in out
    assert "zq9" not in out
    code, out, _ = clinic.run("explain", text, "--path", "elsewhere")
    assert (code, "SQLSTATE 42P01 at character 30" in out) == (1, True)
