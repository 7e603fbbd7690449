"""extract, date_part, date_trunc and the casts between dates, times and timestamps, as PostgreSQL has them (manual 9.9).

Of what is infinite, a field that only goes up is infinite too, one that comes again is NULL.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from phiproxy.index.moments import INFINITE, Moment, parse
from phiproxy.types.calendar import date_of, day_of
from phiproxy.types.times_of_day import DAY
from phiproxy.types.value_errors import DatetimeFieldOverflow

Number = int | float
Apply = Callable[[bytes], bytes | None]

_UNIX = day_of(1970, 1, 1)
_AFTER_TIMESTAMPS = day_of(294_277, 1, 1)
_JULIAN = 2_451_545  # of 2000-01-01
_POSTGRES_EPOCH = _UNIX * DAY  # of Unix, as timestamps count
_INT8 = 2**63 - 1

# What PostgreSQL takes for a field, besides its name.
_ALIASES = {
    "microseconds": "microsecond us usec usecs usecond useconds",
    "milliseconds": "millisecond ms msec msecs msecond mseconds",
    "second": "s sec secs seconds",
    "minute": "m min mins minutes",
    "hour": "h hr hrs hours",
    "day": "d days",
    "week": "w weeks",
    "month": "mon mons months",
    "quarter": "qtr",
    "year": "y yr yrs years",
    "decade": "dec decs decades",
    "century": "c cent centuries",
    "millennium": "mil mils millennia",
}
_FIELD_OF = {alias: field for field, aliases in _ALIASES.items() for alias in (field, *aliases.split())}


def field_name(text: str) -> str:
    """Return the name of a field that is registered: ``year`` for ``YEARS``; what is none, in lower case."""
    return _FIELD_OF.get(text.lower(), text.lower())


def _century(year: int) -> int:
    return (year + 99) // 100 if year > 0 else -((100 - year) // 100)


def _millennium(year: int) -> int:
    return (year + 999) // 1000 if year > 0 else -((1000 - year) // 1000)


def _without_zero(year: int) -> int:
    return year if year > 0 else year - 1


_GROWING: Mapping[str, Callable[[Moment], int]] = {
    "year": lambda m: _without_zero(m.year),
    "decade": lambda m: m.year // 10,
    "century": lambda m: _century(m.year),
    "millennium": lambda m: _millennium(m.year),
    "isoyear": lambda m: _without_zero(m.iso[0]),
    "julian": lambda m: m.days + _JULIAN,
}
_RETURNING: Mapping[str, Callable[[Moment], int]] = {
    "day": lambda m: m.day,
    "week": lambda m: m.iso[1],
    "month": lambda m: m.month,
    "quarter": lambda m: (m.month + 2) // 3,
    "dow": lambda m: (m.weekday + 1) % 7,
    "isodow": lambda m: m.weekday + 1,
    "doy": lambda m: m.days - day_of(m.year, 1, 1) + 1,
}
_OF_TIME: Mapping[str, Callable[[Moment], int]] = {
    "minute": lambda m: m.micros // 60_000_000 % 60,
    "hour": lambda m: m.micros // 3_600_000_000,
    "microseconds": lambda m: m.micros % 60_000_000,
}
_DECIMALS = {"milliseconds": 3, "second": 6, "epoch": 6}

_DATE_FIELDS = frozenset({*_GROWING, *_RETURNING, "epoch"})
_TIME_FIELDS = frozenset({*_OF_TIME, *_DECIMALS})
FIELDS: Mapping[str, frozenset[str]] = {
    "date": _DATE_FIELDS,
    "time": _TIME_FIELDS,
    "timestamp": (_DATE_FIELDS | _TIME_FIELDS) - {"julian"},
}
"""The fields of each type that extract and date_part are known for."""


def is_total(field: str, operand: str) -> bool:
    """Tell whether a field is never NULL: of a time none is, of what may be infinite those that only go up."""
    return operand == "time" or field in _GROWING or field == "epoch"


def may_be_infinite(field: str) -> bool:
    """Tell whether a field is infinite of what is infinite: a cast of that to an integer fails."""
    return field in _GROWING or field == "epoch"


def is_whole(field: str) -> bool:
    """Tell whether a field is a whole number, which is the same in numeric and in double precision."""
    return _whole(field) is not None


def extract(field: str, operand: str) -> Apply:
    """Make the function that extracts a field, a numeric."""
    whole, decimals = _whole(field), _DECIMALS.get(field)

    def apply(value: bytes) -> bytes | None:
        if value in INFINITE:
            return _infinite(field, value)
        moment = parse(value)
        if whole is not None:
            return b"%d" % whole(moment)
        assert decimals is not None
        micros = _micros(field, moment, operand)
        if field == "epoch" and operand == "date":
            return b"%d" % (micros // 1_000_000)
        if _overflows(field, operand, micros):
            micros = (micros + 50) // 100 * 100  # what PostgreSQL divides there has four decimals
        sign, (units, rest) = b"-" if micros < 0 else b"", divmod(abs(micros), 10**decimals)
        return b"%s%d.%0*d" % (sign, units, decimals, rest)

    return apply


def date_part(field: str, operand: str) -> Apply:
    """Make the same in double precision: of a date, the field of its midnight."""
    whole = _whole(field)

    def apply(value: bytes) -> bytes | None:
        if value in INFINITE:
            return _infinite(field, value)
        moment = parse(value)
        if operand == "date":
            _checked(moment)
        return _float(whole(moment) if whole is not None else _real(field, moment, operand))

    return apply


def _whole(field: str) -> Callable[[Moment], int] | None:
    return _GROWING.get(field) or _RETURNING.get(field) or _OF_TIME.get(field)


def _infinite(field: str, value: bytes) -> bytes | None:
    if field not in _GROWING and field != "epoch":
        return None
    return b"Infinity" if INFINITE[value] > 0 else b"-Infinity"


def _micros(field: str, moment: Moment, operand: str) -> int:
    """Return what the field counts in its smallest unit: microseconds."""
    if field != "epoch":
        return moment.micros % 60_000_000
    return moment.micros + (0 if operand == "time" else (moment.days - _UNIX) * DAY)


def _overflows(field: str, operand: str, micros: int) -> bool:
    """Tell whether PostgreSQL computes an epoch in another way, since its own does not fit into 64 bits with room to spare."""
    return field == "epoch" and operand != "time" and micros >= _INT8


def _real(field: str, moment: Moment, operand: str) -> float:
    """Compute as PostgreSQL does, in double precision."""
    micros = _micros(field, moment, operand)
    seconds, fraction = divmod(micros, 1_000_000)
    if field == "second":
        return seconds + fraction / 1e6
    if field == "milliseconds":
        return seconds * 1000.0 + fraction / 1000.0
    if _overflows(field, operand, micros):
        return (float(micros + _POSTGRES_EPOCH) - _POSTGRES_EPOCH) / 1e6
    return micros / 1e6


def _float(value: Number) -> bytes:
    """Write a double precision as PostgreSQL does; none here is as large as to need an exponent."""
    return repr(float(value)).removesuffix(".0").encode()


def _checked(moment: Moment) -> Moment:
    if moment.days >= _AFTER_TIMESTAMPS:
        raise DatetimeFieldOverflow("date out of range for timestamp")
    return moment


TIME_UNITS = {"microseconds": 1, "milliseconds": 1000, "second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000}
"""Microseconds of the fields that are no longer than an hour."""
_TRUNCATED_YEAR: Mapping[str, Callable[[int], int]] = {
    "year": lambda year: year,
    "decade": lambda year: year // 10 * 10,
    "century": lambda year: _century(year) * 100 - 99 if year > 0 else _century(year) * 100 + 1,
    "millennium": lambda year: _millennium(year) * 1000 - 999 if year > 0 else _millennium(year) * 1000 + 1,
}
TRUNCATED = frozenset({*TIME_UNITS, *_TRUNCATED_YEAR, "day", "week", "month", "quarter"})
"""The fields of date_trunc."""


def date_trunc(field: str) -> Apply:
    """Make the function that cuts a timestamp off below a field."""

    def apply(value: bytes) -> bytes:
        return value if value in INFINITE else _truncated(field, parse(value)).written()

    return apply


def _truncated(field: str, moment: Moment) -> Moment:
    if field in TIME_UNITS:
        return replace(moment, micros=moment.micros - moment.micros % TIME_UNITS[field])
    if field == "week":
        return Moment(*date_of(moment.days - moment.weekday))
    if field == "day":
        return moment.at_midnight()
    if field == "month":
        return Moment(moment.year, moment.month)
    if field == "quarter":
        return Moment(moment.year, (moment.month - 1) // 3 * 3 + 1)
    return Moment(_TRUNCATED_YEAR[field](moment.year))


def timestamp_to_time(value: bytes) -> bytes | None:
    """Cast a timestamp: without its date; NULL where it is infinite."""
    return None if value in INFINITE else parse(value).written_time()


def at_utc(value: bytes) -> bytes:
    """Return timestamptz AT TIME ZONE 'UTC': the canonical form is in UTC already, and says so."""
    return value if value in INFINITE else value.replace(b"+00", b"", 1)
