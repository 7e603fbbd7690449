"""What only the plaintext decides: lists in order, searching inside of names, ages, duplicates, reports, notes that grow."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from django.db.models import Count, F, Max, Min, Sum, Value
from django.db.models.functions import Concat, Lower, TruncMonth, Upper

from tests.applications.people import PEOPLE

from ..models import Medication, Patient
from .samples import MRNS
from .test_patients import Stored, whose


class Computed(Stored):
    def test_names_are_searched_inside(self) -> None:
        self.assertEqual(whose(Patient.objects.filter(first_name__icontains="DMIL")), [0, 2])
        self.assertEqual(whose(Patient.objects.filter(notes__contains="adrenaline")), [1])
        self.assertEqual(whose(Patient.objects.filter(first_name__iregex="^[lb].*[aw]$")), [0, 2, 4])

    def test_a_list_has_an_order_and_pages(self) -> None:
        listed = Patient.objects.order_by(Lower("last_name"), "first_name", "mrn")
        pages = [list(listed[at : at + 2]) for at in (0, 2, 4)]
        self.assertEqual([p.mrn for page in pages for p in page], [p.mrn for p in listed])
        self.assertEqual(len(pages[2]), 1)
        self.assertEqual(Patient.objects.aggregate(Min("date_of_birth"))["date_of_birth__min"], PEOPLE[0]["date_of_birth"])

    def test_minors_and_duplicates(self) -> None:
        self.assertEqual(whose(Patient.objects.filter(date_of_birth__gt=date(2008, 4, 1))), [3])
        twice = Patient.objects.order_by().annotate(name=Upper("first_name")).values("name").annotate(n=Count("id")).filter(n__gt=1)
        self.assertEqual(list(twice), [{"name": "LUDMILLA", "n": 2}])

    def test_a_report_by_month(self) -> None:
        months = Medication.objects.annotate(month=TruncMonth("prescribed_on")).order_by("month").values_list("month")
        report = months.annotate(n=Count("id"), most=Max("dose"), total=Sum("dose"))
        self.assertEqual(
            [(month.isoformat(), n, most, total) for month, n, most, total in report],
            [
                ("2025-01-01", 1, Decimal("5.00"), Decimal("5.00")),
                ("2026-03-01", 2, Decimal("2.50"), Decimal("3.50")),
                ("2026-04-01", 1, Decimal("0.25"), Decimal("0.25")),
            ],
        )

    def test_notes_grow(self) -> None:
        self.assertEqual(Patient.objects.filter(mrn=MRNS[0]).update(notes=Concat("notes", Value("\nseen, 100% sure"))), 1)
        self.assertEqual(Patient.objects.get(mrn=MRNS[0]).notes, PEOPLE[0]["notes"] + "\nseen, 100% sure")
        self.assertEqual(Patient.objects.update(notes=Concat("notes", Value("!")), visits=F("visits") + 1), 5)
        self.assertEqual([p.visits for p in Patient.objects.all() if p.notes.endswith("!")], [1] * 5)

    def test_an_object_s_field_is_computed(self) -> None:
        medication = Medication.objects.get(patient=MRNS[2])
        medication.dose = F("dose") * 2
        medication.prescribed_on = F("prescribed_on") + timedelta(days=1)
        medication.save()
        medication.refresh_from_db()
        self.assertEqual(medication.dose, Decimal("0.50"))
        self.assertEqual(medication.prescribed_on, date(2026, 4, 2))

    def test_rows_are_chosen_by_what_is_in_them(self) -> None:
        self.assertEqual(Medication.objects.filter(name__icontains="QUINO").update(stopped_on=date(2026, 6, 1)), 3)
        self.assertEqual(Medication.objects.filter(dose__gt=2).delete()[0], 2)
