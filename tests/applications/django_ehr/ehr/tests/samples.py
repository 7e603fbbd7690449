"""Patients with their histories, for the tests."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

from tests.applications.people import DETAIL, DRUGS, PEOPLE, REASONS

from ..models import Encounter, Medication, Observation, Patient

ADMITTED = datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=1)))
MRNS = [str(person["mrn"]) for person in PEOPLE]


def store() -> None:
    """Store all of them; the first two have encounters, the first three medications."""
    first, second, third, *_ = [Patient.objects.create(**person) for person in PEOPLE]
    fever = first.encounters.create(started_at=ADMITTED, department="Emergency", reason=REASONS[0])
    end = ADMITTED + timedelta(days=30, minutes=20)
    first.encounters.create(started_at=ADMITTED + timedelta(days=30), ended_at=end, department="Outpatients", reason=REASONS[1])
    Encounter.objects.create(patient=second, started_at=ADMITTED, department="Emergency")
    later = ADMITTED + timedelta(hours=6)
    Observation.objects.bulk_create(
        [
            Observation(encounter=fever, code="8310-5", value=Decimal("38.9"), unit="Cel", detail=DETAIL, taken_at=ADMITTED),
            Observation(encounter=fever, code="8310-5", value=Decimal("39.125"), unit="Cel", taken_at=later),
            Observation(encounter=fever, code="72166-2", detail={"answer": "never"}, taken_at=ADMITTED),
        ]
    )
    (code, name), (other, other_name) = DRUGS
    Medication.objects.create(patient=first, code=code, name=name, dose=Decimal("2.5"), prescribed_on=date(2026, 3, 29))
    Medication.objects.create(patient=first, code=other, name=other_name, dose=Decimal(1), prescribed_on=date(2026, 3, 30))
    past = Medication.objects.create(patient=second, code=code, name=name, dose=Decimal(5), prescribed_on=date(2025, 1, 1))
    past.stop(date(2025, 2, 1))
    Medication.objects.create(patient_id=third.mrn, code=code, name=name, dose=Decimal("0.25"), prescribed_on=date(2026, 4, 1))
