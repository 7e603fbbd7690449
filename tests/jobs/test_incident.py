"""The incident file: what is known, what is not, and nobody else reads it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from phiproxy.jobs.incident import Incident, write_incident

INCIDENT = Incident(
    title="data key 5fc3a911", database="clinic", deployment="clinic-prod", reason="a {core} dump", who="ann",
    began="2026-11-27T10:00:00+00:00", ended="2026-11-27T10:05:00+00:00", since="2026-10-01T00:00:00+00:00", keys=("5fc3a911",),
    under={"public.patients.ssn": 12, "public.patients.notes": 0}, of_kek=False, indexes=(), steps=("10:00 data key compromised",),
)  # fmt: skip


def test_what_is_known_and_what_is_not() -> None:
    text = INCIDENT.text
    assert "| public.patients.ssn | 12 |\n" in text
    assert "Values of public.patients.ssn. How likely" in text
    assert text.count("Not known: there is no audit log of reads.") == 2
    assert "Reported: a {core} dump" in text
    assert "registry key" not in text
    of_kek = replace(INCIDENT, of_kek=True, indexes=("c:public.patients.ssn: @",)).text
    assert "Indexes that go by other keys now: c:public.patients.ssn: @." in of_kek
    assert "| (none) | 0 |" in replace(INCIDENT, under={}).text


def test_the_file_is_its_owners_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "incident.md"
    for reason in ("first", "second"):
        asyncio.run(write_incident(path, replace(INCIDENT, reason=reason)))
    assert "second" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
