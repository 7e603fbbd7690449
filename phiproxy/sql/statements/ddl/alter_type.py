"""DDL on types that protected columns have: it passes where stored values are not affected, and the catalogue is read again."""

from collections.abc import Collection, Iterator

from phiproxy.errors import ConfigError, PathNeeded, StatementRefused
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.policy.user_types import CITEXT, OwnType
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.check_conditions import value_condition
from phiproxy.sql.text.parse import Node, only, strings

_TYPES = frozenset({"OBJECT_TYPE", "OBJECT_DOMAIN"})
_MIGRATE = "Make another type, and a column of it; let the application copy the values; then drop this one."
# AlterDomainStmt.subtype in words, of those that concern values that are there.
_OF_DOMAIN = {"T": "a DEFAULT for it", "N": "DROP NOT NULL", "O": "SET NOT NULL", "V": "VALIDATE CONSTRAINT"}


class DependentObjects(StatementRefused, sqlstate="2BP01"):
    """Columns depend on the type, which the server does not know, since they are bytea to it (2BP01)."""


def check_types(a: Analysis, kind: str, body: Node) -> bool:
    """Tell whether a statement changes the type of a protected column; refuse it where stored values would change.

    ALTER TYPE mood ADD VALUE 'so so'
    → unchanged

    ALTER TYPE mood RENAME TO humour
    → refused 0A000
    """
    changed = False
    for own, column in _changed(a, kind, body):
        changed = True
        why = _obstacle(a, kind, body, column)
        if why:
            error = DependentObjects if kind == "DropStmt" else StatementRefused
            raise a.refuse(why.format(type=own.name, column=column.label), body, hint=_MIGRATE, error=error)
    return changed


def _changed(a: Analysis, kind: str, body: Node) -> Iterator[tuple[OwnType, ProtectedColumn]]:
    """Yield the types in use that a statement changes, each with a column of the type."""
    cascades = body.get("removeType") == "OBJECT_SCHEMA" and body.get("behavior") == "DROP_CASCADE"
    gone = frozenset(strings(body["objects"]) if cascades else ())
    used = _used(a, gone)
    if not used:
        return
    if "OBJECT_EXTENSION" in (body.get("removeType"), body.get("objectType")):
        named = [strings([node])[0] if "String" in node else "" for node in body.get("objects", [body.get("object", {"": {}})])]
        yield from (used[t.oid] for t in a.context.catalog.types if t.kind == CITEXT and CITEXT in named and t.oid in used)
        return
    yield from (pair for pair in used.values() if pair[0].schema in gone)
    own_names = {own.name for own, _ in used.values()}
    for names in _names(kind, body):
        if len(names) == 1 and a.context.path is None and names[0] in own_names:
            raise PathNeeded(a.position(body))
        own = a.context.catalog.type_named(names, a.context.path or ()) if names else None
        if own is not None and own.oid in used:
            yield used[own.oid]


def _names(kind: str, body: Node) -> list[list[str]]:
    if kind in ("AlterEnumStmt", "AlterDomainStmt"):
        return [strings(body["typeName"])]
    if kind in ("RenameStmt", "AlterObjectSchemaStmt") and (body.get("renameType") or body.get("objectType")) in _TYPES:
        return [strings(only(body["object"])[1]["items"])]
    if kind == "DropStmt" and body.get("removeType") in _TYPES:
        return [strings(only(node)[1]["names"]) for node in body["objects"]]
    return []


def _used(a: Analysis, gone: Collection[str]) -> dict[int, tuple[OwnType, ProtectedColumn]]:
    """Return the types of protected columns, and those that they are made of, by OID; but for tables in schemas that are gone."""
    catalog = a.context.catalog
    types = {t.oid: t for t in catalog.types}
    by_oid: dict[int, tuple[OwnType, ProtectedColumn]] = {}
    for table in a.context.protection.tables:
        for column in table.columns.values() if table.schema not in gone else ():
            own = types.get((column.type.element or column.type).oid)
            relation = catalog.find(table.schema, table.name) if own is not None else None
            while own is not None and relation is not None and relation.column(column.name) is not None:
                by_oid.setdefault(own.oid, (own, column))
                own = types.get(own.base_oid)
    return by_oid


def _obstacle(a: Analysis, kind: str, body: Node, column: ProtectedColumn) -> str:
    """Return why a statement is refused, or an empty string; ``{type}`` and ``{column}`` stand for their names."""
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
