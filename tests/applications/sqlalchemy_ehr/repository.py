"""What the application asks its database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import and_, case, delete, extract, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from .models import Encounter, Medication, Observation, Patient


class PatientRepository:
    """Patients, by whatever the desk knows of them."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def by_mrn(self, mrn: str) -> Patient | None:
        """Return the patient with this medical record number."""
        return self.session.scalar(select(Patient).where(Patient.mrn == mrn))

    def by_ssn(self, ssn: str) -> Patient:
        """Return the one with this number; NoResultFound if there is none."""
        return self.session.scalars(select(Patient).filter_by(ssn=ssn)).one()

    def by_mrns(self, mrns: Sequence[str]) -> Sequence[Patient]:
        """Return those with one of the numbers."""
        return self.session.scalars(select(Patient).where(Patient.mrn.in_(mrns)).order_by(Patient.arrival)).all()

    def by_last_name(self, name: str) -> Sequence[Patient]:
        """Return those of a name, in whatever case it is given."""
        return self.session.scalars(select(Patient).where(func.lower(Patient.last_name) == name.lower())).all()

    def by_full_name(self, first: str, last: str) -> Sequence[Patient]:
        """Return those with both names, as the database folds case."""
        found = select(Patient).where(
            and_(func.lower(Patient.first_name) == func.lower(first), func.lower(Patient.last_name) == func.lower(last))
        )
        return self.session.scalars(found).all()

    def beginning_with(self, prefix: str) -> Sequence[Patient]:
        """Return those whose last name begins so."""
        return self.session.scalars(select(Patient).where(Patient.last_name.startswith(prefix, autoescape=True))).all()

    def beginning_with_in_any_case(self, prefix: str) -> Sequence[Patient]:
        """Return those whose last name begins so, in whatever case."""
        return self.session.scalars(select(Patient).where(Patient.last_name.istartswith(prefix, autoescape=True))).all()

    def sounding_like(self, name: str) -> Sequence[Patient]:
        """Return those whose last name sounds like this one."""
        return self.session.scalars(select(Patient).where(func.soundex(Patient.last_name) == func.soundex(name))).all()

    def born_in(self, year: int) -> Sequence[Patient]:
        """Return those born in a year."""
        return self.session.scalars(select(Patient).where(extract("year", Patient.date_of_birth) == year)).all()

    def born_in_years(self, years: Sequence[int]) -> Sequence[Patient]:
        """Return those born in one of some years."""
        return self.session.scalars(select(Patient).where(extract("year", Patient.date_of_birth).in_(years))).all()

    def born_between(self, first: date, last: date) -> Sequence[Patient]:
        """Return those born from one day to another."""
        return self.session.scalars(select(Patient).where(Patient.date_of_birth.between(first, last))).all()

    def born_on(self, day: date) -> Sequence[Patient]:
        """Return those born on a day."""
        return self.session.scalars(select(Patient).where(Patient.date_of_birth == day)).all()

    def page(self, number: int, size: int) -> tuple[int, Sequence[Patient]]:
        """Return how many patients there are and one page of them, in the order in which they came."""
        everyone = select(Patient).where(Patient.active)
        total = self.session.scalar(select(func.count()).select_from(everyone.subquery())) or 0
        return total, self.session.scalars(everyone.order_by(Patient.arrival).limit(size).offset((number - 1) * size)).all()

    def with_history(self, mrn: str) -> Patient:
        """Return a patient with encounters and observations, in three statements."""
        found = (
            select(Patient)
            .options(selectinload(Patient.encounters).selectinload(Encounter.observations), selectinload(Patient.medications))
            .where(Patient.mrn == mrn)
        )
        return self.session.scalars(found).one()

    def rename(self, mrn: str, last_name: str) -> int:
        """Give a patient another last name; return how many there were."""
        done = self.session.execute(update(Patient).where(Patient.mrn == mrn).values(last_name=last_name))
        return done.rowcount  # type: ignore[attr-defined, no-any-return]

    def without_ssn(self) -> Sequence[str]:
        """Return the record numbers of those whose social security number nobody knows."""
        return self.session.scalars(select(Patient.mrn).where(Patient.ssn.is_(None))).all()

    def namesakes(self) -> Sequence[tuple[str, int]]:
        """Return the last names that several have, in lower case, and how many."""
        name = func.lower(Patient.last_name)
        found = select(name.label("name"), func.count().label("n")).group_by(name).having(func.count() > 1)
        return [(row.name, row.n) for row in self.session.execute(found)]

    def by_sex(self) -> dict[str, tuple[int, int]]:
        """Return per sex how many there are, and of how many the number is known."""
        found = select(Patient.sex, func.count(), func.count(Patient.ssn)).group_by(Patient.sex)
        return {sex: (count, known) for sex, count, known in self.session.execute(found)}

    def save_from_feed(self, rows: Sequence[dict[str, Any]]) -> None:
        """Insert the hospital's feed; who is there already gets name and telephone number of it."""
        given = insert(Patient).values(rows)
        told = {"last_name": given.excluded.last_name, "phone": given.excluded.phone}
        self.session.execute(given.on_conflict_do_update(index_elements=[Patient.mrn], set_=told))


