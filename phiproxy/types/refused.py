"""PostgreSQL's own errors for values, one class for each SQLSTATE; a text never holds the value."""

from __future__ import annotations

from phiproxy.errors import ValueRefused


class NumericValueOutOfRange(ValueRefused):
    """22003."""

    sqlstate = "22003"


class InvalidDatetimeFormat(ValueRefused):
    """22007."""

    sqlstate = "22007"


class DatetimeFieldOverflow(ValueRefused):
    """22008."""

    sqlstate = "22008"


class InvalidTimeZoneDisplacement(ValueRefused):
    """22009."""

    sqlstate = "22009"


class IntervalFieldOverflow(ValueRefused):
    """22015."""

    sqlstate = "22015"


class InvalidParameterValue(ValueRefused):
    """22023."""

    sqlstate = "22023"


class ArrayTooLarge(ValueRefused):
    """54000."""

    sqlstate = "54000"


class InvalidBinaryRepresentation(ValueRefused):
    """22P03."""

    sqlstate = "22P03"


class ProtocolViolation(ValueRefused):
    """08P01: a value in binary form is shorter or longer than its type."""

    sqlstate = "08P01"


class UntranslatableCharacter(ValueRefused):
    """22P05."""

    sqlstate = "22P05"


class CheckViolated(ValueRefused):
    """23514: a value is none of its domain, of which a constraint says so."""

    sqlstate = "23514"

    def __init__(self, schema: str, domain: str, constraint: str) -> None:
        super().__init__(f'value for domain {domain} violates check constraint "{constraint}"')
        self.objects = ((ord("s"), schema), (ord("d"), domain), (ord("n"), constraint))


class NotReadExactly(ValueRefused):
    """0A000: PostgreSQL may take this spelling; phiproxy does not read it, or not the same in every version or moment."""

    sqlstate = "0A000"
    anchor = "err-refused"


def bad_syntax(type_name: str) -> ValueRefused:
    """Return PostgreSQL's error for a text that is no value of the type (22P02)."""
    return ValueRefused(f"invalid input syntax for type {type_name}")


def bad_datetime(type_name: str) -> InvalidDatetimeFormat:
    """Return PostgreSQL's error for a text that is no date, time or interval (22007)."""
    return InvalidDatetimeFormat(f"invalid input syntax for type {type_name}")


def out_of_range(type_name: str) -> NumericValueOutOfRange:
    """Return PostgreSQL's error for a number that the type does not hold (22003)."""
    return NumericValueOutOfRange(f"value is out of range for type {type_name}")


def field_overflow() -> DatetimeFieldOverflow:
    """Return PostgreSQL's error for a month 13, a February 30, an hour 25 (22008)."""
    return DatetimeFieldOverflow("date/time field value out of range")


def expect_length(field: bytes, length: int) -> bytes:
    """Return a binary field of a fixed length; else PostgreSQL's error for a message that is too short, or for a rest (22P03)."""
    if len(field) < length:
        raise ProtocolViolation("insufficient data left in message")
    if len(field) > length:
        raise InvalidBinaryRepresentation("incorrect binary data format in a value")
    return field
