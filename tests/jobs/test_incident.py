"""The incident file: what is known, what is not, and nobody else reads it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from phiproxy.audit.activity import Read
from phiproxy.audit.records import canonical
from phiproxy.jobs.incident import Incident, Reads, write_incident
from phiproxy.policy.settings import Audit

INCIDENT = Incident(
    title="data key 5fc3a911", database="clinic", deployment="clinic-prod", reason="a {core} dump", who="ann",
    began="2026-11-27T10:00:00+00:00", ended="2026-11-27T10:05:00+00:00", since="2026-10-01T00:00:00+00:00", keys=("5fc3a911",),
    under={"public.patients.ssn": 12, "public.patients.notes": 0}, of_kek=False, indexes=(), steps=("10:00 data key compromised",),
    reads=Reads(),
)  # fmt: skip


def test_what_is_known_and_what_is_not() -> None:
    text = INCIDENT.text
    assert "| public.patients.ssn | 12 |\n" in text
    assert "Values of public.patients.ssn. How likely" in text
    assert text.count("Not known: there is no audit log of reads.") == 2
    assert "Digest of the audit log: none, since there is no audit log of reads." in text
    assert "Reported: a {core} dump" in text
    assert "about: not known, as the policy names no `subject`" in text
    counted = replace(INCIDENT, subjects={"public.patients, by mrn": 7, "public.p, by id": 1}).text
    assert "are about: public.p, by id: 1; public.patients, by mrn: 7. Not counted: rows in which that is NULL.\n" in counted
    of_others = replace(INCIDENT, subjects={"public.p, by id": 1}).text
    assert "by id: 1. Not counted: rows in which that is NULL, and rows with public.patients.ssn.\n" in of_others
    assert "registry key" not in text
    of_kek = replace(INCIDENT, of_kek=True, indexes=("c:public.patients.ssn: @",)).text
    assert "Indexes that go by other keys now: c:public.patients.ssn: @." in of_kek
    assert "Rows with such values: none were counted." in text
    assert "Rows with such values: public.p: 12." in replace(INCIDENT, rows={"public.p": 12, "public.q": 0}).text
    assert "| (none) | 0 |" in replace(INCIDENT, under={}).text


def test_who_has_read_it() -> None:
    seen = Read(executions=2, opened=12, first="2026-11-01T10:00:00.5Z", last="2026-11-02T10:00:00.5Z")
    reads = Reads("", "/audit", {("Ann | of\nward 3 (app)", "public.patients.ssn"): seen}, ("a.one.0: 5 records, root cm9vdA==",))
    text = replace(INCIDENT, reads=reads).text
    row = "| Ann \\| of ward 3 (app) | public.patients.ssn | 2 | 12 | 0 | 2026-11-01T10:00:00 | 2026-11-02T10:00:00 |"
    assert row in text.splitlines()
    assert "read through the proxy: who has opened what of it is above." in text
    assert "- a.one.0: 5 records, root cm9vdA==" in text.splitlines()
    assert "nobody has opened a value under it" in replace(INCIDENT, reads=replace(reads, opened={})).text


def test_an_audit_log_that_is_not_here(tmp_path: Path) -> None:
    assert Reads.of(Audit(), "clinic", ()) == Reads()
    assert "where proxies send it" in Reads.of(Audit(stdout=True), "clinic", ()).text
    assert "cannot be read here (ConfigError)" in Reads.of(Audit(directory=tmp_path / "none"), "clinic", ()).text


def test_an_audit_log_that_begins_late_and_that_somebody_has_changed(tmp_path: Path) -> None:
    record = {"columns": {"c": {"opened": 1}}, "database": "clinic", "keys": {"5fc3a911": "used"}, "kind": "execution"}
    own = {**record, "sequence": 1, "time": "2026-11-28T10:00:00.000000Z"}
    lines = [canonical({**own, "role": role}) for role in ("app", 7)]
    (tmp_path / "20261128T090000.000000Z.one.0.jsonl").write_bytes(b"\n".join([*lines, b""]))
    text = Reads.of(Audit(directory=tmp_path), "clinic", {"5fc3a911"}).text
    assert "which begins at 20261128T090000Z, of what" in text
    assert [line.split(" | ")[0] for line in text.splitlines()[-2:]] == ["| 7", "| app"]


def test_the_file_is_its_owners_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "incident.md"
    for reason in ("first", "second"):
        asyncio.run(write_incident(path, replace(INCIDENT, reason=reason)))
    assert "second" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
