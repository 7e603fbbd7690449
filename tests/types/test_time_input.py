"""What is read as a date and time, what is refused, and with which error; that the server agrees is tested with the types."""

from __future__ import annotations

import pytest

from phiproxy.errors import ValueRefused
from phiproxy.types.styles import Styles
from phiproxy.types.time_input import read

DMY = Styles(date_order="DMY")
YMD = Styles(date_order="YMD")


@pytest.mark.parametrize(
    ("text", "styles", "date"),
    [
        ("2001-02-03", Styles.CANONICAL, (2001, 2, 3)),
        ("02/03/2001", Styles.CANONICAL, (2001, 2, 3)),
        ("02/03/2001", DMY, (2001, 3, 2)),
        ("01/02/03", YMD, (2001, 2, 3)),
        ("3.2.01", DMY, (2001, 2, 3)),
        ("February 3, 2001", Styles.CANONICAL, (2001, 2, 3)),
        ("3-Feb-71", YMD, (2003, 2, 71)),
        ("99-Feb-03", YMD, (1999, 2, 3)),
        ("3 Feb 0044 BC", Styles.CANONICAL, (-43, 2, 3)),
        ("20010203", DMY, (2001, 2, 3)),
        ("700203", DMY, (1970, 2, 3)),
        ("2001-02-03T04:05:06Z", DMY, (2001, 2, 3)),
        ("Sat Feb 03 04:05:06 2001 CET", Styles(time_zone="Europe/Berlin"), (2001, 2, 3)),
    ],
)
def test_dates(text: str, styles: Styles, date: tuple[int, int, int]) -> None:
    if date[2] > 31:
        with pytest.raises(ValueRefused, match="out of range"):
            read(text.encode(), styles, "date")
        return
    assert read(text.encode(), styles, "date").date == date


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("04:05", 14_700_000_000),
        ("4:05 PM", 57_900_000_000),
        ("12:00 am", 0),
        ("24:00:00", 86_400_000_000),
        ("00:00:60", 60_000_000),
    ],
)
def test_times(text: str, micros: int) -> None:
    assert read(text.encode(), Styles.CANONICAL, "time").time == micros


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("", "22007"),
        ("abc", "22007"),
        ("2001-13-01", "22008"),
        ("2001-02-29", "22008"),
        ("0000-01-01", "22008"),
        ("25:00", "22008"),
        ("13:00 pm", "22008"),
        ("2001-02-03 04:05+17", "22009"),
        ("3-Foo-2001", "22007"),
        ("now", "0A000"),
        ("today 04:05", "0A000"),
        ("J2451187", "0A000"),
        ("2001-02-03 04:05 EST", "0A000"),
        ("8 1999 Jan", "0A000"),
        ("2001-02-03-04", "0A000"),
    ],
)
def test_refused(text: str, sqlstate: str) -> None:
    with pytest.raises(ValueRefused) as error:
        read(text.encode(), Styles.CANONICAL, "date")
    assert error.value.sqlstate == sqlstate
    assert (sqlstate == "0A000") is (error.value.hint is not None)


def test_the_clock_is_the_servers() -> None:
    with pytest.raises(ValueRefused) as error:
        read(b"tomorrow", Styles.CANONICAL, "date")
    assert error.value.hint is not None
    assert "clock" in error.value.hint
