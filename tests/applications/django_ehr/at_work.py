"""The application at work: ``python -m tests.applications.django_ehr.at_work PERSONS SEED [PAUSE]``; as settings.py says where."""

from __future__ import annotations

import os
import random
import sys
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import django

from tests.applications.at_work import work

NEW = 1_000_000
AT = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def main(persons: str, seed: str, pause: str = "0") -> None:
    """Work."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.applications.django_ehr.settings")
    django.setup()
    from django.db import transaction  # noqa: PLC0415 - needs the settings

    from tests.applications.django_ehr.ehr.models import Encounter, Medication, Patient  # noqa: PLC0415 - needs the settings

    fields = ("mrn", "ssn", "first_name", "last_name", "date_of_birth", "notes")

    def find(database: str, number: int, _: random.Random) -> object:
        people = Patient.objects.using(database)
        by_either = sorted(people.search(f"M{number:08}").values_list(*fields))
        return by_either, sorted(people.filter(ssn=f"9{number:09}").values_list(*fields))

    def rename(database: str, number: int, chance: random.Random) -> object:
        return Patient.objects.using(database).filter(mrn=f"M{number:08}").update(last_name=f"Miller{chance.randrange(400)}")

    def save(database: str, number: int, chance: random.Random) -> object:
        with transaction.atomic(using=database):
            patient = Patient.objects.using(database).select_for_update().get(mrn=f"M{number:08}")
            patient.notes, patient.visits = f"note {chance.randrange(10**6)}", patient.visits + 1
            patient.save(using=database)
        return list(Patient.objects.using(database).filter(pk=patient.pk).values_list(*fields, "visits"))

    def admit(database: str, number: int, chance: random.Random) -> object:
        with transaction.atomic(using=database):
            patient = Patient.objects.using(database).get(mrn=f"M{number:08}")
            encounter = patient.encounters.create(started_at=AT, department="Ward", reason=f"fever {chance.randrange(99)}")
            encounter.observations.create(code="8310-5", value=Decimal("38.5"), detail={"n": number}, taken_at=AT)
            patient.medications.create(code="RX-1", name="drug", dose=Decimal(1), prescribed_on=date(2026, 1, 1))
        taking = Medication.objects.using(database).filter(patient=patient, stopped_on=None).count()
        reasons = Encounter.objects.using(database).filter(patient=patient).values_list("reason", flat=True)
        return taking, sorted(map(str, reasons))

    def discharge(database: str, number: int, _: random.Random) -> object:
        patient = (
            Patient.objects.using(database).prefetch_related("encounters__observations", "medications").get(mrn=f"M{number:08}")
        )
        for medication in patient.medications.all():
            medication.stop(date(2026, 2, 2))
        seen = [(o.code, o.value, o.detail) for e in patient.encounters.all() for o in e.observations.all()]
        gone = patient.encounters.all().delete()
        return seen, gone, patient.medications.all().delete()

    def come_and_go(database: str, number: int, _: random.Random) -> object:
        number += NEW
        known = {"last_name": "New", "first_name": "Ben", "date_of_birth": date(2000, 1, 1), "sex": "M", "ssn": f"9{number:09}"}
        known["id"] = uuid.UUID(int=number)
        patient, made = Patient.objects.using(database).get_or_create(mrn=f"M{number:08}", defaults=known)
        if not made:
            patient.delete(using=database)
        return made

    steps = {step.__name__: step for step in (find, rename, save, admit, discharge, come_and_go)}
    work(("default", "twin"), steps, int(persons), int(seed), float(pause))


if __name__ == "__main__":
    main(*sys.argv[1:])
