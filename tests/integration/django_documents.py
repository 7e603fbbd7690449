"""Run as a program: lookups of Django's JSONField over charts. Arguments: host, port, database, user, password. Prints JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.conf import settings
from django.db import connection, models
from django.db.models.fields.json import KT


def main(host: str, port: str, name: str, user: str, password: str) -> dict[str, Any]:
    """Return what each lookup finds, and how many lookups there are that an engine had no part in."""
    database = {
        "ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": user, "PASSWORD": password, "HOST": host, "PORT": port,
        "OPTIONS": {"sslmode": "disable"},
    }  # fmt: skip
    settings.configure(DATABASES={"default": database}, INSTALLED_APPS=[], DEFAULT_AUTO_FIELD="django.db.models.AutoField")
    django.setup()

    class Chart(models.Model):  # type: ignore[misc]
        doc = models.JSONField(null=True)
        ward = models.TextField(null=True)

        class Meta:
            app_label = "charts"
            db_table = "charts"

    charts = Chart.objects.order_by("id")
    found: dict[str, Any] = {}
    for title, query in {
        "key": charts.filter(doc__age=40),
        "object": charts.filter(doc__name={"family": "Smith", "given": ["Ada"]}),
        "contains": charts.filter(doc__contains={"name": {"family": "Smith"}}),
        "contains_of_key": charts.filter(doc__name__contains={"family": "smith"}),
        "text": charts.annotate(ssn=KT("doc__ssn")).filter(ssn="123-45-6789"),
        "path": charts.filter(doc__name__family="Smith"),
        "has_key": charts.filter(doc__has_key="ssn"),
        "has_keys": charts.filter(doc__has_keys=["ssn", "age"]),
        "icontains": charts.filter(doc__name__family__icontains="smi"),
        "isnull": charts.filter(doc__ssn__isnull=True),
        "in": charts.filter(doc__age__in=[40, "40"]),
        "exclude": charts.exclude(doc__age=40),
        "contained_by": charts.filter(doc__contained_by={"age": 40, "ssn": "5"}),
        "index": charts.filter(doc__0__ssn="in an array"),
    }.items():
        found[title] = list(query.values_list("id", flat=True))
    found["shown"] = list(charts.values_list("doc__name__family", "doc__age").exclude(id=10))
    chart = Chart.objects.create(id=80, doc={"ssn": "8-8", "age": 8, "name": {"family": "Eight"}})
    chart.doc["age"] = 9
    chart.save()
    found["saved"] = Chart.objects.get(doc__age=9).doc
    chart.delete()
    connection.close()
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
