"""interval: canonical as IntervalStyle postgres prints it, ``1 year 2 mons -3 days +04:05:06.7``.

Months, days and microseconds stay apart, as they are stored: ``datetime.timedelta`` has no months and psycopg's interval is one.
"""

import re
import struct
from collections.abc import Callable

from phiproxy.types.codec import Codec
from phiproxy.types.interval_input import DAY, HOUR, MINUTE, SECOND, YEAR, read_interval
from phiproxy.types.styles import Styles
from phiproxy.types.times_of_day import round_micros, spell_time
from phiproxy.types.value_errors import NotReadExactly, bad_datetime, expect_length

_PACKING = struct.Struct("!qii")
_LOWEST = (-(1 << 63), -(1 << 31), -(1 << 31))
_HIGHEST = ((1 << 63) - 1, (1 << 31) - 1, (1 << 31) - 1)
_ALL_FIELDS = 0x7FFF
_FULL_PRECISION = 0xFFFF
_HOUR, _MINUTE, _SECOND = 3_600_000_000, 60_000_000, 1_000_000
_CANONICAL = re.compile(
    rb"(?:(-?[0-9]+) years? ?)?(?:([+-]?[0-9]+) mons? ?)?(?:([+-]?[0-9]+) days? ?)?"
    rb"(?:([+-]?)([0-9]+):([0-9]+):([0-9]+)(?:\.([0-9]+))?)?"
)


def parts_of(canonical: bytes) -> tuple[int, int, int]:
    """Return months, days and microseconds of a canonical interval."""
    match = _CANONICAL.fullmatch(canonical)
    assert match is not None
    years, months, days, sign, hours, minutes, seconds, fraction = match.groups(b"0")
    micros = int(hours) * _HOUR + int(minutes) * _MINUTE + int(seconds) * _SECOND + int(fraction.ljust(6, b"0"))
    return int(years) * 12 + int(months), int(days), -micros if sign == b"-" else micros


def _split(number: int, size: int) -> tuple[int, int]:
    """Divide towards zero: both parts have the number's sign."""
    whole, rest = divmod(abs(number), size)
    return (-whole, -rest) if number < 0 else (whole, rest)


def spell_interval(months: int, days: int, micros: int) -> bytes:
    """Return the canonical form."""
    years, rest = _split(months, 12)
    words: list[str] = []
    below = False
    for number, unit in ((years, "year"), (rest, "mon"), (days, "day")):
        if number:
            words.append(f"{'+' if below and number > 0 else ''}{number} {unit}{'' if number == 1 else 's'}")
            below = number < 0
    if micros or not words:
        sign = "-" if micros < 0 else "+" if below else ""
        words.append(sign + _clock(micros, 2))
    return " ".join(words).encode()


def _clock(micros: int, width: int) -> str:
    hours, rest = divmod(abs(micros), _HOUR)
    return f"{hours:0{width}}{spell_time(rest)[2:].decode()}"


def _sql_standard(months: int, days: int, micros: int) -> str:
    parts = (months, days, micros)
    if not any(parts):
        return "0"
    years, rest = _split(abs(months), 12)
    mixed = (min(parts) < 0 < max(parts)) or (months and (days or micros))
    if mixed:
        signs = ["-" if part < 0 else "+" for part in parts]
        return f"{signs[0]}{years}-{rest} {signs[1]}{abs(days)} {signs[2]}{_clock(micros, 1)}"
    sign = "-" if min(parts) < 0 else ""
    if months:
        return f"{sign}{years}-{rest}"
    return f"{sign}{abs(days)} {_clock(micros, 1)}" if days else f"{sign}{_clock(micros, 1)}"


def _fields(months: int, days: int, micros: int) -> list[int]:
    years, rest = _split(months, 12)
    hours, below = _split(micros, _HOUR)
    minutes, seconds = _split(below, _MINUTE)
    return [years, rest, days, hours, minutes, seconds]


