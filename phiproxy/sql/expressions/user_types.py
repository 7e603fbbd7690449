"""The types that a statement's own text does not tell: the database's own, such as ``'x'::mood``, and those of parameters.

The database's types are resolved as the server resolves them. Parse or PREPARE declares types of parameters, which are noted in the
tree: ``$1`` then means what ``$1::integer`` means, wherever it occurs (parse_param.c, fixed_paramref_hook).
"""

from collections.abc import Iterable, Sequence
from typing import Any

from phiproxy.errors import ConfigError, PathNeeded
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_types import BUILTIN, array_of, by_oid
from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.user_types import declared_as
from phiproxy.sql.context import Analysis
from phiproxy.sql.text.parse import Node, strings
from phiproxy.sql.values.operands import Named, Parameter
from phiproxy.wire.oids import UNKNOWN_OID

_NOT_PLAIN = ("typmods", "setof", "pct_type")


def find_types(a: Analysis, walked: Iterable[Node]) -> None:
    """Note on every TypeName of a tree which enum, domain or citext it means; PathNeeded where that depends on the path.

    SELECT id FROM diaries WHERE mood = 'good'::mood
    → SELECT id FROM diaries WHERE tag(mood) = tag('good')
    """
    if not a.context.catalog.types:
        return
    for message in walked:
        for key in ("typeName", "TypeName"):  # of a cast or a column, and in a list of types
            body = message.get(key)
            if isinstance(body, dict) and (declared := declared_type(a, body)) is not None:
                message[key] = Named(body, declared)


def declared_type(a: Analysis, body: dict[str, Any]) -> DeclaredType | None:
    """Return the database's own type that a TypeName means, if it can be protected; else None."""
    names = strings(body.get("names"))
    if not names or names[-1] not in a.context.catalog.type_names or any(body.get(key) for key in _NOT_PLAIN):
        return None
    scalar = _scalar(a, names, body)
    bounds = len(body.get("arrayBounds", ()))
    return None if scalar is None or bounds > 1 else array_of(scalar) if bounds else scalar


def _scalar(a: Analysis, names: list[str], body: Node) -> DeclaredType | None:
    context = a.context
    if len(names) == 1:
        if names[0] in BUILTIN:
            return None
        if context.path is None:
            raise PathNeeded(a.position(body))
    own = context.catalog.type_named(names, context.path or ())
    if own is None:
        return None
    try:
        return declared_as(own, context.catalog.types)
    except ConfigError:
        return None


_UNDECLARED = (0, UNKNOWN_OID)


def declarations(oids: Sequence[int]) -> tuple[int, ...]:
    """Return the type OIDs of a Parse without those that declare nothing: ``(23, 705, 0)`` declares the same as ``(23,)``."""
    said = [0 if oid in _UNDECLARED else oid for oid in oids]
    while said and not said[-1]:
        said.pop()
    return tuple(said)


def note_declared(walked: Iterable[Node], catalog: Catalog, oids: Sequence[int]) -> None:
    """Note the declared type on every ParamRef among ``walked``, the messages of a tree."""
    if not oids:
        return
    for message in walked:
        body = message.get("ParamRef")
        if body is not None and 0 < (number := body.get("number", 0)) <= len(oids) and (oid := oids[number - 1]):
            message["ParamRef"] = Parameter(body, oid, type_of_oid(catalog, oid))


def type_of_oid(catalog: Catalog, oid: int) -> DeclaredType | None:
    """Return the type with this OID, PostgreSQL's own or the database's; None for a type whose values phiproxy cannot read."""
    servers_own = by_oid(oid)
    own = None if servers_own is not None else next((t for t in catalog.types if oid in (t.oid, t.array_oid)), None)
    if own is None:
        return servers_own
    try:
        declared = declared_as(own, catalog.types)
    except ConfigError:
        return None
    return declared if oid == own.oid else array_of(declared)
