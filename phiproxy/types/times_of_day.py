"""Times of day: microseconds from midnight as ``04:05:06.789``, and their rounding; shared by all types that have one."""

DAY = 86_400_000_000
"""Microseconds."""


def spell_time(micros: int) -> bytes:
    """Return ``HH:MM:SS`` with a fraction that has no needless zeros."""
    seconds, fraction = divmod(micros, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    if fraction:
        return (b"%02d:%02d:%02d.%06d" % (hour, minute, second, fraction)).rstrip(b"0")
    return b"%02d:%02d:%02d" % (hour, minute, second)


def micros_of(text: bytes) -> int:
    """Return the microseconds of what ``spell_time`` has spelled."""
    whole = (int(text[:2]) * 60 + int(text[3:5])) * 60 + int(text[6:8])
    return whole * 1_000_000 + int(text[9:].ljust(6, b"0"))


def round_micros(micros: int, precision: int) -> int:
    """Round to so many digits of a second, half away from zero, as the server's assignment does."""
    unit = int(10 ** (6 - precision))
    rounded = (abs(micros) + unit // 2) // unit * unit
    return rounded if micros >= 0 else -rounded


def spell_offset(seconds: int) -> bytes:
    """Return an offset to the east as ``+02``, ``-03:30`` or ``+00:53:28``."""
    minutes, second = divmod(abs(seconds), 60)
    hour, minute = divmod(minutes, 60)
    sign = b"-" if seconds < 0 else b"+"
    if second:
        return sign + b"%02d:%02d:%02d" % (hour, minute, second)
    return sign + (b"%02d:%02d" % (hour, minute) if minute else b"%02d" % hour)


def seconds_of(offset: bytes) -> int:
    """Return the seconds to the east of what ``spell_offset`` has spelled."""
    hour, minute, second = (int(part) for part in [*offset[1:].split(b":"), b"0", b"0"][:3])
    total = (hour * 60 + minute) * 60 + second
    return -total if offset[:1] == b"-" else total
