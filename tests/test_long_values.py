"""Long values: cut and copied without loss, and their work done here or by whoever is asked for it."""

from __future__ import annotations

import pytest

from phiproxy import long_values
from phiproxy.errors import LongWorkNeeded
from phiproxy.long_values import LongWork, copied, cut


def test_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_values, "PIECE", 4)
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


def test_what_is_done_in_pieces_gives_what_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_values, "PIECE", 4)
    monkeypatch.setattr(long_values, "LONG_VALUE", 4)
    data = "ab,,cé,€\U0001f600, ,end".encode()
    for part in (b",", b",,", "é".encode(), b"end", b"d,", b"no"):
        for begin in range(len(data)):
            assert long_values.found_at(data, part, begin) == data.find(part, begin)
        assert long_values.holds(data, part) == (part in data)
        assert long_values.parted(data, part) == data.split(part)
    assert long_values.decoded(data) == data.decode()
    assert long_values.encoded(data.decode()) == data
    assert long_values.hexlified(data).decode() == data.hex()
    assert long_values.hexlified(data, b"\\x", b'"').decode() == f'\\x{data.hex()}"'
    pieces = [*cut(data, 0, len(data), 1)]
    assert (long_values.together(pieces), pieces) == (data, [])


@pytest.mark.parametrize("data", [b"abcdefgh\xe9", b"abcde\xffgh", "abcdefg€".encode()[:-1]])
def test_what_is_no_utf8_is_told_as_of_the_whole(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_values, "PIECE", 4)
    monkeypatch.setattr(long_values, "LONG_VALUE", 4)
    with pytest.raises(UnicodeDecodeError) as at_once:
        data.decode()
    with pytest.raises(UnicodeDecodeError) as in_pieces:
        long_values.decoded(data)
    assert in_pieces.value.args == at_once.value.args


def test_what_nobody_needs_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_values, "FEW", 2)
    inner, items = {"a": [1, 2]}, ["x", "y", "z", "w", "v"]
    value = {"few": inner, "b": items, "c": {"d": {}, "e": [[]], "f": 1}, "g": None}
    parts = [value, inner, items, inner["a"], value["c"]]
    long_values.take_apart(value, items)
    assert parts == [{}, {}, [], [], {}]
    long_values.empty(items := [*range(5)])
    assert items == []
