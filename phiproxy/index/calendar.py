"""Dates and times of day in their canonical form (ISO, UTC), and the days between them: the Gregorian calendar, both ways for ever.

Years are astronomical here: 0 is 1 BC, as PostgreSQL counts inside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from phiproxy.errors import ValueRefused

INFINITE = {b"infinity": 1, b"-infinity": -1}
MICROS_PER_DAY = 86_400_000_000
_FORM = re.compile(
    rb"(?:(?P<year>\d{4,7})-(?P<month>\d\d)-(?P<day>\d\d))?"
    rb" ?(?:(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?(?: (?P<era>BC))?"
)
# The first moments of a timestamp, and of a date the first day: 4714-11-24 BC.
_FIRST_DAY = -1721426


class OutOfRange(ValueRefused):
    """A result that its type does not hold (22008)."""

    sqlstate = "22008"


@dataclass(frozen=True, slots=True)
class Moment:
    """A date (``year`` to ``day``), a time of the day (``micros`` since its beginning), or both."""

    year: int = 2000
    month: int = 1
    day: int = 1
    micros: int = 0

    @property
    def days(self) -> int:
        """Days since 0001-01-01, which is 0; earlier ones are negative."""
        return days_of(self.year, self.month, self.day)

    @property
    def weekday(self) -> int:
        """0 is Monday."""
        return self.days % 7

    @property
    def iso(self) -> tuple[int, int]:
        """Year and number of the ISO 8601 week."""
        thursday = date_of(self.days - self.weekday + 3)
        return thursday.year, (thursday.days - days_of(thursday.year, 1, 1)) // 7 + 1

    def written(self) -> bytes:
        """Return the canonical form of a timestamp; OutOfRange before its first day."""
        return self.written_date(self.written_time())

    def written_date(self, time: bytes = b"") -> bytes:
        """Return the canonical form of the date alone, or with a ``time`` behind it."""
        if self.days < _FIRST_DAY:
            raise OutOfRange("timestamp out of range")
        year, era = (self.year, b"") if self.year > 0 else (1 - self.year, b" BC")
        return b"%04d-%02d-%02d" % (year, self.month, self.day) + (b" " + time if time else b"") + era

    def written_time(self) -> bytes:
        """Return the canonical form of the time alone."""
        seconds, micros = divmod(self.micros, 1_000_000)
        fraction = (b".%06d" % micros).rstrip(b"0") if micros else b""
        return b"%02d:%02d:%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60) + fraction

    def at_midnight(self) -> Moment:
        """Return the beginning of the day."""
        return replace(self, micros=0)


def parse(value: bytes) -> Moment:
    """Read the canonical form of a finite date, time or timestamp; ValueError for anything else."""
    match = _FORM.fullmatch(value)
    if match is None or not value:
        raise ValueError("not the canonical form of a date or time")
    year, month, day = (int(match[name] or of) for name, of in (("year", 2000), ("month", 1), ("day", 1)))
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + int((match["fraction"] or b"0").ljust(6, b"0"))
    return Moment(1 - year if match["era"] else year, month, day, micros)


def days_of(year: int, month: int, day: int) -> int:
    """Return the days since 0001-01-01."""
    if month < 3:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 307


def date_of(days: int) -> Moment:
    """Return the date of a number of days since 0001-01-01."""
    # of the 400 years that begin on the 1st of March of the year 0
    era, day = divmod(days + 306, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    return Moment(era * 400 + year + (month >= 10), month + 3 - 12 * (month >= 10), day + 1)
