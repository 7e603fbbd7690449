"""How a session's text is read as an interval (manual 8.5.4): PostgreSQL's own spelling, the SQL standard's and ISO 8601's.

Read is ``1 year 2 mons -3 days 04:05:06.7``, ``@ 1 day ago``, ``1-2 3 4:05:06``, ``P1Y2M3DT4H5M6.7S``. The server computes
fractions in float8, and not by the same steps in every version: one is read where that cannot matter, else refused, as are forms
that only some versions take (``infinity``, ``ago`` in the middle).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NoReturn

from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import DatetimeFieldOverflow, IntervalFieldOverflow, NotReadExactly, bad_datetime

YEAR, MONTH, DAY, HOUR, MINUTE, SECOND = 1 << 2, 1 << 1, 1 << 3, 1 << 10, 1 << 11, 1 << 12
"""The fields of an interval's typmod."""
_LONGEST = 128  # PostgreSQL's own limit is not far above
_HINT = "write it as 1 year 2 mons 3 days 04:05:06.7"
_MICROS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_DAYS = {"d": 1, "w": 7}
_MONTHS = {"mon": 1, "y": 12, "dec": 120, "c": 1200, "mil": 12_000}
_SPELLED = {
    "us": "us usec usecs useconds microsecond microseconds", "ms": "ms msec msecs mseconds millisecond milliseconds",
    "s": "s sec secs second seconds", "m": "m min mins minute minutes", "h": "h hr hrs hour hours", "d": "d day days",
    "w": "w week weeks", "mon": "mon mons month months", "y": "y yr yrs year years", "dec": "dec decs decade decades",
    "c": "c cent century centuries", "mil": "mil mils millennium millennia",
}  # fmt: skip
_UNITS = {word: unit for unit, words in _SPELLED.items() for word in words.split()}
# Words that are units of something else, or nothing, but no error everywhere; and of long ones the server looks at ten letters.
_SOMETIMES = frozenset({"ago", "at", "on", "qtr", "quarter", "j", "jd", "julian", "mm", "isoyear", "timezone"})
_CUT = 10
_LAST_FIELD = ((SECOND, "s"), (MINUTE, "m"), (HOUR, "h"), (DAY, "d"), (MONTH, "mon"), (YEAR, "y"))
_TOKEN = re.compile(
    r"""(?P<time>(?:[+-][ ]*)?[0-9]+:[0-9]+(?::[0-9]+)?(?:\.[0-9]+)?)(?![:.0-9-])
    | (?P<months>(?:[+-][ ]*)?[0-9]+-[0-9]+)(?![:.0-9a-z-])
    | (?P<number>(?:[+-][ ]*)?[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?![:.0-9-])
    | (?P<word>(?:[dhmsy]|mon|dec)(?=[0-9]) | [a-z]+(?![0-9+/_.-]))""",  # the server takes w6m for one word, but d6h for two
    re.VERBOSE,
)
_BLANKS = re.compile(r"[ \t\n\r\v\f,]*")
_ISO = re.compile(
    r"P(?=.)(?:(?P<y>-?[0-9.]+)Y)?(?:(?P<mon>-?[0-9.]+)M)?(?:(?P<w>-?[0-9.]+)W)?(?:(?P<d>-?[0-9.]+)D)?"
    r"(?:T(?=.)(?:(?P<h>-?[0-9.]+)H)?(?:(?P<m>-?[0-9.]+)M)?(?:(?P<s>-?[0-9.]+)S)?)?"
)
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


