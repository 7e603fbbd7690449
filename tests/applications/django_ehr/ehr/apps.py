"""The application, as Django knows it."""

from __future__ import annotations

from django.apps import AppConfig


class EhrConfig(AppConfig):
    """Health records."""

    name = "tests.applications.django_ehr.ehr"
    label = "ehr"
