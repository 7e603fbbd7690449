"""Long values: cut and copied without loss, and their work done here or by whoever is asked for it."""

from __future__ import annotations

import pytest

from phiproxy import longvalues
from phiproxy.errors import LongWorkNeeded
from phiproxy.longvalues import LongWork, copied, cut


def test_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longvalues, "PIECE", 4)
    data = bytes(range(23))
    for begin in range(24):
        for end in range(begin, 24):
            pieces = [*cut(data, begin, end)]
            assert b"".join(pieces) == copied(data, begin, end) == data[begin:end]
            assert all(0 < len(piece) <= 4 for piece in pieces)


def test_work_is_done_here_where_nobody_says_otherwise() -> None:
    assert LongWork().do(lambda: 7) == 7


def test_work_is_asked_for_until_its_outcomes_are_given() -> None:
    work, outcomes = LongWork(), list[object]()
    with work.given(outcomes), pytest.raises(LongWorkNeeded) as needed:
        work.do(lambda: "first")
    outcomes.append(needed.value.work())
    with work.given(outcomes):
        assert work.do(lambda: "not done again") == "first"
        with pytest.raises(LongWorkNeeded) as needed:
            work.do(lambda: "second")
    outcomes.append(needed.value.work())
    with work.given(outcomes):
        assert [work.do(str), work.do(str)] == ["first", "second"]
    assert work.do(lambda: "here") == "here"
