"""How a session's text is read as date, time and zone (manual 8.5.1 and appendix B).

Read is what PostgreSQL itself prints in every DateStyle, ISO 8601, and dates as people write them: ``2001-02-03 04:05+02``,
``20010203T040506Z``, ``02/03/2001 4:05 PM``, ``Sat Feb 03 04:05:06 2001 CET``. What it may take beside (Julian days, days of the
year, ``now``, numbers that mean what stands around them says) is refused with a hint, never guessed. Own grammar: no library reads
these as PostgreSQL does.
"""

import re
from dataclasses import dataclass
from typing import NoReturn

from phiproxy.types.calendar import MONTHS, day_of, days_in
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import (
    InvalidTimeZoneDisplacement,
    NotReadExactly,
    bad_datetime,
    field_overflow,
)
from phiproxy.types.zones import Zone, abbreviation, known_zone

HINT = "write it as 2001-02-03 04:05:06+02"
_CLOCK_HINT = "the server's clock decides this: send the date itself"
_MONTH = "[a-z]{3,9}"
_TOKEN = re.compile(
    rf"""[ \t\n\r\v\f,]*(?:
    (?P<date>[0-9]{{1,9}}([-/.])[0-9]{{1,2}}\2[0-9]{{1,9}}(?![-/.0-9])
           | [0-9]{{1,9}}([-/.]){_MONTH}\3[0-9]{{1,9}}(?![-/.0-9a-z])
           | {_MONTH}([-/])[0-9]{{1,2}}\4[0-9]{{1,9}}(?![-/.0-9a-z+_:]))
    | (?P<time>[0-9]{{1,3}}:[0-9]{{1,3}}(?::[0-9]{{1,3}}(?:\.[0-9]+)?)?(?![:.0-9]))
    | t(?P<compact>[0-9]{{4}}|[0-9]{{6}}(?:\.[0-9]+)?)(?![.:0-9])
    | (?P<offset>[+-][0-9]{{1,2}}(?::[0-9]{{1,2}}){{1,2}} | [+-][0-9]{{1,4}})(?![-+:.0-9a-z])
    | (?P<name>[a-z]+/[a-z0-9/_+-]+)
    | (?P<word>t(?=[0-9]) | [a-z]+(?![-/_.+0-9a-z]))
    | (?P<number>[0-9]+)(?![-/.:0-9])
    )[ \t\n\r\v\f,]*""",
    re.VERBOSE,
)
_MONTH_NAMES = "january february march april may june july august september october november december"
_MONTHS = {name.lower(): n for n, name in enumerate(MONTHS, 1)} | {name: n for n, name in enumerate(_MONTH_NAMES.split(), 1)}
_MONTHS["sept"] = 9
_DAY_NAMES = "sun sunday mon monday tue tues tuesday wed weds wednesday thu thur thurs thursday fri friday sat saturday"
_WEEKDAYS = frozenset(_DAY_NAMES.split())
_CLOCK = frozenset({"now", "today", "tomorrow", "yesterday"})
WORDS = re.compile(rb"[a-z \t\n\r\v\f]*", re.IGNORECASE)
_SPECIAL = _CLOCK | {"allballs", "infinity", "epoch"}
INFINITIES = {"infinity": b"infinity", "-infinity": b"-infinity"}


@dataclass(slots=True)
class Reading:
    """What a text says: a special word, or a date, a time of day in microseconds, and an offset or a zone that has one."""

    special: str = ""
    date: tuple[int, int, int] | None = None
    time: int | None = None
    offset: int | None = None
    zone: Zone | None = None

    def day(self) -> int | None:
        """Return the number of the day."""
        return None if self.date is None else day_of(*self.date)


@dataclass(slots=True)
class _Fields:
    """The tokens of a text by what they are."""

    date: str = ""
    month: str = ""
    numbers: list[str] | None = None
    time: str = ""
    half: str = ""
    era: str = ""
    offset: str = ""
    zone: Zone | None = None


