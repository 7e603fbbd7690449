"""EXPLAIN ANALYZE of what is split: every part of it is run, writes too, and each is explained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import psycopg
import pytest
import yaml

from tests.harness import results
from tests.harness.clinic import Clinic
from tests.harness.differential import Protocol
from tests.harness.results import Outcome

COMPUTED = "Computed beside the proxy, over the opened rows of that:"
WRITTEN = "Written by the server:"
ONCE = "Executed by the server, once, and not measured:"
SORTED = "SELECT id, full_name FROM patients WHERE city = 'Springfield' ORDER BY full_name"
APPENDED = "UPDATE patients SET notes = notes || '!' WHERE id < 3"
PROTOCOLS: tuple[Protocol, ...] = ("simple", "extended")
Connection = psycopg.Connection[tuple[object, ...]]


def explained(conn: Connection, statement: str, protocol: Protocol = "simple", params: Sequence[object] = ()) -> Outcome:
    """Run an EXPLAIN; it is answered as one, in one result."""
    if protocol == "simple":
        (outcome,) = results.simple(conn.pgconn, statement)
    else:
        *_, outcome = results.prepared(conn.pgconn, statement, params, results.Form())[0]
    assert (outcome.sqlstate, outcome.message) == (None, "")
    assert outcome.tag == "EXPLAIN"
    return outcome


def lines_of(outcome: Outcome) -> list[str]:
    return [str(value) for (value,) in outcome.text]


def sections(lines: Sequence[str]) -> dict[str, list[str]]:
    """Return the lines of each part by its heading."""
    found: dict[str, list[str]] = {"": []}
    part = found[""]
    for line in lines:
        if line in (COMPUTED, WRITTEN, ONCE):
            part = found[line] = []
        else:
            part.append(line)
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_select_is_run_in_both(pair: tuple[Connection, Connection], protocol: Protocol) -> None:
    for options in ("ANALYZE", "(ANALYZE, TIMING OFF, COSTS OFF, BUFFERS)", "(analyze on, verbose true)", "ANALYZE VERBOSE"):
        expected, told = (explained(conn, f"EXPLAIN {options} {SORTED}", protocol) for conn in pair)
        assert told.fields == expected.fields
        parts = sections(lines_of(told))
        assert list(parts) == ["", COMPUTED]
        assert any("Seq Scan on" in line and "actual" in line for line in parts[""])
        assert any("rows=3" in line and "Sort" in line for line in parts[COMPUTED])
        assert any("Execution Time" in line for line in parts[COMPUTED])
    assert "actual" not in "".join(lines_of(explained(pair[1], f"EXPLAIN (ANALYZE OFF) {SORTED}", protocol)))
    assert "actual" not in "".join(lines_of(explained(pair[1], f"EXPLAIN (ANALYZE, ANALYZE 0) {SORTED}", protocol)))


def test_parameters(pair: tuple[Connection, Connection]) -> None:
    statement = "EXPLAIN (ANALYZE, COSTS OFF) SELECT id FROM patients WHERE ssn = $1 AND full_name ILIKE $2 ORDER BY full_name"
    ssn = pair[0].execute("SELECT ssn FROM patients WHERE id = 2").fetchone()
    assert ssn is not None
    parts = sections(lines_of(explained(pair[1], statement, "extended", (ssn[0], "%"))))
    assert any("rows=1" in line for line in parts[""]), parts
    assert any("rows=1" in line for line in parts[COMPUTED]), parts


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("statement", [
    APPENDED,
    "UPDATE patients SET notes = upper(full_name), city = 'x' WHERE notes LIKE '%' RETURNING id",
    "DELETE FROM visits WHERE diagnosis || 'x' LIKE '%x' AND id < 3",
    "INSERT INTO patients (id, ssn, notes) VALUES (40, reverse('abc'), 'n'), (41, upper('abc'), now()::date::text)",
    "INSERT INTO visits (id, patient_id, diagnosis) SELECT id + 90, id, upper(full_name) FROM patients",
    "MERGE INTO patients p USING (VALUES (1, 'a'), (70, 'b')) AS s (id, x) ON p.id = s.id"
    " WHEN MATCHED THEN UPDATE SET notes = p.notes || s.x WHEN NOT MATCHED THEN INSERT (id, notes) VALUES (s.id, upper(s.x))",
])  # fmt: skip
def test_a_write_is_carried_out(
    split_clinic: Clinic, pair: tuple[Connection, Connection], statement: str, protocol: Protocol
) -> None:
    expected, told = (explained(conn, f"EXPLAIN (ANALYZE, COSTS OFF) {statement}", protocol) for conn in pair)
    assert told.fields == expected.fields
    parts = sections(lines_of(told))
    assert list(parts) == ["", COMPUTED, WRITTEN]
    wrote = re.match(r"(\w+) on (\w+)", lines_of(expected)[0])
    assert wrote is not None
    assert parts[WRITTEN][0].startswith(wrote[0]), parts
    assert all(any("Execution Time" in line for line in part) for part in parts.values())
    split_clinic.assert_twins_equal()
    assert len(pair[1].execute("SELECT id FROM patients ORDER BY full_name").fetchall()) >= 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_write_whose_returning_is_computed(split_clinic: Clinic, pair: tuple[Connection, Connection], protocol: Protocol) -> None:
    statement = "EXPLAIN (ANALYZE, COSTS OFF) UPDATE patients SET city = 'Ogden' WHERE id = 2 RETURNING upper(full_name)"
    for conn in pair:
        told = explained(conn, statement, protocol)
    parts = sections(lines_of(told))
    assert list(parts) == ["", ONCE, COMPUTED]
    assert any("Update on patients" in line for line in parts[ONCE])
    assert "actual" not in "".join(parts[ONCE])
    assert any("rows=1" in line for line in parts[COMPUTED])
    split_clinic.assert_twins_equal()
    # computed both in what is stored and in what is returned: written by the second of two splits
    statement = "EXPLAIN (ANALYZE) UPDATE patients SET notes = notes || 'z' WHERE id = 3 RETURNING length(notes)"
    for conn in pair:
        told = explained(conn, statement, protocol)
    lines = lines_of(told)
    assert [line for line in lines if line in (COMPUTED, ONCE, WRITTEN)] == [COMPUTED, ONCE, COMPUTED]
    split_clinic.assert_twins_equal()


def test_what_is_volatile_is_done_once(pair: tuple[Connection, Connection]) -> None:
    for conn in pair:
        explained(conn, "EXPLAIN ANALYZE SELECT upper(full_name), nextval('visits_id_seq') FROM patients")
    assert len({conn.execute("SELECT nextval('visits_id_seq')").fetchone() for conn in pair}) == 1


@pytest.mark.parametrize("statement", [
    "EXPLAIN ANALYZE SELECT 1 / (length(full_name) - length(full_name)) FROM patients",
    "EXPLAIN ANALYZE UPDATE patients SET notes = (1 / (length(notes) - length(notes)))::text",
    "EXPLAIN ANALYZE UPDATE patients SET id = 1, notes = notes || 'x' WHERE id = 2",
    "EXPLAIN ANALYZE UPDATE patients SET city = 'nowhere' RETURNING 1 / (length(notes) - length(notes))",
    "EXPLAIN (ANALYZE maybe) SELECT upper(full_name) FROM patients",
    "EXPLAIN (TIMING) SELECT upper(full_name) FROM patients",
    "EXPLAIN (WAL) SELECT upper(full_name) FROM patients",
    "EXPLAIN (ANALYZE, FORMAT html) SELECT upper(full_name) FROM patients",
    "EXPLAIN (ANALYZE) SELECT full_name || nothing FROM patients",
])  # fmt: skip
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_fails(split_clinic: Clinic, pair: tuple[Connection, Connection], statement: str, protocol: Protocol) -> None:
    said = []
    for conn in pair:
        conn.execute("BEGIN")
        if protocol == "simple":
            outcome = results.simple(conn.pgconn, statement)[-1]
        else:
            outcome = results.extended(conn.pgconn, statement, (), results.Form())[-1]
        said.append((outcome.sqlstate, outcome.message, outcome.position))
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        conn.execute("ROLLBACK")
    assert said[1] == said[0]
    split_clinic.assert_twins_equal()


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_for_programs(split_clinic: Clinic, pair: tuple[Connection, Connection], prepare: bool, binary: bool) -> None:
    def plans(form: str, statement: str) -> Any:
        for conn in pair:
            cursor = conn.execute(
                f"EXPLAIN (ANALYZE, FORMAT {form}, SETTINGS) {statement}".encode(), prepare=prepare, binary=binary
            )
            (row,) = cursor.fetchall()
            assert cursor.statusmessage == "EXPLAIN"
        return row[0]

    returning = "UPDATE patients SET notes = notes || 'y' WHERE id = 1 RETURNING upper(notes)"
    for statement, parts in ((SORTED, 2), (APPENDED, 3), (returning, 4)):
        told = plans("json", statement)
        assert len(told) == parts
        assert told[1]["Execution Time"] >= 0
        assert len(list(ET.fromstring(plans("xml", statement)))) == parts
        assert len(yaml.safe_load(plans("yaml", statement))) == parts
    assert plans("json", APPENDED)[2]["Plan"]["Operation"] == "Update"
    split_clinic.assert_twins_equal()


def test_an_insert_that_counts_its_rows_is_refused(pair: tuple[Connection, Connection]) -> None:
    statement = (
        "INSERT INTO patients (id, notes) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET notes = patients.notes || EXCLUDED.notes"
    )
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="EXPLAIN ANALYZE") as refused:
        pair[1].execute(f"EXPLAIN ANALYZE {statement}".encode())
    assert "without ANALYZE" in str(refused.value.diag.message_hint)
    assert pair[1].execute(f"EXPLAIN {statement}".encode()).fetchall()
