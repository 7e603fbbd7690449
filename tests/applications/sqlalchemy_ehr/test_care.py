"""The wards and the pharmacy: encounters, observations, medications."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.applications.people import DETAIL, DRUGS, PEOPLE, REASONS

from .models import Encounter, Medication, Observation, Patient
from .repository import CareRepository, PatientRepository
from .samples import ADMITTED, medications

MRNS = [str(person["mrn"]) for person in PEOPLE]


@pytest.fixture
def care(session: Session, people: list[Patient]) -> CareRepository:
    assert people[0].encounters
    session.add_all(medications())
    session.commit()
    session.expunge_all()
    return CareRepository(session)


def test_a_history_is_read_whole(care: CareRepository) -> None:
    patient = PatientRepository(care.session).with_history(MRNS[0])
    assert [e.reason for e in patient.encounters] == list(REASONS)
    assert [e.started_at for e in patient.encounters] == [ADMITTED, ADMITTED + timedelta(days=30)]
    assert [(o.value, o.unit, o.detail) for o in patient.encounters[0].observations] == [
        (Decimal("38.900"), "Cel", DETAIL),
        (Decimal("39.125"), "Cel", None),
        (None, None, {"answer": "never"}),
    ]
    assert [(m.name, m.dose) for m in patient.medications] == [
        (DRUGS[0][1], Decimal("2.50")),
        (DRUGS[1][1], Decimal("1.00")),
    ]


def test_departments(care: CareRepository) -> None:
    assert care.departments_of(PEOPLE[0]["ssn"]) == ["Emergency", "Outpatients"]
    assert care.departments_of("000-00-0000") == []
    assert care.busy_departments(ADMITTED) == [("Emergency", 2, 2), ("Outpatients", 1, 1)]
    assert care.busy_departments(ADMITTED + timedelta(days=1)) == [("Outpatients", 1, 1)]
    assert care.labelled() == [(MRNS[0], "here"), (MRNS[1], "here"), *((mrn, "away") for mrn in MRNS[2:])]


def test_who_takes_what(care: CareRepository) -> None:
    name = DRUGS[0][1]
    assert care.medicated(DRUGS[0][0]) == [(MRNS[n], PEOPLE[n]["last_name"], name) for n in (0, 2)]
    assert sorted(care.unmedicated()) == MRNS[3:]


def test_medications_are_stopped_and_forgotten(care: CareRepository) -> None:
    assert care.stop(MRNS[0], date(2026, 5, 1)) == 2
    assert care.stop(MRNS[0], date(2026, 5, 1)) == 0
    assert care.medicated(DRUGS[1][0]) == []
    assert care.forget(MRNS[0]) == 2
    assert sorted(care.unmedicated()) == [MRNS[0], *MRNS[3:]]


def test_measurements(care: CareRepository) -> None:
    assert care.measured("8310-5") == [(Decimal("39.125"), "Cel"), (Decimal("38.900"), "Cel")]
    assert care.measured("0-0") == []


def test_a_document_is_replaced(care: CareRepository) -> None:
    found = care.session.scalars(select(Observation).where(Observation.code == "72166-2")).one()
    found.detail = {**DETAIL, "readings": []}
    care.session.commit()
    care.session.expire_all()
    assert found.detail == {"device": DETAIL["device"], "readings": [], "fasting": False, "comment": None}
    found.detail = None
    care.session.commit()
    care.session.expire_all()
    assert found.detail is None
    assert care.session.scalar(select(func.count()).where(Observation.detail.is_(None))) == 2


def test_documents_are_searched_by_what_is_in_them(care: CareRepository) -> None:
    assert care.measured_with(str(DETAIL["device"])) == ["8310-5"]
    assert care.measured_with("never") == []
    assert care.documented({"device": DETAIL["device"]}) == ["8310-5"]
    assert care.documented({"device": DETAIL["device"], "fasting": False, "readings": [39.1]}) == ["8310-5"]
    assert care.documented({"answer": "never"}) == ["72166-2"]
    answers = select(Observation.detail["answer"].astext).where(Observation.detail.has_key("answer"))
    assert care.session.scalars(answers).all() == ["never"]


def test_a_patient_leaves_nothing(care: CareRepository) -> None:
    session = care.session
    session.delete(PatientRepository(session).by_ssn(PEOPLE[0]["ssn"]))
    session.commit()
    counts = [session.scalar(select(func.count()).select_from(table)) for table in (Patient, Encounter, Observation, Medication)]
    assert counts == [4, 1, 0, 4]
    assert care.medicated(DRUGS[0][0]) == [(MRNS[2], PEOPLE[2]["last_name"], DRUGS[0][1])]


def test_many_observations(care: CareRepository) -> None:
    encounter = care.session.scalars(select(Encounter).where(Encounter.reason == REASONS[1])).one()
    for n in range(60):
        value = Decimal(n) / 8
        encounter.observations.append(
            Observation(code=f"8867-{n % 4}", value=value, unit="/min", detail={"n": n}, taken_at=ADMITTED + timedelta(minutes=n))
        )
    care.session.commit()
    assert care.measured("8867-3") == [(Decimal(n) / 8, "/min") for n in range(59, 0, -4)]
