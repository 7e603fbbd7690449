"""The project's settings; DATABASE_URL says where its database is, which the tests use as it is."""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, unquote, urlsplit

_URL = urlsplit(os.environ["DATABASE_URL"])
_NAME = unquote(_URL.path.lstrip("/"))

SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "America/Anchorage"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["tests.applications.django_ehr.ehr"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _NAME,
        "USER": unquote(_URL.username or ""),
        "PASSWORD": unquote(_URL.password or ""),
        "HOST": _URL.hostname,
        "PORT": _URL.port,
        "OPTIONS": {**dict(parse_qsl(_URL.query)), "server_side_binding": os.environ.get("SERVER_SIDE_BINDING") == "yes"},
        "TEST": {"NAME": _NAME},
    }
}
