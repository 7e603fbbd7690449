"""What every type's codec is: six functions over bytes, chosen once per column, with nothing to look up per value.

The *canonical form* (spec/stored-format 5) is what PostgreSQL's output function prints with DateStyle ISO, TimeZone UTC,
IntervalStyle postgres, bytea_output hex and extra_float_digits 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from phiproxy.types.styles import Styles


@dataclass(frozen=True, slots=True)
class Codec:
    """The functions of one type.

    ``from_text`` and ``from_binary`` read a field of the wire into the canonical form, without the typmod; ``to_text`` and
    ``to_binary`` write it; ``assign`` applies a typmod as an assignment cast does (it trims, rounds or fails); ``form`` is the
    equality form (spec/stored-format 6.4): equal exactly when the type's ``=`` says so. Errors are ``ValueRefused``.

    ``to_text is as_text`` tells that the canonical form is what every session sees.
    """

    from_text: Callable[[bytes, Styles], bytes]
    from_binary: Callable[[bytes], bytes]
    to_text: Callable[[bytes, Styles], bytes]
    to_binary: Callable[[bytes], bytes]
    assign: Callable[[bytes, int], bytes]
    form: Callable[[bytes], bytes]


def as_is(value: bytes) -> bytes:
    """Return the value: a form that is the canonical one."""
    return value


def as_text(canonical: bytes, styles: Styles) -> bytes:
    """Return the canonical form: a type that no setting spells otherwise."""
    return canonical


def unlimited(canonical: bytes, typmod: int) -> bytes:
    """Return the value: a type without a typmod."""
    return canonical
