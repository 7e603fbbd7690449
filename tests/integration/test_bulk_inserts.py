"""Long INSERTs of literals, as pg_dump --inserts and Django's bulk_create send them, and of parameters, both ways."""

from __future__ import annotations

import pytest

from tests.harness.clinic import Clinic
from tests.harness.differential import Differential

READ = "SELECT id, ssn, mrn, city, notes FROM patients WHERE id >= 1000 ORDER BY id"


def _row(i: int, ssn: str) -> str:
    city = "NULL" if i % 3 else f"'é {i}'"
    notes = "NULL" if i % 5 == 0 else "DEFAULT" if i % 7 == 0 else f"'it''s note {i}, ('"
    return f"({1000 + i}, '{ssn}', 'm{i % 50}'::varchar(3), {city}, {notes})"


def test_equal_both_ways(differential: Differential, clinic: Clinic) -> None:
    planted = [clinic.plant("ssn") for _ in range(3)]
    rows = [_row(i, planted[i // 100] if i % 100 == 0 else f"999-{i:06}") for i in range(300)]
    head, tail = 'INSERT INTO "patients" ("id", "ssn", "mrn", "city", "notes") VALUES ', " RETURNING id, ssn, mrn = 'm7'"
    text = head + ",\n".join(rows) + tail
    assert len(text) > 16 * 1024
    for protocol in ("simple", "extended"):
        differential.run("BEGIN", protocol="simple")
        differential.run(text, protocol=protocol)
        differential.run(READ, protocol="simple")
        for value in planted:
            differential.run(f"SELECT id FROM patients WHERE ssn = '{value}'", protocol="simple")
        differential.run("SELECT count(DISTINCT mrn), count(notes) FROM patients", protocol="simple")
        differential.run("ROLLBACK", protocol="simple")
    other = "INSERT INTO visits (id, diagnosis) VALUES " + ", ".join(f"({2000 + i}, 'd{i}')" for i in range(200))
    differential.run(f"BEGIN; {text}; UPDATE patients SET ssn = 'é' WHERE id = 1003; {other}", protocol="simple")
    differential.run(READ, protocol="simple")
    differential.run("SELECT id, diagnosis FROM visits WHERE diagnosis IN ('d7', 'd8') ORDER BY id", protocol="simple")
    differential.run("ROLLBACK", protocol="simple")
    differential.refused(head + ",\n".join([*rows, _row(300, "x").replace("'x'", "now()")]))


def _parameters(row: str, rows: int) -> str:
    """Return rows in which each $ is a parameter of its own."""
    pieces = ", ".join([row] * rows).split("$")
    return pieces[0] + "".join(f"${i}{piece}" for i, piece in enumerate(pieces[1:], start=1))


INTO = "INSERT INTO patients (id, ssn, mrn, city, notes) "
FORMS = {
    "bare": (
        INTO + "VALUES {} ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn, city = $%d RETURNING ssn",
        "($, $, $, $, $)",
    ),
    "cast": (
        INTO + "VALUES {} RETURNING id, ssn, city = $%d::text",
        "($::int, $::text, $::varchar(5), CAST($ AS varchar), $::varchar)",
    ),
    "SQLAlchemy": (
        INTO + "SELECT p0::INTEGER, p1::TEXT, p2::VARCHAR, p3::TEXT, p4::TEXT FROM (VALUES {}) AS imp_sen "
        "(p0, p1, p2, p3, p4, sen_counter) WHERE $%d <> '' ORDER BY sen_counter RETURNING patients.id, patients.ssn",
        "($::INTEGER, $::TEXT, $::VARCHAR, $::TEXT, $::TEXT, 7)",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_parameters_are_equal_both_ways(form: str, differential: Differential, clinic: Clinic) -> None:
    planted = [clinic.plant("ssn") for _ in range(3)]
    rows = 60
    head, row = FORMS[form]
    text = head.format(_parameters(row, rows)) % (5 * rows + 1)
    params: list[object] = []
    for i in range(rows):
        ssn = planted[i // 20] if i % 20 == 0 else f"999-{i:06}"
        params += [str(1000 + i), ssn, f"m{i % 7}", None if i % 3 else f"é {i}", None if i % 5 else "a note"]
    for named in (False, True):
        differential.run("BEGIN", protocol="simple")
        differential.run(text, [*params, "Springfield"], named=named)
        differential.run(READ, protocol="simple")
        for value in planted:
            differential.run("SELECT id FROM patients WHERE ssn = $1", [value])
        differential.run("ROLLBACK", protocol="simple")
