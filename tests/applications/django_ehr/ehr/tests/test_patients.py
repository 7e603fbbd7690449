"""The desk: finding, registering and correcting patients."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import DataError, IntegrityError, transaction
from django.db.models import Count, F, Q
from django.db.models.functions import ExtractYear
from django.test import TestCase, TransactionTestCase
from django.utils import timezone

from tests.applications.people import PEOPLE

from ..models import Patient
from .samples import MRNS, store


def whose(found: Iterable[Patient]) -> list[int]:
    """Return the patients' places among the samples."""
    return sorted(MRNS.index(patient.mrn) for patient in found)


class Stored(TestCase):
    """With the samples stored once for each class."""

    @classmethod
    def setUpTestData(cls) -> None:
        store()


class Finding(Stored):
    def test_everything_comes_back(self) -> None:
        for person in PEOPLE:
            found = Patient.objects.get(mrn=person["mrn"])
            self.assertEqual({name: getattr(found, name) for name in person}, person)
            self.assertLess(abs(found.created_at - timezone.now()), timedelta(minutes=5))
            self.assertEqual(Patient.objects.get(pk=found.pk), found)

    def test_by_number(self) -> None:
        self.assertEqual(Patient.objects.get(ssn=PEOPLE[1]["ssn"]).last_name, PEOPLE[1]["last_name"])
        with self.assertRaises(Patient.DoesNotExist):
            Patient.objects.get(ssn="000-00-0000")
        self.assertEqual(whose(Patient.objects.filter(mrn__in=[MRNS[4], "none", MRNS[0]])), [0, 4])
        self.assertEqual(whose(Patient.objects.filter(ssn__isnull=True)), [3])
        self.assertEqual(whose(Patient.objects.exclude(ssn=PEOPLE[0]["ssn"])), [1, 2, 3, 4])
        self.assertEqual(sorted(Patient.objects.in_bulk(MRNS[:2], field_name="mrn")), MRNS[:2])

    def test_the_search_box(self) -> None:
        self.assertEqual(whose(Patient.objects.search("smythe-QUORNDON")), [1, 3])
        self.assertEqual(whose(Patient.objects.search("o'quillfeather")), [4])
        self.assertEqual(whose(Patient.objects.search(MRNS[2])), [2])
        self.assertEqual(whose(Patient.objects.search(PEOPLE[0]["ssn"])), [0])
        self.assertEqual(whose(Patient.objects.search("nobody")), [])

    def test_namesakes(self) -> None:
        self.assertEqual(list(Patient.objects.namesakes()), [{"name": "smythe-quorndon", "n": 2}])

    def test_counting(self) -> None:
        self.assertTrue(Patient.objects.filter(ssn=PEOPLE[0]["ssn"]).exists())
        self.assertEqual(Patient.objects.filter(Q(last_name__iexact="smythe-quorndon") & ~Q(sex="M")).count(), 1)
        self.assertEqual(Patient.objects.aggregate(n=Count("id"), known=Count("ssn")), {"n": 5, "known": 4})
        by_sex = Patient.objects.order_by("sex").values_list("sex").annotate(n=Count("id"))
        self.assertEqual(list(by_sex), [("F", 3), ("M", 1), ("X", 1)])

    def test_pages(self) -> None:
        pages = Paginator(Patient.objects.all(), 2)
        self.assertEqual((pages.count, pages.num_pages), (5, 3))
        self.assertEqual([whose(page.object_list) for page in pages], [[0, 1], [2, 3], [4]])

    def test_parts_of_a_row(self) -> None:
        told = Patient.objects.values_list("mrn", "notes").iterator(chunk_size=2)
        self.assertEqual(list(told), [(person["mrn"], person["notes"]) for person in PEOPLE])
        self.assertEqual(Patient.objects.defer("notes").get(mrn=MRNS[0]).notes, PEOPLE[0]["notes"])
        self.assertEqual([p.phone for p in Patient.objects.only("phone")], [person["phone"] for person in PEOPLE])
        self.assertEqual(Patient.objects.values_list("last_name", flat=True).first(), PEOPLE[0]["last_name"])
        self.assertEqual(Patient.objects.last().mrn, MRNS[4])


