"""Patients with their histories, for the tests."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

from tests.applications.people import DETAIL, DRUGS, PEOPLE, REASONS

from .models import Encounter, Medication, Observation, Patient

ADMITTED = datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=1)))


def patients() -> list[Patient]:
    """Return all of them, new; the first two have encounters."""
    found = [Patient(**person) for person in PEOPLE]
    fever = Encounter(started_at=ADMITTED, department="Emergency", reason=REASONS[0])
    fever.observations = [
        Observation(code="8310-5", value=Decimal("38.900"), unit="Cel", detail=DETAIL, taken_at=ADMITTED),
        Observation(code="8310-5", value=Decimal("39.125"), unit="Cel", taken_at=ADMITTED + timedelta(hours=6)),
        Observation(code="72166-2", value=None, unit=None, detail={"answer": "never"}, taken_at=ADMITTED),
    ]
    review = Encounter(
        started_at=ADMITTED + timedelta(days=30),
        ended_at=ADMITTED + timedelta(days=30, minutes=20),
        department="Outpatients",
        reason=REASONS[1],
    )
    found[0].encounters = [fever, review]
    found[1].encounters = [Encounter(started_at=ADMITTED, department="Emergency")]
    return found


def medications() -> list[Medication]:
    """Return what the pharmacy tells of the first three."""
    (code, name), (other, other_name) = DRUGS
    return [
        Medication(mrn=PEOPLE[0]["mrn"], code=code, name=name, dose=Decimal("2.50"), prescribed_on=date(2026, 3, 29)),
        Medication(mrn=PEOPLE[0]["mrn"], code=other, name=other_name, dose=Decimal(1), prescribed_on=date(2026, 3, 30)),
        Medication(
            mrn=PEOPLE[1]["mrn"], code=code, name=name, dose=Decimal(5), prescribed_on=date(2025, 1, 1), stopped_on=date(2025, 2, 1)
        ),
        Medication(mrn=PEOPLE[2]["mrn"], code=code, name=name, dose=Decimal("0.25"), prescribed_on=date(2026, 4, 1)),
    ]
