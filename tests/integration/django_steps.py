"""Run as a program: a Django application's migrations up, some use of its model, and down again; prints what it saw as JSON.

Arguments: host, port, database, user, password, then the values to store.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.conf import settings


def main(host: str, port: str, name: str, user: str, password: str, ssn: str, full_name: str, note: str) -> list[Any]:
    database = {
        "ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": user, "PASSWORD": password, "HOST": host, "PORT": port,
        "OPTIONS": {"sslmode": "disable"},
    }  # fmt: skip
    settings.configure(DATABASES={"default": database}, DEFAULT_AUTO_FIELD="django.db.models.AutoField")
    django.setup()
    from django.db import connection, migrations, models  # noqa: PLC0415 - needs the settings
    from django.db.migrations.state import ProjectState  # noqa: PLC0415

    fields = [
        ("id", models.AutoField(primary_key=True)),
        ("ssn", models.TextField(unique=True)),
        ("full_name", models.TextField(db_index=True, null=True)),
        ("city", models.TextField(default="x")),
    ]
    operations: list[Any] = [
        migrations.CreateModel("Patient", fields, options={"db_table": "patients"}),
        migrations.AddField("patient", "notes", models.TextField(default="")),
        migrations.AddIndex("patient", models.Index(fields=["full_name"], name="by_name")),
        migrations.AlterField("patient", "full_name", models.TextField(default="", db_index=True)),
        migrations.RenameField("patient", "city", "town"),
        migrations.AddConstraint("patient", models.UniqueConstraint(fields=["full_name", "town"], name="once")),
    ]
    states = [ProjectState()]
    for operation in operations:
        states.append(states[-1].clone())
        operation.state_forwards("clinic", states[-1])
        with connection.schema_editor() as editor:
            operation.database_forwards("clinic", editor, states[-2], states[-1])
    patient = states[-1].apps.get_model("clinic", "Patient")
    patient.objects.create(ssn=ssn, full_name=full_name, notes=note)
    patient.objects.filter(ssn=ssn).update(town="y")
    seen: list[Any] = [list(patient.objects.filter(ssn=ssn).values_list())]
    seen.append([patient.objects.get_or_create(ssn=ssn)[1], patient.objects.filter(full_name=full_name).count()])
    for i in reversed(range(len(operations))):
        with connection.schema_editor() as editor:
            operations[i].database_backwards("clinic", editor, states[i + 1], states[i])
    return seen


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