def read(field: bytes, styles: Styles, type_name: str) -> Reading:
    """Read a date, a time or both; 22007, 22008, 22009 as PostgreSQL, or 0A000 for what is not read here."""
    if not field.isascii():
        raise bad_datetime(type_name)
    text = field.decode().lower().strip(" \t\n\r\v\f")
    if text in INFINITIES or text == "epoch":
        return Reading(special=text)
    fields = _sort(text, styles, type_name)
    reading = Reading(zone=fields.zone)
    if fields.date or fields.month:
        reading.date = _date(fields, styles, type_name)
    if fields.time:
        reading.time = _time(fields.time, fields.half)
    if fields.offset:
        reading.offset = _offset(fields.offset)
    return reading


def _refuse(type_name: str, hint: str = HINT) -> NoReturn:
    raise NotReadExactly(f"this spelling of type {type_name} is not read", hint=hint)


def _sort(text: str, styles: Styles, type_name: str) -> _Fields:
    fields, pos = _Fields(numbers=[]), 0
    if WORDS.fullmatch(text.encode()) and not _SPECIAL.intersection(text.split()):
        raise bad_datetime(type_name)
    last = ""
    while pos < len(text):
        token = _TOKEN.match(text, pos)
        if token is None:
            _refuse(type_name)
        kind = token.lastgroup or ""
        value = token[kind]
        if not _take(fields, kind, value, last, styles):
            _refuse(type_name, _CLOCK_HINT if value in _CLOCK else HINT)
        last, pos = value if kind == "word" else kind, token.end()
    if last == "t" or (fields.numbers and not fields.month):
        _refuse(type_name)
    return fields


def _take(fields: _Fields, kind: str, value: str, last: str, styles: Styles) -> bool:
    """Put a token where it belongs; tell whether there was a free place that is its own."""
    if last == "t" and kind != "time":
        return False
    dated = bool(fields.date) or (bool(fields.month) and bool(fields.numbers))
    if kind == "date":
        free = not (fields.date or fields.month or fields.numbers or fields.time or fields.offset or fields.zone)
        fields.date = value
        return free and last not in _WEEKDAYS
    if kind in ("time", "compact"):
        free = not (fields.time or fields.offset or fields.zone) and (kind == "time" or bool(fields.date))
        fields.time = value if kind == "time" else _with_colons(value)
        return free
    if kind == "number":
        return _take_number(fields, value)
    if kind in ("offset", "name"):
        return _take_zone(fields, kind, value, dated=dated)
    return _take_word(fields, value, last, styles, dated=dated)


def _with_colons(digits: str) -> str:
    return f"{digits[:2]}:{digits[2:4]}" + (f":{digits[4:]}" if len(digits) > 4 else "")


def _take_number(fields: _Fields, value: str) -> bool:
    if len(value) in (6, 8) and not (fields.date or fields.month or fields.time or fields.numbers):
        fields.date = f"{value[:-4]}-{value[-4:-2]}-{value[-2:]}*"
        return True
    assert fields.numbers is not None
    fields.numbers.append(value)
    return len(value) <= 5 and len(fields.numbers) <= 2 and not fields.date


def _take_zone(fields: _Fields, kind: str, value: str, *, dated: bool) -> bool:
    free = not fields.offset and fields.zone is None
    if kind == "offset":
        fields.offset = value
        return free and (bool(fields.time) or dated)
    fields.zone = known_zone(value)
    return free and dated and fields.zone is not None


