"""Types of the database's own in a statement: ``'x'::mood``, ``CAST($1 AS public.citext)``, found as the server finds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from phiproxy.errors import ConfigError, PathNeeded
from phiproxy.policy.owntypes import declared_as
from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.types import BUILTIN, array_of
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.parse import Node, strings
from phiproxy.sql.sinks import Named

_NOT_PLAIN = ("typmods", "setof", "pct_type")


def find_types(a: Analysis, walked: Iterable[Node]) -> None:
    """Let every TypeName of a tree that means an enum, a domain or citext know which; PathNeeded where that depends on the path."""
    if not a.context.catalog.types:
        return
    for message in walked:
        for key in ("typeName", "TypeName"):  # of a cast or a column, and in a list of types
            body = message.get(key)
            if isinstance(body, dict) and (declared := declared_type(a, body)) is not None:
                message[key] = Named(body, declared)


def declared_type(a: Analysis, body: dict[str, Any]) -> DeclaredType | None:
    """Return the type of the database's own that a TypeName body means, where it is one that can be protected; else None."""
    names = strings(body.get("names"))
    if not names or names[-1] not in a.context.catalog.type_names or any(body.get(key) for key in _NOT_PLAIN):
        return None
    found = _scalar(a, names, body)
    bounds = len(body.get("arrayBounds", ()))
    return None if found is None or bounds > 1 else array_of(found) if bounds else found


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
