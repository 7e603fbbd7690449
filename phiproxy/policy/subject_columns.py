"""Whom a row is about: the types that a table's subject column may have, and the one spelling of a value of each.

The audit log knows a person by that spelling, however the value came: as a parameter or a constant, as text or in binary.
"""

from typing import Final, Literal
from uuid import UUID

from phiproxy.wire.oids import oids

SubjectKind = Literal["integer", "uuid", "text"]

_KINDS: Final[dict[SubjectKind, frozenset[int]]] = {
    "integer": oids("int2", "int4", "int8"), "uuid": oids("uuid"), "text": oids("text", "varchar"),
}  # fmt: skip
# How a parameter may be declared whose values are spelled as those of a column of a kind: 0 and unknown are of the column's type.
_DECLARED: Final = {kind: own | oids("unknown") | {0} for kind, own in _KINDS.items()}
_DECLARED_INTEGERS: Final = (2, 4, 8)


def subject_kind(oid: int) -> SubjectKind | None:
    """Return the kind of a type by its OID; None for one that a subject cannot have."""
    return next((kind for kind, own in _KINDS.items() if oid in own), None)


def may_declare(kind: SubjectKind, oid: int) -> bool:
    """Tell whether a parameter that is declared as this type is compared and stored as it is spelled."""
    return oid in _DECLARED[kind]


def spelled_subject(kind: SubjectKind, value: bytes, *, binary: bool = False) -> bytes | None:
    """Return the one spelling of a value, in UTF-8; None for what is no value of the kind, and then the server refuses it.

    ``' 04711 '`` is ``4711`` of an integer, ``{A0EEBC99-9C0B-…}`` is ``a0eebc99-9c0b-…`` of a uuid.
    """
    try:
        if binary:
            return _from_binary(kind, value)
        if kind == "integer":
            return b"%d" % int(value.decode("ascii"))
        return str(UUID(value.decode("ascii"))).encode() if kind == "uuid" else value
    except ValueError:
        return None


def _from_binary(kind: SubjectKind, value: bytes) -> bytes | None:
    if kind == "integer":
        return b"%d" % int.from_bytes(value, "big", signed=True) if len(value) in _DECLARED_INTEGERS else None
    return str(UUID(bytes=value)).encode() if kind == "uuid" else value
