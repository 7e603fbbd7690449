"""The tables of the first version; made by makemigrations."""

import uuid

import django.db.models.deletion
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies: list[tuple[str, str]] = []

    operations = [
        migrations.CreateModel(
            name="Encounter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("department", models.CharField(max_length=40)),
                ("reason", models.TextField(db_index=True, null=True)),
            ],
            options={
                "ordering": ("started_at", "id"),
            },
        ),
        migrations.CreateModel(
            name="Observation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("code", models.CharField(db_index=True, max_length=16)),
                ("value", models.DecimalField(decimal_places=3, max_digits=12, null=True)),
                ("unit", models.CharField(default="", max_length=16)),
                ("detail", models.JSONField(null=True)),
                ("taken_at", models.DateTimeField()),
                (
                    "encounter",
                    models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="observations", to="ehr.encounter"),
                ),
            ],
            options={
                "ordering": ("id",),
            },
        ),
        migrations.CreateModel(
            name="Patient",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("mrn", models.CharField(max_length=12, unique=True)),
                ("ssn", models.CharField(blank=True, max_length=11, null=True, unique=True)),
                ("first_name", models.CharField(max_length=80)),
                ("last_name", models.CharField(max_length=80)),
                ("date_of_birth", models.DateField()),
                ("sex", models.CharField(max_length=1)),
                ("height_cm", models.DecimalField(blank=True, decimal_places=2, max_digits=5, null=True)),
                ("phone", models.CharField(blank=True, max_length=24, null=True)),
                ("notes", models.TextField(blank=True, default="")),
                ("visits", models.IntegerField(default=0)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ("created_at",),
                "indexes": [models.Index(django.db.models.functions.text.Upper("last_name"), name="patient_upper_last_name")],
            },
        ),
        migrations.CreateModel(
            name="Medication",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("code", models.CharField(max_length=16)),
                ("name", models.TextField()),
                ("dose", models.DecimalField(decimal_places=2, max_digits=8)),
                ("prescribed_on", models.DateField()),
                ("stopped_on", models.DateField(null=True)),
                (
                    "patient",
                    models.ForeignKey(
                        db_column="mrn",
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="medications",
                        to="ehr.patient",
                        to_field="mrn",
                    ),
                ),
            ],
            options={
                "ordering": ("id",),
            },
        ),
        migrations.AddField(
            model_name="encounter",
            name="patient",
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="encounters", to="ehr.patient"),
        ),
    ]
