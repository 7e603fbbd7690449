"""The wards and the pharmacy: encounters, observations, medications."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Max, Prefetch
from django.db.models.functions import TruncMonth

from tests.applications.people import DETAIL, DRUGS, PEOPLE, REASONS

from ..models import Encounter, Medication, Observation, Patient
from .samples import ADMITTED, MRNS
from .test_patients import Stored, whose


class Wards(Stored):
    def test_a_history_is_read_whole(self) -> None:
        emergencies = Encounter.objects.filter(department="Emergency").prefetch_related("observations")
        patient = Patient.objects.prefetch_related(Prefetch("encounters", emergencies), "medications").get(mrn=MRNS[0])
        self.assertEqual([e.reason for e in patient.encounters.all()], [REASONS[0]])
        self.assertEqual(
            [(o.value, o.unit, o.detail) for o in patient.encounters.all()[0].observations.all()],
            [(Decimal("38.900"), "Cel", DETAIL), (Decimal("39.125"), "Cel", None), (None, "", {"answer": "never"})],
        )
        self.assertEqual(
            [(m.name, m.dose) for m in patient.medications.all()],
            [(DRUGS[0][1], Decimal("2.50")), (DRUGS[1][1], Decimal("1.00"))],
        )

    def test_joins(self) -> None:
        found = Observation.objects.select_related("encounter__patient").filter(encounter__patient__ssn=PEOPLE[0]["ssn"])
        self.assertEqual({o.encounter.patient.last_name for o in found}, {PEOPLE[0]["last_name"]})
        self.assertEqual(found.filter(code="8310-5").count(), 2)
        self.assertEqual(Encounter.objects.get(reason=REASONS[1]).patient.mrn, MRNS[0])
        codes = found.order_by().values_list("encounter__patient__mrn", "code").distinct()
        self.assertEqual(set(codes), {(MRNS[0], "72166-2"), (MRNS[0], "8310-5")})
        self.assertEqual(codes.count(), 2)

    def test_departments(self) -> None:
        self.assertEqual(whose(Patient.objects.seen_in("Emergency")), [0, 1])
        self.assertEqual(Patient.objects.seen_in("Emergency").count(), 2)
        busy = (
            Encounter.objects.order_by("department")
            .values_list("department")
            .annotate(n=Count("id"), last=Max("started_at"), people=Count("patient", distinct=True))
        )
        later = ADMITTED + timedelta(days=30)
        self.assertEqual(list(busy), [("Emergency", 2, ADMITTED, 2), ("Outpatients", 1, later, 1)])
        months = Encounter.objects.annotate(month=TruncMonth("started_at")).order_by("month").values_list("month")
        self.assertEqual([n for _, n in months.annotate(n=Count("id"))], [2, 1])

    def test_patients_with_how_often_they_came(self) -> None:
        counted = Patient.objects.annotate(n=Count("encounters")).filter(n__gt=0).order_by("-n")
        self.assertEqual([(p.last_name, p.n) for p in counted], [(PEOPLE[0]["last_name"], 2), (PEOPLE[1]["last_name"], 1)])

    def test_documents(self) -> None:
        found = Observation.objects.get(code="72166-2")
        found.detail = {**DETAIL, "readings": []}
        found.save()
        found.refresh_from_db()
        self.assertEqual(found.detail, {**DETAIL, "readings": []})
        self.assertEqual(Observation.objects.filter(detail__isnull=True).count(), 1)

    def test_what_is_in_documents(self) -> None:
        def codes(**lookups: object) -> list[str]:
            return list(Observation.objects.filter(**lookups).order_by("id").values_list("code", flat=True))

        self.assertEqual(codes(detail__device=DETAIL["device"]), ["8310-5"])
        self.assertEqual(codes(detail__contains={"device": DETAIL["device"]}), ["8310-5"])
        self.assertEqual(codes(detail__contains={"device": DETAIL["device"], "readings": [39.1]}), ["8310-5"])
        self.assertEqual(codes(detail__has_key="answer"), ["72166-2"])
        self.assertEqual(codes(detail__device__isnull=False), ["8310-5"])
        self.assertEqual(codes(detail__readings__0=38.9), ["8310-5"])
        self.assertEqual(list(Observation.objects.filter(code="72166-2").values_list("detail__answer", flat=True)), ["never"])


class Pharmacy(Stored):
    def test_who_takes_what(self) -> None:
        self.assertEqual(whose(Patient.objects.taking(DRUGS[0][0])), [0, 2])
        self.assertEqual(whose(Patient.objects.exclude(medications__code=DRUGS[0][0])), [3, 4])
        told = Medication.objects.filter(stopped_on=None, code=DRUGS[0][0]).values_list("patient__last_name", "patient_id", "name")
        self.assertEqual(list(told), [(PEOPLE[n]["last_name"], MRNS[n], DRUGS[0][1]) for n in (0, 2)])
        named = Medication.objects.filter(patient__last_name__iexact="smithe-quorndon")
        self.assertEqual([m.dose for m in named.select_related("patient")], [Decimal("0.25")])
        self.assertEqual(whose(Patient.objects.filter(mrn__in=Medication.objects.values("patient"))), [0, 1, 2])

    def test_stopping(self) -> None:
        self.assertEqual(Medication.objects.filter(patient=MRNS[0], stopped_on=None).update(stopped_on=date(2026, 5, 1)), 2)
        self.assertEqual(whose(Patient.objects.taking(DRUGS[1][0])), [])
        self.assertEqual(Medication.objects.filter(patient__ssn=PEOPLE[0]["ssn"]).delete()[0], 2)
        self.assertEqual(whose(Patient.objects.filter(medications=None)), [0, 3, 4])

    def test_nobody_takes_what_nobody_is_given(self) -> None:
        with self.assertRaises(IntegrityError), transaction.atomic():
            Medication.objects.create(patient_id="EHR-00000000", code="x", name="y", dose=1, prescribed_on=date(2026, 4, 1))
            connection.check_constraints()
