"""Comments of a text of several statements: each statement blanks those around itself, and what is left is blanked behind all."""

from __future__ import annotations

from phiproxy.sql.result import Answered, Edit
from phiproxy.sql.rewrite.blank_comments import blank_others, blanked_comments
from phiproxy.sql.text.parse import Scan

TEXT = b"SELECT 1 /* a */; SELECT 2 -- b"


def test_alone_it_may_show_hints_among_others_nothing() -> None:
    hinted = b"SELECT 1 /*+ SeqScan(p) */"
    assert blanked_comments(Scan(hinted), (0, len(hinted)), (), {"p"}, bound=False) == []
    assert blanked_comments(Scan(hinted + b"; SELECT 2"), (0, 27), (), {"p"}, bound=False) == [Edit(9, 26, b" " * 17)]


def test_what_the_others_say_is_blanked_if_one_touches_something_protected() -> None:
    first, second = Answered("select", 0, 8, (0, 17)), Answered("select", 18, 26, (17, len(TEXT)))
    blank_others(Scan(TEXT), [first, second])
    assert not first.edits
    second.touches = True
    second.edits = [Edit(27, 31, b"    ")]
    blank_others(Scan(TEXT), [first, second])
    assert first.edits == [Edit(9, 16, b" " * 7)]
    assert second.edits == [Edit(27, 31, b"    ")], "once"