@dataclass(slots=True)
class Parts:
    """An interval as it is stored: months, days and microseconds, each within its integer."""

    months: int = 0
    days: int = 0
    micros: int = 0
    years: int = 0
    seen: set[str] = field(default_factory=set)

    def add(self, number: str, unit: str, *, negative: bool = False) -> None:
        """Add a number of units; 22015 when it is out of range."""
        value = Fraction(number.replace(" ", ""))
        if negative:
            value = -abs(value)
        whole = int(value)
        fraction = value - whole
        if not -(1 << 63) <= whole < 1 << 63:
            raise interval_overflow()
        if unit in _MICROS:
            self.micros = _within(self.micros + whole * _MICROS[unit] + _exact(fraction * _MICROS[unit]), 64)
        elif unit in _DAYS:
            self._add_days(whole * _DAYS[unit], fraction * _DAYS[unit])
        elif unit == "mon":
            self.months = _within(self.months + _within(whole, 32), 32)
            self._add_days(0, fraction * 30)
        else:
            self.years = _within(self.years + _within(_within(whole, 32) * (_MONTHS[unit] // 12), 32), 32)
            self.months = _within(self.months + _exact(fraction * _MONTHS[unit]), 32)

    def _add_days(self, whole: int, fraction: Fraction) -> None:
        days = int(fraction)
        self.days = _within(self.days + _within(whole, 32) + days, 32)
        self.micros = _within(self.micros + _exact((fraction - days) * 86_400_000_000), 64)

    def reserve(self, units: set[str], type_name: str = "interval") -> None:
        """Note which units a token has given; 22007 when one is given twice."""
        if units & self.seen:
            raise bad_datetime(type_name)
        self.seen |= units

    def negated(self) -> Parts:
        """Return the interval ``ago``."""
        return Parts(_within(-self.months, 32), _within(-self.days, 32), _within(-self.micros, 64), _within(-self.years, 32))

    def total(self) -> tuple[int, int, int]:
        """Return months, days and microseconds."""
        months = self.years * 12 + self.months
        if not -(1 << 31) <= months < 1 << 31:
            raise DatetimeFieldOverflow("interval out of range")
        return months, self.days, self.micros


def interval_overflow() -> IntervalFieldOverflow:
    """Return PostgreSQL's error for a field that is too large (22015)."""
    return IntervalFieldOverflow("interval field value out of range")


def _within(number: int, bits: int) -> int:
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise interval_overflow()
    return number


def _exact(number: Fraction) -> int:
    if number.denominator != 1:
        raise NotReadExactly("this fraction is not the same interval in every version of PostgreSQL", hint=_HINT)
    return int(number)


def _refuse() -> NoReturn:
    raise NotReadExactly("this spelling of type interval is not read", hint=_HINT)


def read_interval(text: str, styles: Styles, fields: int) -> tuple[int, int, int]:
    """Return months, days and microseconds; ``fields`` of the typmod tell what a bare number counts."""
    if len(text) > _LONGEST:
        _refuse()
    if text[:1] == "P":
        return _read_iso(text).total()
    tokens = _tokens(text.lower().strip(" \t\n\r\v\f"))
    if not any(kind != "word" for kind, _ in tokens):
        if any(word == "infinity" for _, word in tokens):
            _refuse()
        raise bad_datetime("interval")
    ago = tokens[-1] == ("word", "ago")
    if ago:
        tokens.pop()
    first = tokens[0][1] if tokens else ""
    negative = False
    if styles.interval_style == "sql_standard" and first[:1] == "-":
        # The standard's sign is the whole interval's, unless another one follows.
        negative = not any(value[0] in "+-" for _, value in tokens[1:])
        if negative and ago:
            _refuse()
    parts = _add_up(tokens, fields, "ago" if ago else "", negative=negative)
    return (parts.negated() if ago else parts).total()


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    pos = 2 if text.startswith("@ ") else 0
    while pos < len(text):
        token = _TOKEN.match(text, pos)
        if token is None:
            _refuse()
        kind = token.lastgroup or ""
        tokens.append((kind, token[0]))
        after = _BLANKS.match(text, token.end())
        assert after is not None
        pos = after.end()
    return tokens


def _add_up(tokens: list[tuple[str, str]], fields: int, after: str, *, negative: bool) -> Parts:
    """Add the tokens from the last to the first, since a unit stands behind its number."""
    parts, unit = Parts(), ""
    for kind, value in reversed(tokens):
        if kind == "word":
            unit = _unit(value, unit)
        elif kind == "time":
            _none_left(unit)
            parts.reserve({"us", "ms", "s", "m", "h"})
            parts.micros = _time(value, fields, negative=negative)
        elif kind == "months":
            _none_left(unit)
            parts.reserve({"mon"})
            _add_months(parts, value, negative=negative)
        else:
            counted = unit or _implied(after, fields)
            fraction = "." in value and bool(value.partition(".")[2].strip("0"))
            parts.reserve({"us", "ms", "s"} if counted == "s" and fraction else {counted})
            parts.add(value, counted, negative=negative)
            unit = ""
        after = kind
    _none_left(unit)
    return parts


def _unit(word: str, behind: str) -> str:
    _none_left(behind)
    if word in _UNITS:
        return _UNITS[word]
    if word in _SOMETIMES or len(word) >= _CUT:
        _refuse()
    raise bad_datetime("interval")


def _none_left(unit: str) -> None:
    """Refuse a unit without its number, which PostgreSQL overlooks before version 16."""
    if unit:
        _refuse()


def _implied(after: str, fields: int) -> str:
    """Return what a number without a unit counts: days before a time, or the last field of the typmod."""
    if after == "time":
        return "d"
    if after == "ago":
        raise bad_datetime("interval")
    if after:
        _refuse()
    return next(unit for bit, unit in _LAST_FIELD if fields & bit)


def _add_months(parts: Parts, value: str, *, negative: bool) -> None:
    years, months = value.lstrip("+- ").split("-")
    if int(months) > 11:
        raise interval_overflow()
    total = int(years) * 12 + int(months)
    parts.months = _within(parts.months + (-total if negative or value[0] == "-" else total), 32)


def _time(value: str, fields: int, *, negative: bool) -> int:
    numbers, _, digits = value.lstrip("+- ").partition(".")
    pieces = [int(piece) for piece in numbers.split(":")]
    if len(pieces) == 2:
        to_second = bool(digits) or fields == MINUTE | SECOND
        pieces = [0, *pieces] if to_second else [*pieces, 0]
    hours, minutes, seconds = pieces
    fraction = round(float(f"0.{digits or 0}") * 1_000_000)
    if minutes > 59 or seconds > 60:
        raise interval_overflow()
    total = _within(hours * 3_600_000_000 + minutes * 60_000_000 + seconds * 1_000_000 + fraction, 64)
    return -total if negative or value[0] == "-" else total


def _read_iso(text: str) -> Parts:
    match = _ISO.fullmatch(text)
    if match is None:
        _refuse()
    parts = Parts()
    for unit, number in match.groupdict().items():
        if number is None:
            continue
        if not _DECIMAL.fullmatch(number) or len(number) > 15:
            _refuse()
        parts.add(number, unit)
    return parts
