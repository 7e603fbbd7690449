"""The types that Parse or PREPARE declares of parameters, noted where these stand: ``$1`` is then what ``$1::integer`` is.

PostgreSQL takes such a parameter for a value of this type wherever it stands (parse_param.c, fixed_paramref_hook).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from phiproxy.errors import ConfigError
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.owntypes import declared_as
from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.types import array_of, by_oid
from phiproxy.sql.parse import Node
from phiproxy.sql.sinks import Parameter
from phiproxy.wire.values import UNKNOWN_OID

_UNDECLARED = (0, UNKNOWN_OID)


def declarations(oids: Sequence[int]) -> tuple[int, ...]:
    """Return what a Parse says of types, without what says nothing: ``(23, 705, 0)`` says the same as ``(23,)``."""
    said = [0 if oid in _UNDECLARED else oid for oid in oids]
    while said and not said[-1]:
        said.pop()
    return tuple(said)


def note_declared(walked: Iterable[Node], catalog: Catalog, oids: Sequence[int]) -> None:
    """Let every parameter of a tree whose type is declared know which; ``walked`` are the tree's messages."""
    if not oids:
        return
    for message in walked:
        body = message.get("ParamRef")
        if body is not None and 0 < (number := body.get("number", 0)) <= len(oids) and (oid := oids[number - 1]):
            message["ParamRef"] = Parameter(body, oid, type_of_oid(catalog, oid))


def type_of_oid(catalog: Catalog, oid: int) -> DeclaredType | None:
    """Return the type of an OID, of the server's own or the database's; None for one whose values are not read here."""
    found = by_oid(oid)
    own = None if found is not None else next((t for t in catalog.types if oid in (t.oid, t.array_oid)), None)
    if own is None:
        return found
    try:
        declared = declared_as(own, catalog.types)
    except ConfigError:
        return None
    return declared if oid == own.oid else array_of(declared)
