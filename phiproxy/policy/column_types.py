"""The types of spec/sql 7: how they may be spelled, and what PostgreSQL's catalogue says of each.

Types of the database's own (enums, domains, citext) are named ``schema.type``, or by the name alone where there is only one of it;
what they are is read with the catalogue (``user_types``).
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from phiproxy.errors import ConfigError
from phiproxy.policy.identifiers import quote_ident, split_identifiers
from phiproxy.policy.protection import DeclaredType
from phiproxy.types.codecs import codec
from phiproxy.wire.oids import BUILTIN_TYPES

_MAX_VARCHAR = 10_485_760  # MaxAttrSize of PostgreSQL
_MAX_NUMERIC = 1000


# Those that a column may be protected as.
BUILTIN = {
    name: BUILTIN_TYPES[name]
    for name in (
        "bool", "bytea", "int8", "int2", "int4", "text", "json", "cidr", "float4", "float8", "inet", "bpchar", "varchar", "date",
        "time", "timestamp", "timestamptz", "interval", "timetz", "numeric", "uuid", "jsonb",
    )
}  # fmt: skip
_SPELLED = {
    "boolean": "bool", "bigint": "int8", "smallint": "int2", "int": "int4", "integer": "int4", "real": "float4",
    "double precision": "float8", "decimal": "numeric", "dec": "numeric", "character varying": "varchar", "char varying": "varchar",
    "character": "char", "time without time zone": "time", "time with time zone": "timetz",
    "timestamp without time zone": "timestamp", "timestamp with time zone": "timestamptz",
}  # fmt: skip
_FRACTIONS = frozenset({"time", "timetz", "timestamp", "timestamptz", "interval"})
_MAX_FRACTION = 6

SUPPORTED = (*sorted(BUILTIN.keys() - {"bpchar"} | {"char"}), "citext", "enums and domains as schema.type", "arrays of these")
_SHAPE = re.compile(r"(?P<name>[a-z0-9_ ]+?)\s*(?:\(\s*(?P<args>[0-9]+(?:\s*,\s*-?[0-9]+)?)\s*\))?\s*(?P<array>\[\s*\])?")
_ARRAY = re.compile(r"\s*\[\s*\]\s*$")
# "timestamp(3) with time zone": the precision stands in the middle of the name
_PRECISION_INSIDE = re.compile(r"(timestamp|time)\s*(\(\s*\d\s*\))(\s+with(?:out)?\s+time\s+zone)")


def parse_type(text: str) -> DeclaredType:
    """Return the type that a policy names, in its canonical spelling, with what pg_type says of it.

    One of the database's own has oid 0 until it is found in the catalogue. Raises ValueError, for the operator, for a type that is
    unknown or not in this version.
    """
    declared = named_type(text)
    if not declared.known:
        return declared
    try:
        codec(declared)
    except ConfigError:
        raise ValueError(f"type {text} is not in this version") from None
    return declared


def named_type(text: str) -> DeclaredType:
    """Return the type of a spelling; ValueError, text for the operator, for one that is none of spec/sql 7."""
    folded = " ".join(text.lower().removeprefix("pg_catalog.").split())
    match = _SHAPE.fullmatch(_PRECISION_INSIDE.sub(r"\1\3\2", folded))
    name = match["name"] if match else ""
    name = _SPELLED.get(name, name)
    if match is None or (name not in BUILTIN and name not in ("char", "float")):
        return _own_type(text)
    args = [int(arg) for arg in (match["args"] or "").split(",") if arg]
    declared = _declared(name, args)
    return array_of(declared) if match["array"] else declared


def _own_type(text: str) -> DeclaredType:
    """Return a type of the database's own by its name; ValueError for what cannot be such a name."""
    parts: tuple[str, ...] = ()
    with suppress(ValueError):
        parts = split_identifiers(_ARRAY.sub("", text.strip()))
    if not 1 <= len(parts) <= 2 or parts[0] == "pg_catalog":
        raise ValueError(f"unknown type {text!r}; there are {', '.join(SUPPORTED)}")
    named = DeclaredType(".".join(map(quote_ident, parts)), 0)
    return array_of(named) if _ARRAY.search(text) else named


