"""Statements as heavy as the protocol allows: what they do is what they do directly, and nothing of them is left in clear."""

from __future__ import annotations

import pytest

from tests.harness.clinic import Clinic
from tests.harness.differential import Differential

COUNT = "SELECT count(*)::int, count(DISTINCT ssn)::int, sum(id)::text, max(city) FROM patients WHERE id >= 100000"
MIB = 1024 * 1024


@pytest.mark.slow
def test_as_many_parameters_as_a_bind_has(differential: Differential, clinic: Clinic) -> None:
    rows, planted = 65_532 // 4, clinic.plant("ssn")
    text = "INSERT INTO patients (id, ssn, mrn, city) VALUES " + ", ".join(
        f"(${4 * r + 1}, ${4 * r + 2}, ${4 * r + 3}, ${4 * r + 4})" for r in range(rows)
    )
    params: list[object] = []
    for r in range(rows):
        params += [str(100_000 + r), planted if r == 77 else f"999-{r:06}", f"m{r % 50}", None if r % 9 else f"é {r}"]
    differential.run("BEGIN", protocol="simple")
    differential.run(text, params, named=True)
    differential.run(COUNT, protocol="simple")
    differential.run("SELECT id, mrn, city FROM patients WHERE ssn = $1", [planted])
    differential.run("ROLLBACK", protocol="simple")


@pytest.mark.slow
def test_many_rows_of_literals(differential: Differential, clinic: Clinic) -> None:
    planted = clinic.plant()
    rows = [f"({100_000 + r}, '{planted if r == 4_711 else f'd{r}'}')" for r in range(65_536)]
    differential.run("BEGIN", protocol="simple")
    differential.run(f"INSERT INTO visits (id, diagnosis) VALUES {', '.join(rows)}", protocol="simple")
    differential.run("SELECT count(*)::int, count(DISTINCT diagnosis)::int FROM visits WHERE id >= 100000", protocol="simple")
    differential.run(f"SELECT id FROM visits WHERE diagnosis = '{planted}'", protocol="simple")
    differential.run("ROLLBACK", protocol="simple")


def test_many_statements_in_one_text(differential: Differential) -> None:
    differential.run("BEGIN", protocol="simple")
    texts = [f"UPDATE patients SET ssn = '999-{n:06}' WHERE id = {n % 5}" for n in range(700)]
    differential.run("; ".join([*texts, "SELECT id, ssn FROM patients WHERE id < 10 ORDER BY id"]), protocol="simple")
    differential.run("ROLLBACK", protocol="simple")


@pytest.mark.slow
def test_long_texts_and_values(differential: Differential, clinic: Clinic) -> None:
    planted = clinic.plant()
    differential.run("BEGIN", protocol="simple")
    text = planted + " é'' " + "x" * (2 * MIB)
    differential.run(f"INSERT INTO patients (id, ssn, notes) VALUES (100000, '1', '{text}')", protocol="simple")
    differential.run("SELECT id, length(city), notes FROM patients WHERE id = 100000", protocol="simple")
    differential.run(f"SELECT length('{'y' * (2 * MIB)}')", protocol="simple")
    value = planted + "ü" * (6 * MIB)
    differential.run("INSERT INTO patients (id, ssn, notes) VALUES (100001, '2', $1)", [value])
    for form in (0, 1):
        differential.run("SELECT id, notes FROM patients WHERE id = 100001", result_format=form)
    differential.run("ROLLBACK", protocol="simple")


def test_a_refusal_of_a_long_text_says_where(differential: Differential) -> None:
    listed = ", ".join(f"'{n}'" for n in range(1_500))
    differential.refused(f"SELECT id FROM patients WHERE ssn IN ({listed}) ORDER BY ssn", hint="order")
