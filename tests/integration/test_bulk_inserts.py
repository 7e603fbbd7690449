"""Long INSERTs of literals, as pg_dump --inserts and Django's bulk_create send them, both ways."""

from __future__ import annotations

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
    differential.refused(head + ",\n".join([*rows, _row(300, "x").replace("'x'", "now()")]))
