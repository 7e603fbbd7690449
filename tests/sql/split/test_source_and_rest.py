"""Splits: source and rest of the fixtures as they are spelled, what is told of them, and what is not split."""

from __future__ import annotations

import sys

import pytest

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.plan import whether_split
from phiproxy.plan.without_engine import WITH_ENGINE, refusal_of
from phiproxy.sql.result import Origin, Split
from tests.fixtures.cases import CASES, Case, fill
from tests.fixtures.model import VIEW, planner
from tests.sql.split.ask import shown, split_of


def _value(word: str) -> str:
    return f"Zoë-{word}-9"


SPLIT = [case for case in CASES if case.rest]


@pytest.mark.parametrize("case", SPLIT, ids=lambda case: case.id)
def test_source_and_rest(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the rest as in the client's text is told; without an engine the refusal says what would answer."""
    statement, _ = case.with_values(_value)
    refused_for: list[Split] = []

    def noted(split: Split) -> StatementRefused | ValueRefused:
        refused_for.append(split)
        return refusal_of(split)

    monkeypatch.setattr(whether_split, "refusal_of", noted)
    with pytest.raises(StatementRefused) as refused:  # the server answers the source, else there were another hint
        planner(case.since).statement(statement.encode(), case.types, VIEW)
    assert (refused.value.hint or "").endswith(WITH_ENGINE)
    (split,) = refused_for
    write = split.write.text.decode() if split.write is not None else ""
    said = split.source.decode(), shown(split.rest), shown(split.described), write
    assert said == tuple(fill(text, _value) for text in (case.source, case.rest, case.described, case.write))
    for rest in (split.rest, split.described):
        whole = b"".join(rest.parts)
        assert all(whole[start:end] == statement.encode()[at : at + end - start] for start, end, at in rest.spans)


NOT_SPLIT = [
    "UPDATE visits v SET room = 'r' FROM patients p WHERE p.id = v.patient_id RETURNING upper(p.ssn), (SELECT max(id) FROM visits)",
    "UPDATE visits v SET room = 'r' FROM patients p WHERE p.id = v.patient_id RETURNING upper(p.ssn), p",
    "WITH w AS (DELETE FROM visits v USING patients WHERE patients.id = v.patient_id RETURNING upper(ssn)) SELECT count(*) FROM w",
    "SELECT q.full_name || q.x FROM (SELECT full_name, set_config('datestyle', 'German', false) AS x FROM patients) q",
    "SELECT id FROM patients WHERE full_name LIKE '%a%' AND set_config('x.y', city, false) = 'a'",
    "SELECT random(), upper(ssn) FROM patients ORDER BY id",
    "SELECT random(), id FROM patients WHERE upper(ssn) = 'x'",
    "SELECT random(), upper(ssn) FROM patients p, visits v WHERE p.ssn < v.diagnosis",
    "SELECT random(), max(ssn) FROM patients",
    "SELECT CASE WHEN active THEN random() END, upper(ssn) FROM patients",
    "SELECT severity(ssn) FROM patients",
    "SELECT severity(city), max(ssn) FROM patients GROUP BY city",
    "SELECT max(severity(city)) FILTER (WHERE id > 1), max(ssn) FROM patients",
    "SELECT severity('x' || city), ssn || 'x' FROM patients",
    "SELECT *, severity(city), upper(ssn) FROM patients",
    "SELECT read_ssn(id), upper(ssn) FROM patients",
    "SELECT upper(ssn) FROM patients WHERE 'patients'::regclass = 1",
    "SELECT to_regclass(ssn) FROM patients",
    "SELECT upper(ssn) INTO copies FROM patients",
    "SELECT upper(p.ssn) FROM patients p, pairs()",
    "SELECT upper(patients.ssn), log.id, archive.patients.id FROM patients, archive.patients, log",
    "SELECT upper(p.ssn) FROM patients p LEFT JOIN visits v ON p.full_name < v.diagnosis FOR UPDATE",
    "SELECT max(ssn) FROM patients FOR UPDATE",
    'SELECT ssn COLLATE "en-x-icu" FROM patients ORDER BY upper(ssn)',
    "SELECT *, ctid, upper(ssn) FROM patients",
    "SELECT nextval(ssn), upper(ssn) FROM patients",
    "SELECT upper(ssn) FROM patients WHERE current_setting(city) = ssn",
    "CREATE TABLE copies AS SELECT upper(ssn) AS u FROM patients",
]


@pytest.mark.parametrize("statement", NOT_SPLIT)
def test_not_split(statement: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        planner().statement(statement.encode(), (), VIEW)
    assert WITH_ENGINE not in (refused.value.hint or "")


def test_the_columns_of_the_source_and_of_the_result() -> None:
    split = split_of("SELECT p.mrn AS m, upper(p.ssn), x.id FROM patients p JOIN (SELECT id FROM visits) x USING (id)")
    assert split is not None
    assert [(c.type.name, c.typmod) for c in split.columns] == [
        ("bool", -1), ("int4", -1), ("varchar(12)", 16), ("text", -1), ("bool", -1), ("int4", -1), ("varchar(12)", 16),
    ]  # fmt: skip
    assert split.origins == (Origin(100, 2), None, Origin(101, 1))
    assert split.rest.parameters == ()


def test_what_nested_queries_take_grows_with_the_square_at_most() -> None:
    def nested(levels: int) -> str:
        joined = (" JOIN visits v ON v.patient_id = q.id AND v.diagnosis > q.ssn) q" for _ in range(levels))
        return f"SELECT upper(q.ssn) FROM {'(SELECT q.ssn, q.id FROM ' * levels}patients q{''.join(joined)}"

    def calls(levels: int) -> int:
        counted = 0

        def count(_frame: object, event: str, _given: object) -> None:
            nonlocal counted
            counted += event == "call"

        sys.setprofile(count)
        try:
            assert split_of(nested(levels)) is not None
        finally:
            sys.setprofile(None)
        return counted

    calls(3)  # what is remembered
    assert calls(32) < 5 * calls(16)
