"""Which rows the source of an UPDATE or DELETE locks: those of the join, where the server can decide it."""

from __future__ import annotations

import pytest

from tests.sql.split.ask import split_of

JOINED = [
    "UPDATE patients p SET notes = p.notes || v.room FROM visits v WHERE v.patient_id = p.id AND v.id = 1",
    "UPDATE patients p SET notes = upper(p.notes) FROM visits v WHERE v.patient_id = p.id AND p.full_name ILIKE 'a%'",
    "DELETE FROM patients p USING visits v, members m WHERE v.patient_id = p.id AND m.mrn = p.mrn AND p.notes > v.diagnosis",
    "UPDATE patients p SET notes = p.notes || o.notes FROM patients o WHERE o.id = p.id + 1",
]


def _source(text: str) -> str:
    split = split_of(text)
    assert split is not None
    assert split.locks
    return split.source.decode()


@pytest.mark.parametrize("text", JOINED)
def test_the_join_is_the_source(text: str) -> None:
    source = _source(text)
    assert source.endswith(' OF "p"')
    assert "FULL JOIN" not in source


def test_a_join_that_needs_the_plaintext_is_not() -> None:
    assert "FULL JOIN" in _source("UPDATE patients p SET notes = 'x' FROM visits v WHERE v.diagnosis < p.notes")


@pytest.mark.parametrize(
    ("given", "condition", "seen"),
    [
        (
            "(VALUES ($1::int, $2), ($3, 'x')) AS v (id, n)",
            "v.id = p.id",
            '(VALUES ($1::int), ($2)) AS "v" ("id") WHERE v.id = p.id',
        ),
        (
            "(VALUES (1, 'x'), (2, 'y')) AS v (id, n)",
            "p.notes > v.n AND (v.id = p.id) AND v.n IS NOT NULL RETURNING p.id",
            '(VALUES (1), (2)) AS "v" ("id") WHERE (v.id = p.id)',
        ),
        ("(VALUES ($1, $2)) AS v (mrn, n)", "v.mrn = p.mrn", '(VALUES ($1)) AS "v" ("mrn") WHERE v.mrn = p.mrn'),
    ],
)
def test_of_given_rows_what_is_compared_tells_the_rows(given: str, condition: str, seen: str) -> None:
    source = _source(f"UPDATE patients p SET notes = p.notes || v.n FROM {given} WHERE {condition}")
    assert f"WHERE EXISTS (SELECT true FROM {seen})" in source


def test_of_given_rows_that_only_the_plaintext_is_compared_with_all_are_locked() -> None:
    source = _source("UPDATE patients p SET notes = 'a' || v.n FROM (VALUES (1, 'x')) AS v (id, n) WHERE p.notes > v.n")
    assert source.endswith(" FROM patients p FOR NO KEY UPDATE")
