"""Run as a program: one step of a Django project, in its directory: its models change, then ``makemigrations`` and ``migrate``.

Arguments: the number of the step, host, port, database, user, password, then the values to store. Prints what the models show then
as JSON; the step behind the last migrates down again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import IntegrityError, transaction

HEAD = "from django.db import models\n\n\nclass Patient(models.Model):\n"
META = '    class Meta:\n        db_table = "patients"\n'
SSN, TOWN, TEXT = "models.TextField(unique=True)", 'models.TextField(default="x")', "models.TextField(null=True)"
# The fields of the model, what else its Meta says, and what is then done with it.
STEPS = (
    (
        {"ssn": SSN, "city": TOWN, "phone": "models.CharField(max_length=20, null=True)"},
        "",
        "P.objects.create(ssn=ssn, phone=phone)",
    ),
    (
        {"ssn": SSN, "city": TOWN,
         "phone": "models.CharField(max_length=20, null=True, db_index=True)", "full_name": TEXT,
         "notes": TEXT, "address": TEXT},
        '        indexes = [models.Index(fields=["full_name"], name="by_name")]\n',
        "P.objects.filter(ssn=ssn).update(full_name=name, notes=note)",
    ),
    (
        {"ssn": SSN, "town": TOWN,
         "phone": "models.CharField(max_length=20, null=True, db_index=True)", "full_name": TEXT,
         "remarks": TEXT, "address": TEXT,
         "mother": 'models.ForeignKey("self", models.CASCADE, null=True)'},
        '        constraints = [models.UniqueConstraint(fields=["full_name", "town"], name="once"),\n'
        '            models.CheckConstraint(condition=~models.Q(address=""), name="no_empty")]\n',
        "P.objects.create(ssn=ssn + '1', full_name=name, town='y', address='here', mother=P.objects.get(phone=phone))",
    ),
    (
        {"ssn": SSN, "town": TOWN, "full_name": TEXT},
        '        constraints = [models.UniqueConstraint(fields=["full_name", "town"], name="once")]\n',
        "P.objects.filter(full_name=name).exclude(ssn=ssn).delete()",
    ),
)  # fmt: skip


def main(number: str, host: str, port: str, name: str, user: str, password: str, *values: str) -> list[Any]:
    database = {
        "ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": user, "PASSWORD": password, "HOST": host, "PORT": port,
        "OPTIONS": {"sslmode": "disable"},
    }  # fmt: skip
    Path("clinic").mkdir(exist_ok=True)
    Path("clinic/__init__.py").touch()
    if int(number) < len(STEPS):
        fields, meta, _ = STEPS[int(number)]
        lines = "".join(f"    {field} = {definition}\n" for field, definition in fields.items())
        Path("clinic/models.py").write_text(HEAD + lines + META + meta)
    sys.path.insert(0, ".")
    settings.configure(
        DATABASES={"default": database},
        INSTALLED_APPS=["django.contrib.contenttypes", "clinic"],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    if int(number) == len(STEPS):
        for target in ("0003", "0002", "zero"):
            call_command("migrate", "clinic", target, verbosity=0)
        return []
    call_command("makemigrations", "clinic", verbosity=0)
    call_command("migrate", verbosity=0)
    return _use(STEPS[int(number)][2], *values)


def _use(use: str, ssn: str, name: str, note: str, phone: str) -> list[Any]:
    from clinic.models import Patient  # type: ignore[import-not-found]  # noqa: PLC0415 - it was written just now

    exec(use, {"P": Patient, "ssn": ssn, "name": name, "note": note, "phone": phone})  # of the table above
    failed = ""
    try:
        with transaction.atomic():
            Patient.objects.create(ssn=ssn)
    except IntegrityError as error:
        failed = getattr(error.__cause__, "diag").constraint_name  # noqa: B009 - psycopg's own
    found = Patient.objects.filter(ssn=ssn)
    return [failed, list(found.values_list()), Patient.objects.count(), Patient.objects.filter(ssn__in=[ssn, "x"]).count()]


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])), file=sys.stderr)
