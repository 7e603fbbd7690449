"""Dates and times of day in canonical form (ISO, UTC), taken apart for extract and date_trunc. Astronomical years: 0 is 1 BC."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from phiproxy.types.calendar import FIRST_DAY, date_of, day_of
from phiproxy.types.dates import spell_date
from phiproxy.types.times_of_day import spell_time
from phiproxy.types.value_errors import DatetimeFieldOverflow

INFINITE = {b"infinity": 1, b"-infinity": -1}
_FORM = re.compile(
    rb"(?:(?P<year>\d{4,7})-(?P<month>\d\d)-(?P<day>\d\d))?"
    rb" ?(?:(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?(?: (?P<era>BC))?"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A date (``year`` to ``day``), a time of the day (``micros`` since its beginning), or both."""

    year: int = 2000
    month: int = 1
    day: int = 1
    micros: int = 0

    @property
    def days(self) -> int:
        """Days since 2000-01-01, which is 0; earlier ones are negative."""
        return day_of(self.year, self.month, self.day)

    @property
    def weekday(self) -> int:
        """0 is Monday."""
        return (self.days + 5) % 7

    @property
    def iso(self) -> tuple[int, int]:
        """Year and number of the ISO 8601 week."""
        thursday = self.days - self.weekday + 3
        year, _, _ = date_of(thursday)
        return year, (thursday - day_of(year, 1, 1)) // 7 + 1

    def written(self) -> bytes:
        """Return the canonical form of a timestamp; DatetimeFieldOverflow (22008) before its first day."""
        return self.written_date(self.written_time())

    def written_date(self, time: bytes = b"") -> bytes:
        """Return the canonical form of the date alone, or with a ``time`` behind it."""
        if self.days < FIRST_DAY:
            raise DatetimeFieldOverflow("timestamp out of range")
        date, _, era = spell_date(self.year, self.month, self.day).partition(b" ")
        return b" ".join(part for part in (date, time, era) if part)

    def written_time(self) -> bytes:
        """Return the canonical form of the time alone."""
        return spell_time(self.micros)

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
