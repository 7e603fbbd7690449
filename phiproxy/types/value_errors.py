"""PostgreSQL's own errors for values, one class for each SQLSTATE; a text never holds the value."""

from phiproxy.errors import ValueRefused


class NumericValueOutOfRange(ValueRefused, sqlstate="22003"):
    """22003."""


class InvalidDatetimeFormat(ValueRefused, sqlstate="22007"):
    """22007."""


class DatetimeFieldOverflow(ValueRefused, sqlstate="22008"):
    """22008."""


class InvalidTimeZoneDisplacement(ValueRefused, sqlstate="22009"):
    """22009."""


class IntervalFieldOverflow(ValueRefused, sqlstate="22015"):
    """22015."""


class InvalidParameterValue(ValueRefused, sqlstate="22023"):
    """22023."""


class ArrayTooLarge(ValueRefused, sqlstate="54000"):
    """54000."""


class InvalidBinaryRepresentation(ValueRefused, sqlstate="22P03"):
    """22P03."""


class UnsupportedVersion(ValueRefused, sqlstate="XX000"):
    """XX000: a jsonb in binary form is of a version that PostgreSQL does not have."""


class ProtocolViolation(ValueRefused, sqlstate="08P01"):
    """08P01: a value in binary form is shorter or longer than its type."""


class UntranslatableCharacter(ValueRefused, sqlstate="22P05"):
    """22P05."""


class CheckViolated(ValueRefused, sqlstate="23514"):
    """23514: a value is none of its domain, of which a constraint says so."""

    def __init__(self, schema: str, domain: str, constraint: str) -> None:
        super().__init__(f'value for domain {domain} violates check constraint "{constraint}"')
        self.objects = ((ord("s"), schema), (ord("d"), domain), (ord("n"), constraint))


class ChildMayRefuse(ValueRefused, sqlstate="0A000", anchor="err-refused"):
    """0A000: PostgreSQL would refuse the value in rows of a child of a table, and take it in those of the table itself."""

    def __init__(self, column: str, constraint: str, child: str) -> None:
        super().__init__(
            f'the value for {column} violates check constraint "{constraint}" of {child}, and rows of that may be written too',
            hint=f"Write ONLY before the table to leave out its children, or write {child} by its own name.",
        )


class NotReadExactly(ValueRefused, sqlstate="0A000", anchor="err-refused"):
    """0A000: PostgreSQL may take this spelling; phiproxy does not read it, or not the same in every version or moment."""


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
