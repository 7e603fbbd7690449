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


def test_a_log_is_searched_through_all_its_files(tmp_path: Path) -> None:
    files = log(tmp_path, Clock(), size=1000, compress=True)
    for number in range(30):
        files.append([line_of("execution", {"rows": number, "columns": {}, "statement": {}})])
    files.close()
    assert [record["rows"] for record in found(tmp_path, Wanted())] == list(range(30))
