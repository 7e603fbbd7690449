"""The types of sql.md section 7: which are known, and which of them this version encrypts."""

from __future__ import annotations

import re

from phiproxy.policy.protection import DeclaredType

TEXT_OID = 25
VARCHAR_OID = 1043
BYTEA_OID = 17
_MAX_VARCHAR = 10_485_760  # MaxAttrSize of PostgreSQL

SUPPORTED = ("text", "varchar", "varchar(n)")
_WORDS = """
char character bpchar int2 smallint int4 int integer int8 bigint numeric decimal float4 real float8 bool
boolean date time timetz timestamp timestamptz interval uuid bytea json jsonb inet cidr citext
"""
_LATER = frozenset(_WORDS.split()) | {
    "double precision",
    "time with time zone",
    "time without time zone",
    "timestamp with time zone",
    "timestamp without time zone",
}
_SHAPE = re.compile(r"(?P<name>[a-z0-9_ ]+?)\s*(?:\(\s*(?P<args>[0-9]+(?:\s*,\s*[0-9]+)?)\s*\))?\s*(?P<array>\[\])?")
# "timestamp(3) with time zone": the precision stands in the middle of the name
_PRECISION_INSIDE = re.compile(r"(timestamp|time)\s*\(\s*\d\s*\)(\s+with(?:out)?\s+time\s+zone)")


def parse_type(text: str) -> DeclaredType:
    """Return the type that a policy names, in its canonical spelling, with its oid and typmod.

    Raises ValueError, text for the operator, for a type that is unknown or not in this version.
    """
    folded = _PRECISION_INSIDE.sub(r"\1\2", " ".join(text.lower().split()))
    match = _SHAPE.fullmatch(folded)
    name = match["name"] if match else ""
    if match and name == "text" and not match["args"] and not match["array"]:
        return DeclaredType("text", TEXT_OID)
    if match and name in ("varchar", "character varying") and not match["array"]:
        return _varchar(match["args"])
    if match and (name in _LATER or name in ("text", "varchar", "character varying")):
        raise ValueError(f"type {text} is not in this version (this version encrypts {', '.join(SUPPORTED)})")
    raise ValueError(f"unknown type {text!r}; this version encrypts {', '.join(SUPPORTED)}")


def _varchar(args: str | None) -> DeclaredType:
    if args is None:
        return DeclaredType("varchar", VARCHAR_OID)
    if "," in args or not 1 <= int(args) <= _MAX_VARCHAR:
        raise ValueError(f"varchar({args}): the length must be 1 to {_MAX_VARCHAR}")
    return DeclaredType(f"varchar({int(args)})", VARCHAR_OID, int(args) + 4)
