"""The tables, and what is asked of them."""

from __future__ import annotations

import uuid
from datetime import date

from django.db import models
from django.db.models import Count, Exists, Func, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Lower, Upper


class Soundex(Func):
    """The function of fuzzystrmatch."""

    function = "soundex"
    output_field = models.CharField()


class PatientQuerySet(QuerySet):
    """Patients, by whatever the desk knows of them."""

    def search(self, text: str) -> PatientQuerySet:
        """Whose number it is, or whose last name in whatever case."""
        return self.filter(Q(mrn=text) | Q(ssn=text) | Q(last_name__iexact=text))

    def sounding_like(self, name: str) -> PatientQuerySet:
        """Whose last name sounds like this one."""
        return self.annotate(sound=Soundex("last_name")).filter(sound=Soundex(Value(name)))

    def seen_in(self, department: str) -> PatientQuerySet:
        """Who was there."""
        return self.filter(encounters__department=department).distinct()

    def taking(self, code: str) -> PatientQuerySet:
        """Who takes a drug today."""
        return self.filter(Exists(Medication.objects.filter(patient=OuterRef("mrn"), code=code, stopped_on=None)))

    def namesakes(self) -> QuerySet:
        """Last names in lower case, with how many have them, where that is more than one."""
        return self.annotate(name=Lower("last_name")).values("name").annotate(n=Count("id")).filter(n__gt=1).order_by("n")


class Patient(models.Model):
    """Who is cared for."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    mrn = models.CharField(max_length=12, unique=True)
    ssn = models.CharField(max_length=11, unique=True, null=True, blank=True)
    first_name = models.CharField(max_length=80)
    last_name = models.CharField(max_length=80)
    date_of_birth = models.DateField()
    sex = models.CharField(max_length=1)
    height_cm = models.DecimalField(max_digits=5, decimal_places=2, null=True, blank=True)
    phone = models.CharField(max_length=24, null=True, blank=True)
    notes = models.TextField(blank=True, default="")
    visits = models.IntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PatientQuerySet.as_manager()

    class Meta:
        ordering = ("created_at",)
        indexes = (models.Index(Upper("last_name"), name="patient_upper_last_name"),)

    def __str__(self) -> str:
        return f"{self.last_name}, {self.first_name}"


class Encounter(models.Model):
    """One contact with a patient."""

    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="encounters")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    department = models.CharField(max_length=40)
    reason = models.TextField(null=True, db_index=True)

    class Meta:
        ordering = ("started_at", "id")


class Observation(models.Model):
    """Something measured."""

    encounter = models.ForeignKey(Encounter, on_delete=models.CASCADE, related_name="observations")
    code = models.CharField(max_length=16, db_index=True)
    value = models.DecimalField(max_digits=12, decimal_places=3, null=True)
    unit = models.CharField(max_length=16, default="")
    detail = models.JSONField(null=True)
    taken_at = models.DateTimeField()

    class Meta:
        ordering = ("id",)


class Medication(models.Model):
    """What the pharmacy says that a patient takes; it knows the medical record number only."""

    patient = models.ForeignKey(Patient, to_field="mrn", db_column="mrn", on_delete=models.CASCADE, related_name="medications")
    code = models.CharField(max_length=16)
    name = models.TextField()
    dose = models.DecimalField(max_digits=8, decimal_places=2)
    prescribed_on = models.DateField()
    stopped_on = models.DateField(null=True)

    class Meta:
        ordering = ("id",)

    def stop(self, day: date) -> None:
        """End it."""
        self.stopped_on = day
        self.save(update_fields=["stopped_on"])
