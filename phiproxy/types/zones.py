"""Time zones: the offset at a moment, of a local time, and the abbreviation shown; the rules are ``zoneinfo``'s.

``zoneinfo`` reads the system's tzdata, or the ``tzdata`` package where the system has none. Its years are 1 to 9999: before, a zone
has the offset that it begins with, and after, what it has 400, 800 … years earlier, for in so many years the calendar repeats.
"""

import datetime as dt
import re
import zoneinfo
from functools import cache, lru_cache

from phiproxy.types.value_errors import NotReadExactly

_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_NAIVE_EPOCH = dt.datetime(2000, 1, 1)  # noqa: DTZ001  a local time is what it is
_FIRST = int((dt.datetime(1, 1, 3, tzinfo=dt.UTC) - _EPOCH).total_seconds())
_LAST = int((dt.datetime(9999, 12, 29, tzinfo=dt.UTC) - _EPOCH).total_seconds())
_CYCLE = 146_097 * 86_400
# What SHOW TimeZone says after SET TIME ZONE INTERVAL or a number: POSIX, counted to the west.
_POSIX = re.compile(r"(?:<([A-Za-z0-9+-]+)>|([A-Za-z]{3,}))([+-]?)([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))?")
_UTC_NAMES = frozenset({"utc", "etc/utc", "uct", "etc/uct", "zulu", "etc/zulu", "universal", "etc/universal", "gmt", "etc/gmt"})
_MAX_HOURS = 24


class Zone:
    """One time zone. Times are whole seconds from 2000-01-01 00:00:00, of UTC or local; offsets count to the east."""

    def at(self, seconds: int) -> tuple[int, str]:
        """Return offset and abbreviation at a moment in UTC."""
        raise NotImplementedError

    def offset_of(self, local: int) -> int:
        """Return the offset of a local time: before a gap, and after where the clock shows it twice, as the server decides."""
        raise NotImplementedError


class _Fixed(Zone):
    def __init__(self, offset: int, name: str) -> None:
        self._offset = offset
        self._name = name

    def at(self, seconds: int) -> tuple[int, str]:
        return self._offset, self._name

    def offset_of(self, local: int) -> int:
        return self._offset


class _Named(Zone):
    def __init__(self, info: zoneinfo.ZoneInfo) -> None:
        self._info = info

    def at(self, seconds: int) -> tuple[int, str]:
        local = (_EPOCH + dt.timedelta(seconds=_shifted(seconds))).astimezone(self._info)
        return _seconds(local), local.tzname() or ""

    def offset_of(self, local: int) -> int:
        moment = (_NAIVE_EPOCH + dt.timedelta(seconds=_shifted(local))).replace(tzinfo=self._info)
        return min(_seconds(moment), _seconds(moment.replace(fold=1)))


def _seconds(moment: dt.datetime) -> int:
    offset = moment.utcoffset()
    return 0 if offset is None else offset.days * 86_400 + offset.seconds


def _shifted(seconds: int) -> int:
    if seconds > _LAST:
        return seconds - -(-(seconds - _LAST) // _CYCLE) * _CYCLE
    return max(seconds, _FIRST)


UTC: Zone = _Fixed(0, "UTC")


def is_utc(name: str) -> bool:
    """Tell whether a session's TimeZone shows times of UTC."""
    return name.lower() in _UTC_NAMES


@cache
def _names() -> dict[str, str]:
    return {name.lower(): name for name in zoneinfo.available_timezones()}


@lru_cache(maxsize=2048)  # there are some 600 names, and whoever invents others is answered without an entry
def _find(name: str) -> Zone:
    posix = _POSIX.fullmatch(name)
    if posix is not None and name.lower() not in _names():
        west = int(posix[4]) * 3600 + int(posix[5] or 0) * 60 + int(posix[6] or 0)
        if int(posix[4]) <= _MAX_HOURS:
            return _Fixed(west if posix[3] == "-" else -west, posix[1] or posix[2])
    return _Named(zoneinfo.ZoneInfo(_names()[name.lower()]))


def zone(name: str) -> Zone:
    """Return the time zone of a session; NotReadExactly when its name is not known here."""
    try:
        return _find(name)
    except (KeyError, ValueError, OSError):
        raise NotReadExactly("the time zone of the session is not known here", hint="use a name like Europe/Berlin") from None


def known_zone(name: str) -> Zone | None:
    """Return the zone that a value itself names, in any case, or None."""
    return _find(name) if name.lower() in _names() else None


# The abbreviations of PostgreSQL's default set that mean one offset and nothing else; hours to the east.
ABBREVIATIONS = {
    "acdt": 10.5, "acst": 9.5, "adt": -3, "aedt": 11, "aest": 10, "akdt": -8, "akst": -9, "ast": -4, "awst": 8, "bst": 1, "cdt": -5,
    "cest": 2, "cet": 1, "cst": -6, "edt": -4, "eest": 3, "eet": 2, "est": -5, "hst": -10, "jst": 9, "kst": 9, "mdt": -6, "mest": 2,
    "met": 1, "mst": -7, "ndt": -2.5, "nst": -3.5, "nzdt": 13, "nzst": 12, "pdt": -7, "pst": -8, "wet": 0,
}  # fmt: skip
_ALWAYS_UTC = frozenset({"z", "zulu", "utc", "gmt", "uct"})


@lru_cache(maxsize=1024)
def _history(name: str) -> dict[str, set[int]]:
    """Return the abbreviations that a zone has ever had since 1900, with their offsets."""
    abbreviations: dict[str, set[int]] = {}
    where = zone(name)
    for month in range(-1200, 12 * 40):
        offset, shown = where.at(month * 2_629_746)
        abbreviations.setdefault(shown.lower(), set()).add(offset)
    return abbreviations


def abbreviation(word: str, session_zone: str) -> Zone | None:
    """Return what an abbreviation means in a session, or None where that depends on more than is known here.

    Other sets of abbreviations give EST or CST other meanings, and PostgreSQL 18 asks the session's zone first: beside UTC's names
    those are read which the session's own zone uses, with one offset, and that the default set's.
    """
    if word in _ALWAYS_UTC:
        return UTC
    hours = ABBREVIATIONS.get(word)
    if hours is None or _history(session_zone).get(word) != {int(hours * 3600)}:
        return None
    return _Fixed(int(hours * 3600), word.upper())
