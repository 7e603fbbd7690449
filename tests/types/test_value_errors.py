"""PostgreSQL's errors without the value."""

from __future__ import annotations

import pytest

from phiproxy.errors import ValueRefused
from phiproxy.types.value_errors import bad_datetime, bad_syntax, expect_length, field_overflow, out_of_range


def test_sqlstates() -> None:
    assert [e.sqlstate for e in (bad_syntax("x"), bad_datetime("x"), out_of_range("x"), field_overflow())] == [
        "22P02",
        "22007",
        "22003",
        "22008",
    ]


def test_length() -> None:
    assert expect_length(b"ab", 2) == b"ab"
    for field, sqlstate in ((b"a", "08P01"), (b"abc", "22P03")):
        with pytest.raises(ValueRefused) as error:
            expect_length(field, 2)
        assert error.value.sqlstate == sqlstate
