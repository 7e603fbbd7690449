"""DDL of types that protected columns have: what changes nothing in stored values passes, and the catalogue is read again."""

from __future__ import annotations

from collections.abc import Iterator

from phiproxy.errors import ConfigError, PathNeeded, StatementRefused
from phiproxy.policy.owntypes import CITEXT, OwnType
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.conditions import value_condition
from phiproxy.sql.parse import Node, only, strings

_TYPES = frozenset({"OBJECT_TYPE", "OBJECT_DOMAIN"})
_MIGRATE = "Make another type, and a column of it; let the application copy the values; then drop this one."
# AlterDomainStmt.subtype in words, of those that concern values that are there.
_OF_DOMAIN = {"T": "a DEFAULT for it", "N": "DROP NOT NULL", "O": "SET NOT NULL", "V": "VALIDATE CONSTRAINT"}


class DependentObjects(StatementRefused):
    """What depends on a type is not known to the server, which has the columns as bytea (2BP01)."""

    sqlstate = "2BP01"


def check_types(a: Analysis, kind: str, body: Node) -> bool:
    """Tell whether a statement changes a type of a protected column; raise where stored values would be another thing by it."""
    changed = False
    for own, column in _changed(a, kind, body):
        changed = True
        why = _obstacle(a, kind, body, column)
        if why:
            error = DependentObjects if kind == "DropStmt" else StatementRefused
            raise a.refuse(why.format(type=own.name, column=column.label), body, hint=_MIGRATE, error=error)
    return changed


def _changed(a: Analysis, kind: str, body: Node) -> Iterator[tuple[OwnType, ProtectedColumn]]:
    """Yield the types in use that a statement is about, each with a column of it."""
    used = _used(a)
    if not used:
        return
    if "OBJECT_EXTENSION" in (body.get("removeType"), body.get("objectType")):
        named = [strings([node])[0] if "String" in node else "" for node in body.get("objects", [body.get("object", {"": {}})])]
        yield from (used[t.oid] for t in a.context.catalog.types if t.kind == CITEXT and CITEXT in named and t.oid in used)
        return
    known = {own.name for own, _ in used.values()}
    for names in _names(kind, body):
        if len(names) == 1 and a.context.path is None and names[0] in known:
            raise PathNeeded(a.position(body))
        own = a.context.catalog.type_named(names, a.context.path or ()) if names else None
        if own is not None and own.oid in used:
            yield used[own.oid]


def _names(kind: str, body: Node) -> list[list[str]]:
    """Return the names of the types that a statement changes."""
    if kind == "AlterEnumStmt":
        return [strings(body["typeName"])]
    if kind == "AlterDomainStmt":
        return [strings(body["typeName"])]
    if kind == "RenameStmt" and body.get("renameType") in _TYPES:
        return [strings(only(body["object"])[1]["items"])]
    if kind == "AlterObjectSchemaStmt" and body.get("objectType") in _TYPES:
        return [strings(only(body["object"])[1]["items"])]
    if kind == "DropStmt" and body.get("removeType") in _TYPES:
        return [strings(only(node)[1]["names"]) for node in body["objects"]]
    return []


def _used(a: Analysis) -> dict[int, tuple[OwnType, ProtectedColumn]]:
    """Return the types of the columns that are there, and what they are made of, by oid."""
    catalog = a.context.catalog
    types = {t.oid: t for t in catalog.types}
    found: dict[int, tuple[OwnType, ProtectedColumn]] = {}
    for table in a.context.protection.tables:
        relation = catalog.find(table.schema, table.name)
        for column in table.columns.values() if relation is not None and types else ():
            own = types.get((column.type.element or column.type).oid)
            while own is not None and relation is not None and relation.column(column.name) is not None:
                found.setdefault(own.oid, (own, column))
                own = types.get(own.base_oid)
    return found


def _obstacle(a: Analysis, kind: str, body: Node, column: ProtectedColumn) -> str:
    """Return why a statement is refused, empty where it is not; ``{type}`` and ``{column}`` stand for what it is about."""
    if kind == "AlterEnumStmt":
        return "values of {column} hold the labels of {type}: the server cannot rename them there" if body.get("oldVal") else ""
    if kind == "AlterDomainStmt":
        return _of_domain(a, body, column)
    if kind == "DropStmt":
        return "cannot drop type {type} because other objects depend on it: {column} has it"
    return "{column} is protected as of type {type}, which would be called otherwise"


def _of_domain(a: Analysis, body: Node, column: ProtectedColumn) -> str:
    subtype = body["subtype"]
    if subtype in _OF_DOMAIN:
        return f"{{column}} has type {{type}}, and {_OF_DOMAIN[subtype]} would concern values that the server cannot see"
    if subtype != "C":
        return ""
    constraint = only(body["def"])[1]
    if not constraint.get("skip_validation"):
        return "{column} holds values of {type} that the server cannot look at: write NOT VALID"
    try:
        value_condition(a, constraint["raw_expr"], column)
    except (StatementRefused, ConfigError) as error:
        return f"{{column}} has type {{type}}, and this constraint is not understood: {error.message}"
    return ""
