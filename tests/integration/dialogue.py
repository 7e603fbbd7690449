"""What every client says to both twins: writes and reads of the first release, with placeholders ``$1`` as PostgreSQL has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.harness.clinic import Clinic

Value = str | int | bool | None
Rows = list[tuple[Value, ...]]

COLUMNS = "mrn, ssn, full_name, phone, address, notes, city, active, visits_count"


@dataclass(frozen=True)
class Step:
    """One statement, its parameters, and whether the order of its rows is defined."""

    text: str
    params: tuple[Value, ...] = ()

    @property
    def returns_rows(self) -> bool:
        """Whether the client fetches."""
        return self.text.startswith("SELECT") or "RETURNING" in self.text

    def style(self, placeholder: str) -> tuple[str, tuple[Value, ...]]:
        """Return text and parameters for a client that numbers none: each occurrence takes its own parameter."""
        order = [int(n) - 1 for n in re.findall(r"\$(\d+)", self.text)]
        return re.sub(r"\$\d+", placeholder, self.text), tuple(self.params[n] for n in order)


def dialogue(clinic: Clinic) -> list[Step]:
    """Return the steps, with freshly planted values; the same list is for both twins."""
    a, b, c = clinic.new_patient(), clinic.new_patient(city="Shelbyville"), clinic.new_patient(active=False)
    diagnosis, other, note = clinic.plant(), clinic.plant(), clinic.plant("name")
    return [
        Step(f"INSERT INTO patients ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", a.row()),
        Step(
            f"INSERT INTO patients ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9),"
            " ($10, $11, $12, $13, $14, $15, $16, $17, $18) RETURNING id, ssn, city",
            b.row() + c.row(),
        ),
        Step("INSERT INTO patients (ssn, city) VALUES (NULL, $1) RETURNING *", ("Nowhere",)),
        Step("INSERT INTO visits VALUES (100, 1, $1, $2, $3)", (a.mrn, diagnosis, "R1")),
        Step("INSERT INTO visits VALUES (101, 1, $1, $2, $3), (102, 2, $4, $2, NULL) RETURNING *", (a.mrn, other, "R2", b.mrn)),
        Step("SELECT * FROM patients ORDER BY id"),
        Step("SELECT p.full_name AS name, p.id AS number FROM patients AS p WHERE p.ssn = $1", (a.ssn,)),
        Step("SELECT id FROM patients WHERE ssn <> $1 ORDER BY id", (a.ssn,)),
        Step("SELECT id, phone FROM patients WHERE ssn IN ($1, $2) ORDER BY id", (a.ssn, c.ssn)),
        Step("SELECT id, city FROM patients WHERE ssn IS NULL"),
        Step("SELECT count(*) FROM patients WHERE full_name IS NOT NULL AND active"),
        Step(
            "SELECT p.full_name, v.diagnosis, v.room FROM patients p JOIN visits v ON v.mrn = p.mrn"
            " WHERE v.diagnosis = $1 ORDER BY v.id",
            (other,),
        ),
        Step("SELECT p.*, v.* FROM patients p LEFT JOIN visits v ON v.patient_id = p.id ORDER BY p.id, v.id"),
        Step("UPDATE patients SET notes = $1, city = $2 WHERE ssn = $3", (note, "Capital City", b.ssn)),
        Step("UPDATE patients SET phone = $1 WHERE mrn = $2 RETURNING id, phone, notes", (clinic.plant("phone"), b.mrn)),
        Step("UPDATE visits SET diagnosis = NULL WHERE diagnosis = $1", (diagnosis,)),
        Step("DELETE FROM visits WHERE mrn = $1 RETURNING id, mrn", (b.mrn,)),
        Step("DELETE FROM patients WHERE full_name = $1", (c.full_name,)),
        Step("SELECT * FROM visits ORDER BY id"),
        Step("SELECT * FROM patients ORDER BY id"),
    ]


def assert_told(clinic: Clinic, steps: list[Step], plain: list[Rows], proxied: list[Rows]) -> None:
    """Both twins told the same, the planted values were among it, and what is stored is sealed."""
    assert len(plain) == len(steps)
    for number, step in enumerate(steps):
        assert proxied[number] == plain[number], f"the twins differ at: {step.text}"
    seen = {value for rows in proxied for row in rows for value in row}
    assert len(seen.intersection(clinic.oracle.planted)) >= 10
    assert clinic.assert_sealed() >= 10
    clinic.assert_twins_equal()
