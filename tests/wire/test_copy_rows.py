"""Lines of COPY data: cut anywhere, kept until their end, never longer than the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.wire.copy_rows import Lines, RowTooLong, missing_or_extra
from tests.wire.copies import chunks


@given(
    st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), min_size=1),
    st.lists(st.integers(0, 99)),
)
def test_any_cut_gives_the_same_lines(wanted: list[bytes], cuts: list[int]) -> None:
    for eol in (b"\n", b"\r\n", b"\r"):
        lines = Lines(1 << 20, eol)
        data = eol.join([*wanted, b"rest"])
        found = [line for piece in chunks(data, cuts) for line in lines.cut(lines.whole(piece))]
        assert found == wanted
        assert lines.take() == b"rest"
        assert lines.take() == b""


def test_a_line_without_end_is_refused_at_the_limit() -> None:
    lines = Lines(10, b"\n")
    assert lines.cut(lines.whole(b"0123456789")) == []
    with pytest.raises(RowTooLong) as caught:
        lines.whole(b"x")
    assert caught.value.sqlstate == "54000"


def test_the_words_of_postgresql() -> None:
    assert missing_or_extra(1, ("a", "b")) == 'missing data for column "b"'
    assert missing_or_extra(3, ("a", "b")) == "extra data after last expected column"
