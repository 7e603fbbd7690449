"""docs/hipaa.md: the evidence that it names is there, and docs/access-and-audit.md: what is recorded is in that table."""

from __future__ import annotations

import re

from tests.commands.conftest import Clinic
from tests.docs.pages import ROOT, Page, Shell

CONTROLS = "a1 a2i a2ii a2iii a2iv b c1 c2 d e1 e2i e2ii"


def test_every_technical_safeguard_has_a_row_with_evidence() -> None:
    rows = re.findall(r"^\| §164\.312(\S+) \|.*\| (.+) \|$", Page("docs/hipaa.md").text, re.MULTILINE)
    assert " ".join(control.translate({40: None, 41: None}) for control, _ in rows) == CONTROLS
    # A command that anybody runs on his own installation, and a test.
    assert [control for control, evidence in rows if not re.search(r"`phiproxy |`SELECT` past", evidence)] == []
    assert [control for control, evidence in rows if "`tests/" not in evidence] == []


def test_the_evidence_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", Page("docs/hipaa.md").text)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_what_is_done_with_keys_is_recorded(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    clinic.ok("keys", "rotate")
    page = Page("docs/access-and-audit.md")
    with Shell(clinic.directory, server=clinic.server, database=clinic.database) as shell:
        assert "data key made" in shell.walk(page.section("What is recorded today"))
