"""EXPLAIN ANALYZE: what the server is asked to explain, and what the engine and the write are."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from phiproxy.sql.result import Split
from phiproxy.sql.split.explained import explained_as, is_analyzed
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import VIEW, planner

MODEL = planner()
PLANNER = Planner(MODEL.protection, MODEL.catalog, MODEL.ciphers, EngineFacts())
SOURCE = "SELECT upper(ssn) FROM patients"


def body_of(options: str) -> dict[str, object]:
    (statement,) = parse(f"EXPLAIN {options} SELECT 1".encode())
    return statement.body


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("ANALYZE", True), ("ANALYSE VERBOSE", True), ("(ANALYZE, TIMING off)", True), ("(ANALYZE 1)", True),
        ("(ANALYZE maybe)", True), ("(ANALYZE off, ANALYZE)", True), ("", False), ("VERBOSE", False), ("(ANALYZE off)", False),
        ("(ANALYZE 'False')", False), ("(ANALYZE 0, FORMAT json)", False), ("(ANALYZE, ANALYZE off)", False),
    ],
)  # fmt: skip
def test_what_executes(options: str, expected: bool) -> None:
    assert is_analyzed(body_of(options)) == expected


@pytest.mark.parametrize(("options", "form"), [("", "text"), ("(FORMAT 'JSON')", "json"), ("(FORMAT xml, FORMAT yaml)", "yaml")])
def test_format(options: str, form: str) -> None:
    assert explained_as(body_of(options)) == form


def split_of(text: str) -> Split:
    plan = PLANNER.statement(text.encode(), (), VIEW)
    assert isinstance(plan, SplitPlan)
    assert plan.sql == plan.source.sql
    return plan.split


def test_a_select() -> None:
    split = split_of(f"EXPLAIN  (ANALYZE, /* any */ COSTS off) {SOURCE}")
    assert split.analyzed is not None
    assert split.analyzed.lead == b"EXPLAIN  (ANALYZE,           COSTS off) "
    assert not split.analyzed.planned
    assert split.rest.parts[0].startswith(b"EXPLAIN  (ANALYZE,           COSTS off) SELECT upper(ssn)")
    assert split.plain_select


@pytest.mark.parametrize(
    ("text", "lead"),
    [
        ("EXPLAIN ANALYZE SELECT upper(ssn), random() FROM patients", b"EXPLAIN "),
        ("EXPLAIN (ANALYZE, TIMING off, WAL, FORMAT 'json', COSTS 0) SELECT upper(ssn), random() FROM patients",
         b"EXPLAIN (format json, costs 0) "),
        ("EXPLAIN (ANALYZE, FORMAT 'x; y') UPDATE patients SET active = true RETURNING upper(ssn)", b"EXPLAIN (format 'x; y') "),
    ],
)  # fmt: skip
def test_what_is_run_once_is_only_planned(text: str, lead: bytes) -> None:
    split = split_of(text)
    assert split.analyzed == (lead, True)


def test_a_write() -> None:
    split = split_of("EXPLAIN ANALYZE UPDATE patients SET notes = notes || 'x'")
    assert split.write is not None
    assert split.write.text.startswith(b'EXPLAIN ANALYZE UPDATE patients SET "notes" =')
    start, end, at = split.write.spans[0]
    assert split.write.text[start:end] == b"EXPLAIN ANALYZE UPDATE patients SET notes = notes || 'x'"[at : at + end - start]
    assert split.rest.parts[0].startswith(b"SELECT pg_catalog.array_agg")
    assert not split.plain_select


@pytest.mark.parametrize("value", [b"'x'", b"gen_random_uuid()::text"])
def test_an_insert_that_counts_its_rows(value: bytes) -> None:
    text = b"INSERT INTO patients (id, notes) VALUES (1, %b) ON CONFLICT (id) DO UPDATE SET notes = patients.notes || 'x'" % value
    assert isinstance(PLANNER.statement(b"EXPLAIN " + text, (), VIEW), SplitPlan)
    with pytest.raises(StatementRefused, match="EXPLAIN ANALYZE"):
        PLANNER.statement(b"EXPLAIN ANALYZE " + text, (), VIEW)