def _take_word(fields: _Fields, value: str, last: str, styles: Styles, *, dated: bool) -> bool:
    if value in _MONTHS:
        numbers = fields.numbers or []
        # Of two numbers before the name the first is the year, or else the server takes it for a month too.
        clear = len(numbers) < 2 or (len(numbers[1]) <= 2 and (len(numbers[0]) > 2 or styles.date_order == "YMD"))
        free = clear and not (fields.month or fields.date)
        fields.month = value
        return free
    if value in _WEEKDAYS:
        return not last
    if value in ("am", "pm"):
        fields.half = value
        return last == "time"
    if value in ("ad", "bc"):
        free = not fields.era and dated
        fields.era = value
        return free
    if value == "t":
        return bool(fields.date) and not fields.time
    free = not fields.offset and fields.zone is None and bool(fields.time)
    fields.zone = abbreviation(value, styles.time_zone)
    return free and fields.zone is not None


def _date(fields: _Fields, styles: Styles, type_name: str) -> tuple[int, int, int]:
    if fields.date.endswith("*"):
        year, month, day = fields.date[:-1].split("-")
    elif fields.date:
        year, month, day = _ordered(re.split(r"[-/.]", fields.date), styles, type_name)
    else:
        assert fields.numbers is not None
        if len(fields.numbers) != 2:
            _refuse(type_name)
        year, month, day = _around_month(fields.month, fields.numbers, styles, type_name)
    return _valid(year, month, day, fields.era)


def _ordered(parts: list[str], styles: Styles, type_name: str) -> tuple[str, str, str]:
    """Tell year, month and day apart: by a name, by a year of more than two digits that leads, or else by the DateStyle."""
    named = next((part for part in parts if part.isalpha()), None)
    if named is not None:
        return _around_month(named, [part for part in parts if part is not named], styles, type_name)
    first, second, third = parts
    if len(first) > 2 or styles.date_order == "YMD":
        if len(third) == 3:
            _refuse(type_name)
        return first, second, third
    return (third, second, first) if styles.date_order == "DMY" else (third, first, second)


def _around_month(name: str, numbers: list[str], styles: Styles, type_name: str) -> tuple[str, str, str]:
    if name not in _MONTHS:
        raise bad_datetime(type_name)
    month = str(_MONTHS[name])
    first, second = numbers
    if len(first) > 2:
        return first, month, second
    if styles.date_order != "YMD" or len(second) > 2:
        return second, month, first
    return first, month, second


def _valid(year_text: str, month_text: str, day_text: str, era: str) -> tuple[int, int, int]:
    year, month, day = int(year_text), int(month_text), int(day_text)
    if era == "bc":
        if year <= 0:
            raise field_overflow()
        year = 1 - year
    elif len(year_text) <= 2:
        year += 2000 if year < 70 else 1900
    elif year <= 0:
        raise field_overflow()
    if not 1 <= month <= 12 or not 1 <= day <= days_in(year, month):
        raise field_overflow()
    return year, month, day


def _time(text: str, half: str) -> int:
    """Return microseconds from midnight, up to 24:00:00; second 60 is the first of the next minute."""
    hour_text, minute_text, second_text = (text + ":0").split(":")[:3]
    whole, _, fraction = second_text.partition(".")
    hour, minute, second = int(hour_text), int(minute_text), int(whole)
    # The server, too, reads the fraction as a float8 and rounds a half to even.
    micros = round(float(f"0.{fraction or 0}") * 1_000_000)
    if hour > 24 or minute > 59 or second > 60:
        raise field_overflow()
    if half:
        if hour > 12:
            raise field_overflow()
        hour = hour % 12 + (12 if half == "pm" else 0)
    total = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros
    if total > 86_400_000_000:
        raise field_overflow()
    return total


def _offset(text: str) -> int:
    """Return the seconds to the east of ``+02``, ``-0330``, ``+05:45:00``."""
    parts = text[1:].split(":")
    if len(parts) == 1 and len(text) > 3:
        parts = [text[1:-2], text[-2:]]
    hours, minutes, seconds = (int(part) for part in [*parts, "0", "0"][:3])
    if hours > 15 or minutes > 59 or seconds > 59:
        raise InvalidTimeZoneDisplacement("time zone displacement out of range")
    offset = (hours * 60 + minutes) * 60 + seconds
    return -offset if text[0] == "-" else offset
