"""What is read as an interval and what is refused; that the server agrees is tested with the type."""

from __future__ import annotations

import pytest

from phiproxy.errors import ValueRefused
from phiproxy.types.interval_input import DAY, HOUR, MINUTE, SECOND, read_interval
from phiproxy.types.styles import Styles

ALL = 0x7FFF
SECONDS = 1_000_000


@pytest.mark.parametrize(
    ("text", "fields", "parts"),
    [
        ("1 year 2 mons -3 days 04:05:06.7", ALL, (14, -3, 14_706_700_000)),
        ("@ 1 day 2 hours ago", ALL, (0, -1, -7200 * SECONDS)),
        ("1-2 3 4:05:06", ALL, (14, 3, 14_706 * SECONDS)),
        ("P1Y2M3DT4H5M6.7S", ALL, (14, 3, 14_706_700_000)),
        ("7", ALL, (0, 0, 7 * SECONDS)),
        ("7", DAY, (0, 7, 0)),
        ("7", DAY | HOUR, (0, 0, 7 * 3600 * SECONDS)),
        ("1:30", MINUTE | SECOND, (0, 0, 90 * SECONDS)),
        ("1.5 mons", ALL, (1, 15, 0)),
        ("1-2 -0.25 years", ALL, (11, 0, 0)),
    ],
)
def test_read(text: str, fields: int, parts: tuple[int, int, int]) -> None:
    assert read_interval(text, Styles.CANONICAL, fields) == parts


def test_the_standards_sign_is_the_whole_intervals() -> None:
    standard = Styles(interval_style="sql_standard")
    assert read_interval("-1 1:00:00", standard, ALL) == (0, -1, -3600 * SECONDS)
    assert read_interval("-1 +1:00:00", standard, ALL) == (0, -1, 3600 * SECONDS)
    assert read_interval("-1 1:00:00", Styles.CANONICAL, ALL) == (0, -1, 3600 * SECONDS)


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("", "22007"), ("day", "22007"), ("1 day mon", "0A000"),
        ("qtr 1 day", "0A000"), ("1 fortnight", "22007"), ("1 day 1 day", "22007"), ("1:60", "22015"),
        ("2147483648 days", "22015"), ("178956970 years 8 mons", "22008"), ("infinity", "0A000"), ("1 day ago 2 hours", "0A000"),
        ("1.04 years", "0A000"), ("0.0000005 s", "0A000"), ("P0001-02-03", "0A000"), ("1e3 s", "0A000"),
    ],
)  # fmt: skip
def test_refused(text: str, sqlstate: str) -> None:
    with pytest.raises(ValueRefused) as error:
        read_interval(text, Styles.CANONICAL, ALL)
    assert error.value.sqlstate == sqlstate
    assert (sqlstate == "0A000") is (error.value.hint is not None)