class CareRepository:
    """Encounters, observations, medications."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def departments_of(self, ssn: str) -> Sequence[str]:
        """Return where the person with this number was."""
        found = select(Encounter.department).join(Encounter.patient).where(Patient.ssn == ssn).distinct()
        return self.session.scalars(found.order_by(Encounter.department)).all()

    def medicated(self, code: str) -> Sequence[tuple[str, str, str]]:
        """Return record number, last name and drug of whoever takes it, over the pharmacy's record number."""
        found = (
            select(Patient.mrn, Patient.last_name, Medication.name)
            .join(Medication, Medication.mrn == Patient.mrn)
            .where(Medication.code == code, Medication.stopped_on.is_(None))
            .order_by(Medication.id)
        )
        return [(mrn, last_name, drug) for mrn, last_name, drug in self.session.execute(found)]

    def measured_with(self, device: str) -> Sequence[str]:
        """Return the codes of what was measured with a device, by what the document says of it."""
        found = select(Observation.code).where(Observation.detail["device"].astext == device)
        return self.session.scalars(found.order_by(Observation.id)).all()

    def documented(self, part: dict[str, Any]) -> Sequence[str]:
        """Return the codes of the observations whose documents hold an object."""
        found = select(Observation.code).where(Observation.detail.contains(part))
        return self.session.scalars(found.order_by(Observation.id)).all()

    def unmedicated(self) -> Sequence[str]:
        """Return the record numbers of whoever takes nothing."""
        takes = select(Medication.id).where(Medication.mrn == Patient.mrn)
        return self.session.scalars(select(Patient.mrn).where(~takes.exists())).all()

    def busy_departments(self, since: datetime) -> Sequence[tuple[str, int, int]]:
        """Return departments, how many encounters each had, and of how many persons."""
        found = (
            select(Encounter.department, func.count(), func.count(Encounter.patient_id.distinct()))
            .where(Encounter.started_at >= since)
            .group_by(Encounter.department)
            .order_by(func.count().desc(), Encounter.department)
        )
        return [(department, count, persons) for department, count, persons in self.session.execute(found)]

    def stop(self, mrn: str, day: date) -> int:
        """End everything that a patient takes; return how much that was."""
        running = update(Medication).where(Medication.mrn == mrn, Medication.stopped_on.is_(None)).values(stopped_on=day)
        return self.session.execute(running).rowcount  # type: ignore[attr-defined, no-any-return]

    def forget(self, mrn: str) -> int:
        """Delete a patient's medications; return how many there were."""
        return self.session.execute(delete(Medication).where(Medication.mrn == mrn)).rowcount  # type: ignore[attr-defined, no-any-return]

    def measured(self, code: str) -> Sequence[tuple[Decimal | None, str | None]]:
        """Return values and units of an observation, the latest first."""
        found = select(Observation.value, Observation.unit).where(Observation.code == code)
        return [(value, unit) for value, unit in self.session.execute(found.order_by(Observation.taken_at.desc()))]

    def labelled(self) -> Sequence[tuple[str, str]]:
        """Return each patient's record number, and whether there is an open encounter."""
        open_ = select(Encounter.id).where(Encounter.patient_id == Patient.id, Encounter.ended_at.is_(None)).exists()
        found = select(Patient.mrn, case((open_, "here"), else_="away")).order_by(Patient.arrival)
        return [(mrn, where) for mrn, where in self.session.execute(found)]
