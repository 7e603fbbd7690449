"""timestamp and timestamptz: canonical ``2001-02-03 04:05:06.789``, with ``+00`` and in UTC for the second, ``infinity``, ``… BC``.

Microseconds from 2000-01-01, as in the binary form; ``datetime`` serves only where its years 1 to 9999 are enough.
"""

import datetime as dt
import re
import struct
from collections.abc import Callable

from phiproxy.types.calendar import FIRST_DAY, MONTHS, date_of, weekday
from phiproxy.types.codec import Codec, as_is
from phiproxy.types.dates import day_number, spell_date, spell_in_style
from phiproxy.types.styles import Styles
from phiproxy.types.time_input import INFINITIES, Reading, read
from phiproxy.types.times_of_day import DAY, micros_of, round_micros, seconds_of, spell_offset, spell_time
from phiproxy.types.value_errors import DatetimeFieldOverflow, bad_datetime, expect_length
from phiproxy.types.zones import is_utc, zone

_PACKING = struct.Struct("!q")
_INFINITY = {b"infinity": b"\x7f" + b"\xff" * 7, b"-infinity": b"\x80" + bytes(7)}
_FROM_INFINITY = {binary: text for text, binary in _INFINITY.items()}
_MIN = FIRST_DAY * DAY
_END = 9_223_371_331_200_000_000
_UNIX_EPOCH = -10_957 * DAY
_PLAIN = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2} (?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{0,5}[1-9])?")
_WITH_OFFSET = re.compile(
    rb"([0-9]{4}-[0-9]{2}-[0-9]{2}[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?)"
    rb"([+-](?:0[0-9]|1[0-5])(?::[0-5][0-9])?)"
)
_EPOCH = dt.datetime(2000, 1, 1)  # noqa: DTZ001  of UTC, and of local times
_FIRST, _LAST = -730_000 * DAY, 2_900_000 * DAY  # well within the years 1 to 9999
_WITHOUT_FRACTION = len("2000-01-01 00:00:00")
_MAX_ZONE_NAME = 10
TIMESTAMP_NAME, TIMESTAMPTZ_NAME = "timestamp", "timestamp with time zone"


def _in_range(micros: int) -> int:
    if not _MIN <= micros < _END:
        raise DatetimeFieldOverflow("timestamp out of range")
    return micros


def spell(micros: int, offset: bytes = b"") -> bytes:
    """Return the canonical form of microseconds from 2000-01-01."""
    if _FIRST <= micros < _LAST:
        text = (_EPOCH + dt.timedelta(microseconds=micros)).isoformat(" ").encode()
        return (text.rstrip(b"0") if len(text) > _WITHOUT_FRACTION else text) + offset
    day, rest = divmod(micros, DAY)
    date = spell_date(*date_of(day))
    if date.endswith(b"C"):
        return date[:-3] + b" " + spell_time(rest) + offset + b" BC"
    return date + b" " + spell_time(rest) + offset


def micros_from(canonical: bytes) -> int:
    """Return the microseconds from 2000-01-01 of a canonical timestamp, or of a timestamptz, that is not infinite."""
    if canonical[4:5] == b"-" and canonical[-1:] != b"C":
        return _micros(dt.datetime.fromisoformat(canonical.removesuffix(b"+00").decode()))
    date, _, rest = canonical.partition(b" ")
    time, _, era = rest.partition(b" ")
    return day_number(date + b" " + era if era else date) * DAY + micros_of(time.removesuffix(b"+00"))


def _micros(local: dt.datetime) -> int:
    since = local - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _real_date(field: bytes) -> bool:
    try:
        dt.date.fromisoformat(field[:10].decode())
    except ValueError:
        return False
    return True


def _local(reading: Reading, type_name: str) -> int:
    day = reading.day()
    if day is None:
        raise bad_datetime(type_name)
    if day < FIRST_DAY:
        raise DatetimeFieldOverflow("timestamp out of range")
    return day * DAY + (reading.time or 0)


def _from_text(field: bytes, styles: Styles) -> bytes:
    if _PLAIN.fullmatch(field) and _real_date(field):
        return field
    reading = read(field, styles, TIMESTAMP_NAME)
    if reading.special:
        return INFINITIES.get(reading.special) or spell(_UNIX_EPOCH)
    return spell(_in_range(_local(reading, TIMESTAMP_NAME)))


def _tz_from_text(field: bytes, styles: Styles) -> bytes:
    if field[-3:] == b"+00" and _PLAIN.fullmatch(field, 0, len(field) - 3) and _real_date(field):
        return field
    common = _WITH_OFFSET.fullmatch(field)
    if common is not None and _real_date(field):
        return spell(_micros(dt.datetime.fromisoformat(common[1].decode())) - seconds_of(common[2]) * 1_000_000, b"+00")
    reading = read(field, styles, TIMESTAMPTZ_NAME)
    if reading.special:
        return INFINITIES.get(reading.special) or spell(_UNIX_EPOCH, b"+00")
    local = _local(reading, TIMESTAMPTZ_NAME)
    offset = reading.offset
    if offset is None:
        offset = (reading.zone or zone(styles.time_zone)).offset_of(local // 1_000_000)
    return spell(_in_range(local - offset * 1_000_000), b"+00")


def _binary(suffix: bytes) -> Callable[[bytes], bytes]:
    def from_binary(field: bytes) -> bytes:
        infinity = _FROM_INFINITY.get(expect_length(field, 8))
        return infinity or spell(_in_range(_PACKING.unpack(field)[0]), suffix)

    return from_binary


def _to_binary(canonical: bytes) -> bytes:
    return _INFINITY.get(canonical) or _PACKING.pack(micros_from(canonical))


def _assigning(suffix: bytes) -> Callable[[bytes, int], bytes]:
    def assign(canonical: bytes, typmod: int) -> bytes:
        if typmod < 0 or canonical in _INFINITY:
            return canonical
        return spell(round_micros(micros_from(canonical), typmod), suffix)

    return assign


def _to_text(canonical: bytes, styles: Styles) -> bytes:
    if styles.date_style == "ISO" or canonical in _INFINITY:
        return canonical
    return _styled(micros_from(canonical), styles, b"")


def _tz_to_text(canonical: bytes, styles: Styles) -> bytes:
    if canonical in _INFINITY or (styles.date_style == "ISO" and is_utc(styles.time_zone)):
        return canonical
    micros = micros_from(canonical)
    offset, name = zone(styles.time_zone).at(micros // 1_000_000)
    local = micros + offset * 1_000_000
    if styles.date_style == "ISO":
        return spell(local, spell_offset(offset))
    return _styled(local, styles, b" " + name[:_MAX_ZONE_NAME].encode())


def _styled(micros: int, styles: Styles, zone_name: bytes) -> bytes:
    number, rest = divmod(micros, DAY)
    year, month, day = date_of(number)
    era = b" BC" if year <= 0 else b""
    time = spell_time(rest)
    if styles.date_style != "Postgres":
        return spell_in_style(year, month, day, styles) + b" " + time + zone_name + era
    name = MONTHS[month - 1].encode()
    date = b"%02d %s" % (day, name) if styles.date_order == "DMY" else b"%s %02d" % (name, day)
    shown = year if year > 0 else 1 - year
    return b"%s %s %s %04d" % (weekday(number).encode(), date, time, shown) + zone_name + era


TIMESTAMP = Codec(_from_text, _binary(b""), _to_text, _to_binary, _assigning(b""), as_is)
TIMESTAMPTZ = Codec(_tz_from_text, _binary(b"+00"), _tz_to_text, _to_binary, _assigning(b"+00"), as_is)
