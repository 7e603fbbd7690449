"""What only the plaintext decides: lists in order, searching inside of names, ages, duplicates, reports, notes that grow."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import Date, case, cast, delete, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from tests.applications.people import PEOPLE

from .models import Encounter, Medication, Patient
from .samples import ADMITTED, medications
from .test_patients import whose

MRNS = [str(person["mrn"]) for person in PEOPLE]


@pytest.fixture
def stored(session: Session, people: list[Patient]) -> Session:
    assert people
    session.add_all(medications())
    session.commit()
    session.expunge_all()
    return session


def test_names_are_searched_inside(stored: Session) -> None:
    def found(part: str) -> list[int]:
        return whose(stored.scalars(select(Patient).where(Patient.first_name.icontains(part, autoescape=True))))

    assert found("DMIL") == [0, 2]
    assert found("tholomew") == [4]
    assert found("_") == []
    assert whose(stored.scalars(select(Patient).where(Patient.notes.regexp_match("adrenaline|cane")))) == [0, 1]


def test_a_list_has_an_order_and_pages(stored: Session) -> None:
    listed = select(Patient.mrn).order_by(func.lower(Patient.last_name), Patient.first_name, Patient.mrn)
    pages = [stored.scalars(listed.offset(2 * page).limit(2)).all() for page in range(3)]
    whole = stored.scalars(listed).all()
    assert [mrn for page in pages for mrn in page] == whole
    third = stored.scalars(select(Patient).where(Patient.mrn == whole[2])).one()
    behind = select(Patient.mrn).where(tuple_(Patient.last_name, Patient.mrn) > tuple_(third.last_name, third.mrn))
    assert whole[2] not in stored.scalars(behind).all()


def test_ages_and_minors(stored: Session) -> None:
    on = date(2026, 4, 1)
    years = func.extract("year", func.age(cast(on, Date), Patient.date_of_birth))
    ages = stored.execute(select(Patient.mrn, years).order_by(Patient.arrival)).all()
    assert [(mrn, int(age)) for mrn, age in ages] == list(zip(MRNS, [95, 45, 46, 7, 46], strict=True))
    minors = select(Patient).where(Patient.date_of_birth > func.date(on) - text("interval '18 years'"))
    assert whose(stored.scalars(minors)) == [3]


def test_duplicates(stored: Session) -> None:
    twice = select(func.lower(Patient.first_name), func.count()).group_by(func.lower(Patient.first_name)).having(func.count() > 1)
    assert stored.execute(twice).all() == [("ludmilla", 2)]


def test_a_report_by_month(stored: Session) -> None:
    month = func.date_trunc("month", Medication.prescribed_on)
    report = select(func.to_char(month, "YYYY-MM"), func.count(), func.sum(Medication.dose)).group_by(month).order_by(month)
    assert stored.execute(report).all() == [
        ("2025-01", 1, Decimal("5.00")), ("2026-03", 2, Decimal("3.50")), ("2026-04", 1, Decimal("0.25")),
    ]  # fmt: skip


def test_notes_grow(stored: Session) -> None:
    seen = update(Patient).where(Patient.mrn == MRNS[0]).values(notes=Patient.notes + "\nseen with quartan ague")
    assert stored.execute(seen).rowcount == 1  # type: ignore[attr-defined]
    assert stored.scalar(select(Patient.notes).where(Patient.mrn == MRNS[0])) == PEOPLE[0]["notes"] + "\nseen with quartan ague"
    every = update(Patient).values(notes=func.concat(Patient.notes, " (checked)"), active=False).returning(Patient.mrn)
    assert sorted(stored.scalars(every)) == MRNS
    assert all(str(notes).endswith(" (checked)") for notes in stored.scalars(select(Patient.notes)))


def test_an_object_s_column_is_computed(stored: Session) -> None:
    patient = stored.scalars(select(Patient).where(Patient.mrn == MRNS[1])).one()
    patient.notes = Patient.notes + " 100% sure"
    patient.height_cm = Patient.height_cm + 1
    stored.commit()
    assert patient.notes == PEOPLE[1]["notes"] + " 100% sure"
    assert patient.height_cm == Decimal("188.50")


def test_names_are_tidied(stored: Session) -> None:
    tidied = (
        update(Patient).where(Patient.last_name == func.upper(Patient.last_name)).values(last_name=func.initcap(Patient.last_name))
    )
    assert stored.execute(tidied).rowcount == 1  # type: ignore[attr-defined]
    stored.expire_all()
    assert stored.scalar(select(Patient.last_name).where(Patient.mrn == MRNS[3])) == "Smythe-Quorndon"


def test_doses_are_changed(stored: Session) -> None:
    more = (
        update(Medication)
        .values(dose=case((Medication.dose < 1, Medication.dose * 2), else_=Medication.dose))
        .returning(Medication.dose)
    )
    assert sorted(stored.scalars(more)) == [Decimal("0.50"), Decimal("1.00"), Decimal("2.50"), Decimal("5.00")]
    assert stored.execute(delete(Medication).where(Medication.dose > 2)).rowcount == 2  # type: ignore[attr-defined]


def test_rows_are_copied_with_changes(stored: Session) -> None:
    again = select(Medication.mrn, Medication.code, Medication.name + " (renewed)", Medication.dose, Medication.prescribed_on + 30)
    columns = ["mrn", "code", "name", "dose", "prescribed_on"]
    stored.execute(insert(Medication).from_select(columns, again.where(Medication.mrn == MRNS[0])))
    renewed = select(Medication.prescribed_on).where(Medication.name.endswith("(renewed)"))
    assert sorted(stored.scalars(renewed)) == [date(2026, 4, 28), date(2026, 4, 29)]


def test_a_reason_is_given_as_it_is_stored(stored: Session) -> None:
    values = {"patient_id": select(Patient.id).where(Patient.mrn == MRNS[4]).scalar_subquery(), "started_at": ADMITTED}
    reason = func.initcap("quartan ague") + " of the night"
    added = insert(Encounter).values(department="Emergency", reason=reason, **values).returning(func.upper(Encounter.reason))
    assert stored.scalar(added) == "QUARTAN AGUE OF THE NIGHT"