def _seconds(micros: int) -> str:
    whole, fraction = divmod(abs(micros), _SECOND)
    return f"{whole}.{fraction:06}".rstrip("0") if fraction else str(whole)


def _iso_8601(months: int, days: int, micros: int) -> str:
    if not (months or days or micros):
        return "PT0S"
    *numbers, seconds = _fields(months, days, micros)
    spelled = [f"{number}{letter}" if number else "" for number, letter in zip(numbers, "YMDHM", strict=True)]
    second = f"{'-' if seconds < 0 else ''}{_seconds(seconds)}S" if seconds else ""
    return f"P{''.join(spelled[:3])}{'T' if micros else ''}{''.join(spelled[3:])}{second}"


def _postgres_verbose(months: int, days: int, micros: int) -> str:
    words, ago = ["@"], False
    fields = _fields(months, days, micros)
    for number, unit in zip(fields, ("year", "mon", "day", "hour", "min"), strict=False):
        if number:
            ago = number < 0 if len(words) == 1 else ago
            shown = -number if ago else number
            words.append(f"{shown} {unit}{'' if shown == 1 else 's'}")
    seconds = fields[-1]
    if seconds:
        ago = seconds < 0 if len(words) == 1 else ago
        sign = "-" if (seconds < 0) is not ago else ""
        words.append(f"{sign}{_seconds(seconds)} sec{'' if abs(seconds) == _SECOND else 's'}")
    if len(words) == 1:
        words.append("0")
    return " ".join([*words, "ago"] if ago else words)


_SPELL: dict[str, Callable[[int, int, int], str]] = {
    "sql_standard": _sql_standard,
    "iso_8601": _iso_8601,
    "postgres_verbose": _postgres_verbose,
}


def _to_text(canonical: bytes, styles: Styles) -> bytes:
    if styles.interval_style == "postgres":
        return canonical
    return _SPELL[styles.interval_style](*parts_of(canonical)).encode()


def _from_binary(field: bytes) -> bytes:
    micros, days, months = _PACKING.unpack(expect_length(field, 16))
    if (micros, days, months) in (_LOWEST, _HIGHEST):
        raise NotReadExactly("an infinite interval is not the same in every version of PostgreSQL", hint="use NULL or a long one")
    return spell_interval(months, days, micros)


def _to_binary(canonical: bytes) -> bytes:
    months, days, micros = parts_of(canonical)
    return _PACKING.pack(micros, days, months)


def _assign(canonical: bytes, typmod: int) -> bytes:
    """Drop what is below the last field, and round the seconds (manual 8.5.4)."""
    if typmod < 0:
        return canonical
    months, days, micros = parts_of(canonical)
    fields, precision = typmod >> 16 & _ALL_FIELDS, typmod & _FULL_PRECISION
    if not fields & SECOND:
        unit = _MINUTE if fields & MINUTE else _HOUR if fields & HOUR else 0
        micros = _split(micros, unit)[0] * unit if unit else 0
        days = days if fields & (DAY | HOUR | MINUTE) else 0
        months = months if fields != YEAR else _split(months, 12)[0] * 12
    if precision <= 6:
        micros = round_micros(micros, precision)
    return spell_interval(months, days, micros)


def _form(canonical: bytes) -> bytes:
    months, days, micros = parts_of(canonical)
    return b"%d" % ((months * 30 + days) * 24 * _HOUR + micros)


def interval(typmod: int = -1) -> Codec:
    """Return the codec of an interval; the fields of the typmod decide what ``'1'`` means in a literal and in COPY."""
    fields = typmod >> 16 & _ALL_FIELDS if typmod >= 0 else _ALL_FIELDS

    def from_text(field: bytes, styles: Styles) -> bytes:
        if not field.isascii():
            raise bad_datetime("interval")
        return spell_interval(*read_interval(field.decode(), styles, fields))

    return Codec(from_text, _from_binary, _to_text, _to_binary, _assign, _form)


INTERVAL = interval()
