"""The project's settings; DATABASE_URL says where its database is, which the tests use as it is, and TWIN_URL of a second one."""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, unquote, urlsplit

SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "America/Anchorage"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["tests.applications.django_ehr.ehr"]


def _database(address: str) -> dict[str, object]:
    url = urlsplit(address)
    name = unquote(url.path.lstrip("/"))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": url.hostname,
        "PORT": url.port,
        "OPTIONS": {**dict(parse_qsl(url.query)), "server_side_binding": os.environ.get("SERVER_SIDE_BINDING") == "yes"},
        "TEST": {"NAME": name},
    }


DATABASES = {"default": _database(os.environ["DATABASE_URL"])}
if "TWIN_URL" in os.environ:
    DATABASES["twin"] = _database(os.environ["TWIN_URL"])
