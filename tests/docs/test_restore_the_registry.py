"""docs/restore-the-registry.md: each mishap it speaks of happens, and its commands, as they stand there, mend it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from tests.commands.conftest import Clinic
from tests.commands.test_keys import sealed
from tests.docs.pages import ROOT, Page, Shell

RUNBOOK = Page("docs/restore-the-registry.md")


def walk(clinic: Clinic, title: str) -> str:
    """Run the commands of a section, and return what they printed."""
    with Shell(clinic.directory, server=clinic.server, database=clinic.database) as shell:
        return shell.walk(RUNBOOK.section(title))


@pytest.fixture
def value(clinic: Clinic) -> str:
    """A clinic with an export, and a stored value."""
    clinic.ok("keys", "init")
    clinic.sql(clinic.ok("ddl"))
    value = asyncio.run(sealed(clinic, b"M-1"))
    clinic.sql(f"INSERT INTO patients (id, note) VALUES (1, '\\x{value}')")
    walk(clinic, "Before anything happens")
    return value


def errors(clinic: Clinic) -> list[str]:
    code, out, _ = clinic.run("check", "--json")
    found: list[dict[str, Any]] = json.loads(out)
    assert code == 1
    return [f["text"] for f in found if f["level"] == "error"]


def test_a_registry_that_is_gone_comes_back(clinic: Clinic, value: str) -> None:
    clinic.sql("DROP SCHEMA phiproxy CASCADE")
    code, _, err = clinic.run("keys", "init")
    assert code == 1
    assert "keys import" in err
    assert "registry imported" in walk(clinic, "The registry is gone")
    assert clinic.ok("open", value) == "M-1\n"
    assert "nothing to do" in clinic.ok("keys", "import", str(clinic.directory / "registry.json"))


def test_a_registry_that_is_older_than_the_values(clinic: Clinic, value: str) -> None:
    clinic.sql("CREATE SCHEMA kept")
    tables = [name for (name,) in clinic.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'phiproxy'")]
    for name in tables:
        clinic.sql(f"CREATE TABLE kept.{name} AS TABLE phiproxy.{name}")
    clinic.ok("keys", "rotate")
    newer = asyncio.run(sealed(clinic, b"M-2"))
    clinic.sql(f"INSERT INTO patients (id, note) VALUES (2, '\\x{newer}')")
    (clinic.directory / "registry.json").unlink()
    walk(clinic, "Before anything happens")
    clinic.sql("; ".join(f"ALTER TABLE phiproxy.{n} DISABLE TRIGGER ALL; DELETE FROM phiproxy.{n}" for n in tables))
    for name in tables:
        clinic.sql(f"INSERT INTO phiproxy.{name} OVERRIDING SYSTEM VALUE SELECT * FROM kept.{name}")
        clinic.sql(f"ALTER TABLE phiproxy.{name} ENABLE TRIGGER ALL")
    (text,) = errors(clinic)
    assert f"public.patients.note has values under data keys that the registry does not have ({newer[10:18]})" in text
    walk(clinic, "The registry is older than the values")
    assert clinic.ok("open", newer) == "M-2\n"


def test_a_rollback_is_accepted(clinic: Clinic, value: str) -> None:
    anchor = re.search(r"reg1-[0-9a-f]{64}", clinic.config.read_text())
    assert anchor is not None
    counters = {"phiproxy_counters": 1, "counters": {anchor[0]: 1_000_000}}
    (clinic.directory / "registry-counter.json").write_text(json.dumps(counters))
    (text,) = errors(clinic)
    assert "the registry was rolled back" in text
    walk(clinic, "Nothing is stored any more: the registry was rolled back")
    assert clinic.sql("SELECT subject FROM phiproxy.event WHERE what = 'rollback accepted'") == [("restored the backup of Monday",)]
    assert clinic.ok("open", value) == "M-1\n"


def test_a_registry_that_somebody_has_changed(clinic: Clinic, value: str) -> None:
    clinic.sql("UPDATE phiproxy.slot SET state = 'dropped'")
    assert any(text.startswith("slot (1, 0) is not as phiproxy has written it last") for text in errors(clinic))
    walk(clinic, "Somebody has changed the registry")
    assert clinic.ok("open", value) == "M-1\n"
    assert clinic.sql("SELECT state FROM phiproxy_evidence.slot") == [("dropped",)]


def test_it_is_linked() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in ("docs/restore-the-registry.md", "docs/registry.md"):
        assert f"({name})" in readme
        assert (ROOT / name).exists()
