"""What becomes of a statement: of a new answer nothing is assumed, and an occurrence can be moved to another text."""

from __future__ import annotations

import dataclasses

from phiproxy.sql.result import Answered, Occurrence
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.uses import NULLNESS, PLAIN


def test_nothing_is_assumed_of_a_new_answer() -> None:
    answer = Answered("other", 0, 1)
    assert not answer.touches
    assert answer.outputs is None
    assert not answer.plain_select


def test_an_occurrence_of_another_text_is_the_same_but_for_its_offsets_and_its_value() -> None:
    formula = Formula("parameter", number=1)
    other = Occurrence(1, 2, PLAIN)
    one = Occurrence(
        3, 4, NULLNESS, 5, b"x", 6, 7, 8, cast=True, lead=b"l", trail=b"t", formula=formula, other=other, computed=formula
    )
    defaults = Occurrence(0, 0, PLAIN)
    assert all(getattr(one, f.name) != getattr(defaults, f.name) for f in dataclasses.fields(one)), "every field is tried"
    assert one.at(9, 10, b"y") == dataclasses.replace(one, start=9, end=10, literal=b"y")
