"""date: canonical ``2001-02-03``, ``0044-03-15 BC``, ``12345-06-07``, ``infinity``.

``datetime.date``, which is fast, serves for the years 1 to 9999, where it ends; all others and infinity are own code.
"""

import datetime as dt
import re
import struct

from phiproxy.types.calendar import FIRST_DAY, LAST_DAY, date_of, day_of
from phiproxy.types.codec import Codec, as_is, unlimited
from phiproxy.types.styles import Styles
from phiproxy.types.time_input import INFINITIES, read
from phiproxy.types.value_errors import DatetimeFieldOverflow, bad_datetime, expect_length

_PACKING = struct.Struct("!i")
_INFINITY = {b"infinity": b"\x7f\xff\xff\xff", b"-infinity": b"\x80\x00\x00\x00"}
_FROM_INFINITY = {binary: text for text, binary in _INFINITY.items()}
_ORDINAL_EPOCH = dt.date(2000, 1, 1).toordinal()
_LAST_ORDINAL = dt.date.max.toordinal()
_HYPHEN = ord("-")
_PLAIN = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def spell_date(year: int, month: int, day: int) -> bytes:
    """Return a date in the canonical form."""
    return b"%04d-%02d-%02d" % (year, month, day) if year > 0 else b"%04d-%02d-%02d BC" % (1 - year, month, day)


def parts_of(canonical: bytes) -> tuple[int, int, int]:
    """Return year, month and day of a canonical date that is not infinite."""
    text, _, era = canonical.partition(b" ")
    year, month, day = text.split(b"-")
    return (1 - int(year) if era else int(year)), int(month), int(day)


def day_number(canonical: bytes) -> int:
    """Return days from 2000-01-01 of a canonical date that is not infinite."""
    return day_of(*parts_of(canonical))


def _from_text(field: bytes, styles: Styles) -> bytes:
    if len(field) == 10 and _PLAIN.fullmatch(field):
        try:
            dt.date.fromisoformat(field.decode())
        except ValueError:
            pass
        else:
            return field
    reading = read(field, styles, "date")
    if reading.special:
        return INFINITIES.get(reading.special, b"1970-01-01")
    if reading.date is None:
        raise bad_datetime("date")
    if not FIRST_DAY <= day_of(*reading.date) <= LAST_DAY:
        raise DatetimeFieldOverflow("date out of range")
    return spell_date(*reading.date)


def _from_binary(field: bytes) -> bytes:
    if len(field) == 4:
        ordinal = _PACKING.unpack(field)[0] + _ORDINAL_EPOCH
        if 0 < ordinal <= _LAST_ORDINAL:
            return dt.date.fromordinal(ordinal).isoformat().encode()
    infinity = _FROM_INFINITY.get(expect_length(field, 4))
    if infinity:
        return infinity
    (day,) = _PACKING.unpack(field)
    if not FIRST_DAY <= day <= LAST_DAY:
        raise DatetimeFieldOverflow("date out of range")
    return spell_date(*date_of(day))


def spell_in_style(year: int, month: int, day: int, styles: Styles) -> bytes:
    """Return a date as the session's DateStyle spells it, without the era."""
    shown = year if year > 0 else 1 - year
    day_first = styles.date_order == "DMY"
    if styles.date_style == "SQL":
        return b"%02d/%02d/%04d" % ((day, month, shown) if day_first else (month, day, shown))
    if styles.date_style == "German":
        return b"%02d.%02d.%04d" % (day, month, shown)
    if styles.date_style == "Postgres":
        return b"%02d-%02d-%04d" % ((day, month, shown) if day_first else (month, day, shown))
    return b"%04d-%02d-%02d" % (shown, month, day)


def _to_text(canonical: bytes, styles: Styles) -> bytes:
    if styles.date_style == "ISO" or canonical in _INFINITY:
        return canonical
    year, month, day = parts_of(canonical)
    return spell_in_style(year, month, day, styles) + (b" BC" if year <= 0 else b"")


def _to_binary(canonical: bytes) -> bytes:
    if len(canonical) == 10 and canonical[4] == _HYPHEN:
        return _PACKING.pack(dt.date.fromisoformat(canonical.decode()).toordinal() - _ORDINAL_EPOCH)
    return _INFINITY.get(canonical) or _PACKING.pack(day_number(canonical))


DATE = Codec(_from_text, _from_binary, _to_text, _to_binary, unlimited, as_is)