def builtin(name: str, typmod: int = -1, modifiers: str = "") -> DeclaredType:
    """Return a type by the name that pg_type gives it."""
    row = BUILTIN[name]
    shown = "char" if name == "bpchar" and modifiers else name
    return DeclaredType(shown + modifiers, row.oid, typmod, size=row.size, array_oid=row.array_oid)


def of_typmod(oid: int, typmod: int) -> DeclaredType | None:
    """Return a built-in type with the typmod that pg_type or pg_attribute has of it; None for any that is not one of these."""
    declared = _BY_OID.get(oid)
    if declared is None or typmod == -1:
        return declared
    scalar = declared.element or declared
    modifiers = _modifiers(scalar.family, typmod)
    if modifiers is None:
        return None
    return modified(scalar.family, modifiers, array=declared.element is not None)


def _modifiers(family: str, typmod: int) -> list[int] | None:
    """Return what stands in the brackets behind a type; None where it is not known, as of an interval that has not all fields."""
    if family in ("varchar", "bpchar"):
        return [typmod - 4]
    if family == "numeric":
        scale = (typmod - 4) & 0x7FF
        return [(typmod - 4) >> 16 & 0xFFFF, scale - 2048 if scale > 1023 else scale]
    return [typmod] if family in _FRACTIONS - {"interval"} else None


def modified(name: str, modifiers: Sequence[int], *, array: bool = False) -> DeclaredType | None:
    """Return a built-in type by its name in pg_type and its modifiers as they are written; None for any other."""
    if name not in BUILTIN or (name == "interval" and modifiers):
        return None  # of an interval, the grammar puts fields before the precision
    try:
        declared = _declared(name, list(modifiers))
    except ValueError:
        return None
    return array_of(declared) if array else declared


def by_oid(oid: int) -> DeclaredType | None:
    """Return a built-in type, or an array of one, without a length; None for any other."""
    return _BY_OID.get(oid)


def array_of(element: DeclaredType) -> DeclaredType:
    """Return the type of one-dimensional and other arrays of a type."""
    return DeclaredType(element.name + "[]", element.array_oid, element.typmod, element=element)


def _declared(name: str, args: list[int]) -> DeclaredType:
    if name in ("varchar", "char", "bpchar"):
        return _characters(name, args)
    if name == "float":
        if len(args) > 1 or not 1 <= (args or [53])[0] <= 53:
            raise ValueError("float(n): the precision must be 1 to 53")
        return builtin("float4" if args and args[0] < 25 else "float8")
    if name == "numeric" and args:
        return _numeric(args)
    if name in _FRACTIONS and args:
        if len(args) > 1 or args[0] > _MAX_FRACTION:
            raise ValueError(f"{name}(p): the precision must be 0 to {_MAX_FRACTION}")
        # Of an interval, the fields are in the upper half: all of them (INTERVAL_FULL_RANGE).
        typmod = 0x7FFF << 16 | args[0] if name == "interval" else args[0]
        return builtin(name, typmod, f"({args[0]})")
    if args:
        raise ValueError(f"type {name} takes no length")
    return builtin(name)


def _characters(name: str, args: list[int]) -> DeclaredType:
    if not args:
        return builtin("bpchar", 5, "(1)") if name == "char" else builtin(name)
    if len(args) > 1 or not 1 <= args[0] <= _MAX_VARCHAR:
        raise ValueError(f"{name}(n): the length must be 1 to {_MAX_VARCHAR}")
    return builtin("varchar" if name == "varchar" else "bpchar", args[0] + 4, f"({args[0]})")


def _numeric(args: list[int]) -> DeclaredType:
    precision, scale = args[0], args[1] if len(args) > 1 else 0
    if not 1 <= precision <= _MAX_NUMERIC or not -_MAX_NUMERIC <= scale <= _MAX_NUMERIC:
        raise ValueError(f"numeric(p,s): the precision must be 1 to {_MAX_NUMERIC}, the scale -{_MAX_NUMERIC} to {_MAX_NUMERIC}")
    return builtin("numeric", (precision << 16 | scale & 0x7FF) + 4, f"({precision},{scale})")


def _by_oids() -> Iterator[tuple[int, DeclaredType]]:
    for name, row in BUILTIN.items():
        yield row.oid, builtin(name)
        yield row.array_oid, array_of(builtin(name))


_BY_OID = dict(_by_oids())
