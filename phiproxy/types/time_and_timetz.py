"""time and timetz: canonical ``04:05:06.789`` and ``04:05:06.789+02``; the day ends at 24:00:00, which ``datetime.time`` lacks."""

import re
import struct

from phiproxy.types.calendar import FIRST_DAY, LAST_DAY, day_of
from phiproxy.types.codec import Codec, as_is, as_text
from phiproxy.types.integers import BLANKS
from phiproxy.types.styles import Styles
from phiproxy.types.time_input import WORDS, Reading, read
from phiproxy.types.times_of_day import DAY, micros_of, round_micros, seconds_of, spell_offset, spell_time
from phiproxy.types.value_errors import (
    DatetimeFieldOverflow,
    InvalidTimeZoneDisplacement,
    NotReadExactly,
    bad_datetime,
    expect_length,
)
from phiproxy.types.zones import zone

_PLAIN = re.compile(rb"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{0,5}[1-9])?")
# The server takes a date before a time only where it is one word of digits, and takes neither a day of the week nor an era.
_SHAPE = re.compile(rb"(?:[0-9]+([-/])(?:[0-9]+|[a-z]+)\1[0-9]+[ ]+)?[0-9]+:(?!.*[^a-z](?:ad|bc)(?![a-z])).*", re.IGNORECASE)
_TIME = struct.Struct("!q")
_TIMETZ = struct.Struct("!qi")
_OFFSET_LIMIT = 16 * 3600
_TIMETZ_NAME = "time with time zone"
_NEEDS_OFFSET = "write the offset with the time, as in 04:05:06+02, or give the date too"
_WINTER_AND_SUMMER = [day_of(2025, month, 1) * 86_400 for month in range(1, 13)]


def _read(field: bytes, styles: Styles, type_name: str) -> tuple[Reading, int]:
    shape = _SHAPE.fullmatch(field.strip(BLANKS))
    if shape is None and not WORDS.fullmatch(field):
        raise _not_read(type_name)
    reading = read(field, styles, type_name)
    if shape is not None and (reading.date is None) is not (shape[1] is None):
        raise _not_read(type_name)
    if reading.special or reading.time is None:
        raise bad_datetime(type_name)
    return reading, reading.time


def _not_read(type_name: str) -> NotReadExactly:
    return NotReadExactly(f"this spelling of type {type_name} is not read", hint=_NEEDS_OFFSET)


def _time_from_text(field: bytes, styles: Styles) -> bytes:
    if _PLAIN.fullmatch(field):
        return field
    _, micros = _read(field, styles, "time")
    return spell_time(micros)


def _time_from_binary(field: bytes) -> bytes:
    (micros,) = _TIME.unpack(expect_length(field, 8))
    return spell_time(_in_day(micros))


def _in_day(micros: int) -> int:
    if not 0 <= micros <= DAY:
        raise DatetimeFieldOverflow("time out of range")
    return micros


TIME = Codec(
    _time_from_text,
    _time_from_binary,
    as_text,
    lambda canonical: _TIME.pack(micros_of(canonical)),
    lambda canonical, typmod: canonical if typmod < 0 else spell_time(round_micros(micros_of(canonical), typmod)),
    as_is,
)


def _split(canonical: bytes) -> tuple[int, int]:
    """Return microseconds from midnight, and the offset to the east."""
    start = max(canonical.rfind(b"+"), canonical.rfind(b"-"))
    return micros_of(canonical[:start]), seconds_of(canonical[start:])


def _spell(micros: int, offset: int) -> bytes:
    return spell_time(micros) + spell_offset(offset)


def _timetz_from_text(field: bytes, styles: Styles) -> bytes:
    reading, micros = _read(field, styles, _TIMETZ_NAME)
    return _spell(micros, _offset(reading, micros, styles))


def _offset(reading: Reading, micros: int, styles: Styles) -> int:
    if reading.offset is not None:
        return reading.offset
    where = reading.zone or zone(styles.time_zone)
    day = reading.day()
    if day is not None:
        if not FIRST_DAY <= day <= LAST_DAY:
            raise _not_read(_TIMETZ_NAME)
        return where.offset_of(day * 86_400 + micros // 1_000_000)
    # Without a date the server takes its clock's, which matters where the zone has more than one offset.
    offsets = {where.offset_of(local) for local in _WINTER_AND_SUMMER}
    if len(offsets) > 1:
        raise NotReadExactly("a time without its offset is not read in a zone with daylight-saving time", hint=_NEEDS_OFFSET)
    return offsets.pop()


def _timetz_from_binary(field: bytes) -> bytes:
    micros, west = _TIMETZ.unpack(expect_length(field, 12))
    _in_day(micros)
    if not -_OFFSET_LIMIT < west < _OFFSET_LIMIT:
        raise InvalidTimeZoneDisplacement("time zone displacement out of range")
    return _spell(micros, -west)


def _timetz_to_binary(canonical: bytes) -> bytes:
    micros, offset = _split(canonical)
    return _TIMETZ.pack(micros, -offset)


def _timetz_assign(canonical: bytes, typmod: int) -> bytes:
    if typmod < 0:
        return canonical
    micros, offset = _split(canonical)
    return _spell(round_micros(micros, typmod), offset)


def _timetz_form(canonical: bytes) -> bytes:
    micros, offset = _split(canonical)
    return b"%d/%d" % (micros - offset * 1_000_000, offset)


TIMETZ = Codec(_timetz_from_text, _timetz_from_binary, as_text, _timetz_to_binary, _timetz_assign, _timetz_form)