class Searching(Stored):
    def test_the_beginning_of_a_name(self) -> None:
        self.assertEqual(whose(Patient.objects.filter(last_name__startswith="Smy")), [1])
        self.assertEqual(whose(Patient.objects.filter(last_name__startswith="O'Q")), [4])
        self.assertEqual(whose(Patient.objects.filter(last_name__startswith="O_Q")), [])
        self.assertEqual(whose(Patient.objects.filter(last_name__istartswith="smY")), [1, 3])
        self.assertEqual(whose(Patient.objects.filter(last_name__istartswith="xyz")), [])

    def test_the_sound_of_a_name(self) -> None:
        self.assertEqual(whose(Patient.objects.sounding_like("Smith-Quorndon")), [1, 2, 3])
        self.assertEqual(whose(Patient.objects.sounding_like("Quorndon")), [])

    def test_the_year_of_birth(self) -> None:
        self.assertEqual(whose(Patient.objects.filter(date_of_birth__year__in=[1931, 2019])), [0, 3])
        self.assertEqual(whose(Patient.objects.annotate(y=ExtractYear("date_of_birth")).filter(y__in=[1980, 1900])), [1, 2])
        self.assertEqual(whose(Patient.objects.filter(date_of_birth=date(1979, 12, 31))), [4])

    def test_a_range_of_dates_of_birth(self) -> None:
        self.assertEqual(whose(Patient.objects.filter(date_of_birth__year=1980)), [1, 2])
        self.assertEqual(whose(Patient.objects.filter(date_of_birth__year=1900)), [])
        self.assertEqual(whose(Patient.objects.filter(date_of_birth__range=(date(1980, 1, 1), date(1980, 12, 31)))), [1, 2])


