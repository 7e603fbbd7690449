"""What is searched for in a log is found."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from phiproxy.audit.records import line_of
from phiproxy.audit.search import Wanted, found
from tests.audit.samples import RECORDS
from tests.audit.test_verify import Clock, log


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(), {*RECORDS}),
        (Wanted(kinds=frozenset({"login", "key"})), {"login", "key"}),
        (Wanted(who="dr.who"), {"asserted"}),
        (Wanted(who="nurse", column="ssn"), {"read", "asserted", "stored", "failed"}),
        (Wanted(column="public.patients", outcome="00000"), {"read", "asserted", "stored"}),
        (Wanted(column="mrn"), set()),
        (Wanted(fingerprint="0"), {"stored"}),
        (Wanted(outcome="28"), {"login"}),
        (Wanted(since=datetime(2026, 11, 27, 18, 45, 1, tzinfo=UTC)), set()),
        (Wanted(before=datetime(2026, 11, 27, 18, 45, tzinfo=UTC)), set()),
    ],
)
def test_what_is_searched_for_is_found(wanted: Wanted, names: set[str]) -> None:
    assert {name for name, record in RECORDS.items() if wanted.takes(record)} == names


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("public.charts", 2), ("doc", 2), ("public.charts.doc", 2), ("doc$.name", 1), ("doc$.notes", 1), ("doc$.notes[*].is", 1),
        ("given", 1), ("doc$.nam", 0), ("do", 0), ("doc$.given", 0), ("doc$.name.given.x", 0), ("public.chart", 0),
    ],
)  # fmt: skip
def test_fields_are_found_by_their_document_and_by_their_path(wanted: str, names: int) -> None:
    fields = ("public.charts.doc$.name.given", "public.charts.doc$.notes[*].is")
    records = [{"kind": "execution", "columns": {field: {"opened": 1}}} for field in fields]
    assert len([record for record in records if Wanted(column=wanted).takes(record)]) == names


def test_a_log_is_searched_through_all_its_files(tmp_path: Path) -> None:
    files = log(tmp_path, Clock(), size=1000, compress=True)
    for number in range(30):
        files.append([line_of("execution", {"rows": number, "columns": {}, "statement": {}})])
    files.close()
    assert [record["rows"] for record in found(tmp_path, Wanted())] == list(range(30))
