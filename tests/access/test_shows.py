"""What a policy may say of a column, and which of it shows less."""

from __future__ import annotations

import pytest

from phiproxy.access.shows import DENY, NULL, OPEN, Show, read_show


@pytest.mark.parametrize(
    ("text", "show"),
    [
        ("open", OPEN),
        ("deny", DENY),
        (" null ", NULL),
        ("fixed(***)", Show("fixed", "***")),
        ("fixed()", Show("fixed", "")),
        ("fixed(a (b) c)", Show("fixed", "a (b) c")),
        ("first(3)", Show("first", left=3)),
        ("last( 4 )", Show("last", right=4)),
        ("partial(2, 4)", Show("partial", left=2, right=4)),
        *((kind, Show(kind)) for kind in ("year", "month", "age90", "zip3", "email", "pseudonym")),
    ],
)
def test_it_is_read_and_spelled(text: str, show: Show) -> None:
    assert read_show(text) == show
    assert read_show(str(show)) == show


NOTHING = [
    "", "none", "NULL", "first", "first()", "first(-1)", "first(0)", "last(x)", "partial(2)", "partial(0,0)", "fixed",
    "year(1)", "hash",
]  # fmt: skip


@pytest.mark.parametrize("text", NOTHING)
def test_nothing_else_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"none of open|shows no character"):
        read_show(text)


def test_what_shows_less_comes_first() -> None:
    spelled = ["deny", "null", "fixed(x)", "pseudonym", "age90", "year", "month", "zip3", "email", "first(1)", "last(2)", "open"]
    shows = [read_show(text) for text in spelled]
    shuffled = [*shows[::2], *shows[1::2]]
    assert sorted(shuffled, key=lambda show: show.restriction) == shows
    assert [show for show in shows if not show.needs_value] == shows[1:3]
    assert [show.shows_all for show in shows].index(True) == len(shows) - 1
    assert [show.denies for show in shows].index(True) == 0
