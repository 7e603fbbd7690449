"""Whom an execution is about: each of a few, or how many there were, or that it is not known."""

from __future__ import annotations

from phiproxy.plan.counted_subjects import Collected, Whom, whom
from phiproxy.sql.result import Given, Subject

ROWS = Subject("p.id", "integer", output=0)
GIVEN = Subject("p.id", "integer", given=(Given(1),))
UNKNOWN = Subject("p.id", "integer")


def said(*subjects: Subject, noted: list[tuple[int, bytes]], limit: int = 3) -> tuple[Whom, ...]:
    collected = Collected(limit)
    for one in noted:  # in pieces, as they come
        collected.add([one])
    return whom(subjects, collected)


def test_each_is_told_once() -> None:
    assert said(ROWS, noted=[(0, b"1"), (0, b"2"), (0, b"1")]) == (Whom("p.id", (b"1", b"2")),)
    assert said(GIVEN, noted=[(0, b"1")]) == (Whom("p.id", (b"1",)),)


def test_of_too_many_their_rows_are_counted() -> None:
    assert said(ROWS, noted=[(0, b"%d" % (n % 4)) for n in range(9)]) == (Whom("p.id", rows=9),)
    collected = Collected(3)
    collected.add((0, b"%d" % n) for n in range(1000))
    assert len(collected.values[0]) == 4


def test_no_row_is_about_nobody() -> None:
    assert said(ROWS, noted=[]) == ()


def test_what_is_not_known_is_told() -> None:
    assert said(UNKNOWN, noted=[]) == (Whom("p.id", unknown=True),)
    assert said(GIVEN, noted=[]) == (Whom("p.id", unknown=True),), "a value that is none of the column's"
    assert said(ROWS, UNKNOWN, noted=[(0, b"1")]) == (Whom("p.id", (b"1",), unknown=True),)


def test_two_relations_of_one_table_are_told_together() -> None:
    assert said(ROWS, GIVEN, noted=[(0, b"1"), (1, b"2")]) == (Whom("p.id", (b"1", b"2")),)
    other = Subject("v.pid", "integer", output=0)
    assert [each.label for each in said(ROWS, other, noted=[(0, b"1"), (1, b"1")])] == ["p.id", "v.pid"]
