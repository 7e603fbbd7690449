"""The application at work: ``python -m tests.applications.sqlalchemy_ehr.at_work URL URL PERSONS SEED PAUSE``, or ``make URL``."""

from __future__ import annotations

import random
import sys
import uuid
from datetime import date, timedelta
from decimal import Decimal

from sqlalchemy import Engine, create_engine, delete, make_url, select
from sqlalchemy.orm import Session

from tests.applications.at_work import work

from .models import Base, Encounter, Medication, Observation, Patient
from .repository import CareRepository, PatientRepository
from .samples import ADMITTED

NEW = 1_000_000
"""From this number on persons come and go."""


def person(number: int) -> dict[str, object]:
    """Return what is recorded of a person."""
    return {
        "id": uuid.UUID(int=number),
        "mrn": f"M{number:08}",
        "ssn": f"9{number:09}" if number % 7 else None,
        "first_name": f"Ann{number % 50}",
        "last_name": f"Miller{number % 400}",
        "date_of_birth": date(1930, 1, 1) + timedelta(number % 30_000),
        "sex": "FMX"[number % 3],
        "height_cm": Decimal(15000 + number % 5000) / 100,
        "phone": f"+1 {number}",
        "notes": f"seen {number} times",
    }


def of(patient: Patient | None) -> object:
    """Return what is to be the same."""
    return patient and (patient.mrn, patient.ssn, patient.first_name, patient.last_name, patient.date_of_birth, patient.notes)


def find(engine: Engine, number: int, _: random.Random) -> object:
    given = person(number)
    with Session(engine) as session:
        patients = PatientRepository(session)
        by_ssn = patients.by_ssn(str(given["ssn"])) if given["ssn"] is not None else None
        named = {p.mrn for p in patients.by_full_name(str(given["first_name"]), str(given["last_name"]))}
        return of(patients.by_mrn(str(given["mrn"]))), of(by_ssn), sorted(named)


def rename(engine: Engine, number: int, chance: random.Random) -> object:
    with Session(engine) as session, session.begin():
        return PatientRepository(session).rename(f"M{number:08}", f"Miller{chance.randrange(400)}")


def history(engine: Engine, number: int, _: random.Random) -> object:
    with Session(engine) as session:
        patient = PatientRepository(session).with_history(f"M{number:08}")
        # Sorted: those of one moment come in whatever order the server has them, which a job changes.
        measured = sorted(((o.code, o.value, o.detail) for e in patient.encounters for o in e.observations), key=repr)
        reasons = sorted(str(e.reason) for e in patient.encounters)
        return of(patient), reasons, measured, sorted((m.code, m.name) for m in patient.medications)


def admit(engine: Engine, number: int, chance: random.Random) -> object:
    with Session(engine) as session, session.begin():
        patient = PatientRepository(session).by_mrn(f"M{number:08}")
        assert patient is not None
        encounter = Encounter(started_at=ADMITTED, department=f"Ward {chance.randrange(5)}", reason=f"fever {chance.randrange(99)}")
        encounter.observations = [
            Observation(
                code="8310-5", value=Decimal(chance.randrange(36000, 41000)) / 1000, detail={"n": number}, taken_at=ADMITTED
            )
        ]
        patient.encounters.append(encounter)
        session.add(
            Medication(
                mrn=patient.mrn, code="RX-1", name=f"drug {chance.randrange(9)}", dose=Decimal(1), prescribed_on=date(2026, 1, 1)
            )
        )
    return number


def discharge(engine: Engine, number: int, _: random.Random) -> object:
    with Session(engine) as session, session.begin():
        care, mrn = CareRepository(session), f"M{number:08}"
        stopped = care.stop(mrn, date(2026, 2, 2))
        gone = session.execute(delete(Encounter).where(Encounter.patient_id == uuid.UUID(int=number), Encounter.ended_at.is_(None)))
        return stopped, care.forget(mrn), gone.rowcount  # type: ignore[attr-defined]


def come_and_go(engine: Engine, number: int, chance: random.Random) -> object:
    """Insert, or by the feed's upsert; and delete again, every other time."""
    new = person(NEW + number)
    with Session(engine) as session, session.begin():
        patients = PatientRepository(session)
        there = patients.by_mrn(str(new["mrn"]))
        if there is None:
            session.add(Patient(**new))
        elif chance.random() < 0.5:
            session.delete(there)
        else:
            patients.save_from_feed([{**new, "phone": f"+2 {number}"}, {**person(number), "phone": f"+3 {number}"}])
    with Session(engine) as session:
        found = session.scalars(
            select(Patient).where(Patient.mrn.in_([str(new["mrn"]), f"M{number:08}"])).order_by(Patient.id)
        ).all()
        return [(of(patient), patient.phone) for patient in found]


STEPS = {step.__name__: step for step in (find, rename, history, admit, discharge, come_and_go)}


def opened(url: str) -> Engine:
    """Return the database behind a URL."""
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_size=1, max_overflow=0)


def main(*arguments: str) -> None:
    """Make the tables, or work."""
    if arguments[0] == "make":
        Base.metadata.create_all(opened(arguments[1]))
        return
    first, second, persons, seed, pause = arguments
    work((opened(first), opened(second)), STEPS, int(persons), int(seed), float(pause))


if __name__ == "__main__":
    main(*sys.argv[1:])
