"""What a field of a type may hold: a JSON value to the canonical form that is sealed, and back.

A text is a JSON string, a number type a JSON number, a bool true or false; a date or uuid is a string that spells it as PostgreSQL
prints it, so that the document that is opened is the one that was stored. A jsonb is any value.
"""

from collections.abc import Callable
from dataclasses import dataclass

from phiproxy.errors import ValueRefused
from phiproxy.long_values import decoded, encoded
from phiproxy.types.codecs import codec
from phiproxy.types.declared import DeclaredType
from phiproxy.types.json_types import Value, canonical, parse
from phiproxy.types.names import sql_name
from phiproxy.types.styles import Styles

_NUMBERS = frozenset({"int2", "int4", "int8", "numeric"})
_SPELLED = frozenset({"date", "uuid"})


@dataclass(frozen=True, slots=True)
class FieldValues:
    """Both directions of one type: ``sealed`` takes a JSON value that is not null, ``opened`` gives it back.

    ``sealed`` raises ValueRefused (22P02, 22003) for another kind of value, without its path.
    """

    sealed: Callable[[Value], bytes]
    opened: Callable[[bytes], Value]


def field_values(declared: DeclaredType) -> FieldValues:
    """Return what reads and writes the values of a field."""
    family, name = declared.family, sql_name(declared)
    if family == "text":
        return FieldValues(lambda value: encoded(_string(value, name)), decoded)
    if family == "bool":
        return FieldValues(lambda value: _truth(value, name), lambda plain: plain == b"t")
    if family == "jsonb":
        return FieldValues(canonical, parse)
    if family in _NUMBERS:
        return FieldValues(lambda value: _number(value, declared), lambda plain: plain)
    assert family in _SPELLED
    return FieldValues(lambda value: _spelled(value, declared), lambda plain: plain.decode("utf-8"))


def kind_of(value: Value) -> str:
    """Return what jsonb_typeof says of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case bytes():
            return "number"
        case list():
            return "array"
    return "object"


def _other(value: Value, name: str) -> ValueRefused:
    return ValueRefused(f"a JSON {kind_of(value)} is no value of type {name}")


def _string(value: Value, name: str) -> str:
    if not isinstance(value, str):
        raise _other(value, name)
    return value


def _truth(value: Value, name: str) -> bytes:
    if not isinstance(value, bool):
        raise _other(value, name)
    return b"t" if value else b"f"


def _number(value: Value, declared: DeclaredType) -> bytes:
    if not isinstance(value, bytes):
        raise _other(value, sql_name(declared))
    return codec(declared).from_text(value, Styles.CANONICAL)


def _spelled(value: Value, declared: DeclaredType) -> bytes:
    text = _string(value, sql_name(declared)).encode("utf-8")
    if codec(declared).from_text(text, Styles.CANONICAL) != text:
        raise ValueRefused(f"a JSON string spells a {sql_name(declared)} in another way than PostgreSQL prints it")
    return text