class Changing(Stored):
    def test_a_change_is_stored(self) -> None:
        patient = Patient.objects.get(ssn=PEOPLE[2]["ssn"])
        patient.phone, patient.notes, patient.height_cm = "+1 (907) 555-7799", PEOPLE[0]["notes"], Decimal("171.01")
        patient.date_of_birth = date(1980, 1, 2)
        patient.full_clean()
        patient.save()
        patient.refresh_from_db()
        self.assertEqual((patient.phone, patient.notes), ("+1 (907) 555-7799", PEOPLE[0]["notes"]))
        self.assertEqual((patient.height_cm, patient.date_of_birth), (Decimal("171.01"), date(1980, 1, 2)))
        self.assertEqual(Patient.objects.filter(mrn=MRNS[2]).update(last_name="Hathersage-Quorndon", visits=F("visits") + 2), 1)
        self.assertEqual(whose(Patient.objects.filter(last_name__iexact="hathersage-quorndon", visits=2)), [2])

    def test_get_or_create(self) -> None:
        told = {name: value for name, value in PEOPLE[0].items() if name not in ("mrn", "ssn")}
        patient, made = Patient.objects.get_or_create(mrn=MRNS[0], defaults=told)
        self.assertEqual((patient.ssn, made), (PEOPLE[0]["ssn"], False))
        patient, made = Patient.objects.get_or_create(mrn="EHR-71640099", defaults=told)
        self.assertEqual((patient.ssn, made), (None, True))
        patient, made = Patient.objects.update_or_create(mrn="EHR-71640099", defaults={"phone": "+1 (907) 555-7788"})
        self.assertEqual((Patient.objects.get(pk=patient.pk).phone, made), ("+1 (907) 555-7788", False))

    def test_many_at_once(self) -> None:
        told = {**PEOPLE[0], "ssn": None}
        Patient.objects.bulk_create([Patient(**{**told, "mrn": f"EHR-7165{n:04}"}) for n in range(40)], batch_size=25)
        self.assertEqual(Patient.objects.filter(last_name=PEOPLE[0]["last_name"]).count(), 41)
        patients = list(Patient.objects.filter(ssn=None))
        for n, patient in enumerate(patients):
            patient.notes, patient.visits = f"quartan ague {n}", n
        self.assertEqual(Patient.objects.bulk_update(patients, ["notes", "visits"], batch_size=20), 41)
        self.assertEqual(Patient.objects.filter(ssn=None, visits__gte=30).values_list("notes", flat=True)[3], "quartan ague 33")

    def test_the_feed_inserts_or_corrects(self) -> None:
        rows = [Patient(**{**PEOPLE[n], "phone": f"+1 (907) 555-880{n}", "last_name": "Quorndon"}) for n in (0, 1)]
        rows.append(Patient(**{**PEOPLE[0], "mrn": "EHR-71640099", "ssn": None}))
        Patient.objects.bulk_create(rows, update_conflicts=True, unique_fields=["mrn"], update_fields=["phone", "last_name"])
        self.assertEqual(whose(Patient.objects.filter(last_name__iexact="quorndon")), [0, 1])
        self.assertEqual(Patient.objects.get(ssn=PEOPLE[1]["ssn"]).phone, "+1 (907) 555-8801")
        Patient.objects.bulk_create(rows, ignore_conflicts=True)
        self.assertEqual(Patient.objects.count(), 6)

    def test_numbers_are_unique(self) -> None:
        for twice in ("mrn", "ssn"):
            other = Patient(**{**PEOPLE[0], "mrn": "EHR-71640099", "ssn": "931-47-2299", twice: PEOPLE[1][twice]})
            with self.assertRaises(ValidationError) as told:
                other.full_clean()
            self.assertEqual(list(told.exception.message_dict), [twice])
            with self.assertRaises(IntegrityError), transaction.atomic():
                other.save()
        self.assertEqual(Patient.objects.count(), 5)

    def test_what_is_too_long_or_missing_is_not_stored(self) -> None:
        with self.assertRaisesMessage(DataError, "value too long for type character varying(12)"), transaction.atomic():
            Patient.objects.create(**{**PEOPLE[0], "mrn": "EHR-716400990", "ssn": None})
        with self.assertRaisesMessage(IntegrityError, "null value in column"), transaction.atomic():
            Patient.objects.create(**{**PEOPLE[0], "mrn": "EHR-71640099", "ssn": None, "last_name": None})
        self.assertEqual(Patient.objects.count(), 5)

    def test_deleting(self) -> None:
        deleted, of = Patient.objects.get(ssn=PEOPLE[0]["ssn"]).delete()
        self.assertEqual((deleted, of["ehr.Encounter"], of["ehr.Medication"]), (8, 2, 2))
        self.assertEqual(Patient.objects.filter(last_name__iexact="smythe-quorndon").delete()[1]["ehr.Patient"], 2)
        self.assertEqual(whose(Patient.objects.all()), [2, 4])


class Transactions(TransactionTestCase):
    def test_all_or_nothing(self) -> None:
        with self.assertRaises(IntegrityError), transaction.atomic():
            Patient.objects.create(**PEOPLE[0])
            Patient.objects.create(**PEOPLE[0])
        self.assertEqual(Patient.objects.count(), 0)
        with transaction.atomic():
            store()
        with transaction.atomic():
            found = Patient.objects.select_for_update().get(mrn=MRNS[0])
            found.notes = "carries quinquinophen"
            found.save()
            with self.assertRaises(IntegrityError), transaction.atomic():
                Patient.objects.filter(mrn=MRNS[1]).update(ssn=PEOPLE[0]["ssn"])
        self.assertEqual(Patient.objects.get(mrn=MRNS[0]).notes, "carries quinquinophen")

    def test_what_is_done_after_commit(self) -> None:
        done: list[str] = []
        with transaction.atomic():
            store()
            transaction.on_commit(lambda: done.append(Patient.objects.get(ssn=PEOPLE[0]["ssn"]).mrn))
            self.assertEqual(done, [])
        self.assertEqual(done, [MRNS[0]])
