"""RENAME and SET SCHEMA of protected tables and what is in them.

A protected column or table is renamed only to a name that is protected as the same already, in the policy by ``renamed_to`` or by
a domain. So nobody, whatever they have read of the catalogue, takes it for unprotected at any moment, and a rollback needs nothing.
"""

from __future__ import annotations

from phiproxy.policy.catalog import Relation
from phiproxy.policy.guards import guard_name, hidden_name
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import ProtectedTable
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.definition import Definition
from phiproxy.sql.ddl.foreign import hidden_columns
from phiproxy.sql.parse import Node

_HINT = "Say `renamed_to:` in the policy, run `phiproxy keys init --planned`, reload all proxies, and send this again."


def rename(a: Analysis, body: Node) -> bool:
    """Bring a RenameStmt into physical form; False where its kind is not understood here."""
    kind = body["renameType"]
    if kind not in ("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TABLE") or body.get("relationType") == "OBJECT_VIEW":
        return False
    found = a.relation(body["relation"], target=True)
    assert isinstance(found, Relation)
    table = a.protected(found)
    if table is None and not found.schema.startswith("pg_temp"):
        return False
    definition = Definition(a, "RenameStmt", body, "ALTER TABLE")
    definition.qualify(body["relation"], found.schema)
    if table is None:
        pass  # its session's own: no name of it is anybody else's
    elif kind == "OBJECT_COLUMN":
        _column(definition, found, table)
    elif kind == "OBJECT_TABLE":
        _check_place(definition, found, (found.schema, body["newname"]))
    else:
        _constraint(definition, found)
    definition.settle()
    return True


def set_schema(a: Analysis, body: Node) -> bool:
    """Bring an AlterObjectSchemaStmt into physical form; False where it is of no protected table."""
    if body["objectType"] != "OBJECT_TABLE":
        return False
    found = a.relation(body["relation"], target=True)
    assert isinstance(found, Relation)
    if a.protected(found) is None:
        return False
    definition = Definition(a, "AlterObjectSchemaStmt", body, "ALTER TABLE")
    definition.qualify(body["relation"], found.schema)
    _check_place(definition, found, (body["newschema"], found.name))
    definition.settle()
    return True


def _column(definition: Definition, found: Relation, table: ProtectedTable) -> None:
    a, body = definition.a, definition.body
    old, new = table.columns.get(body["subname"]), table.columns.get(body["newname"])
    if old is None and new is not None:
        raise a.refuse(
            f"{found.qualified}.{body['newname']} is protected, and the values of this column are not encrypted",
            body["relation"],
            hint="Add the protected column, and let the application copy the values.",
        )
    if old is None:
        return
    if new is None or new.number != old.number:
        raise a.refuse(f'{old.label} is protected, and "{body["newname"]}" is not as the same', body["relation"], hint=_HINT)
    full = f"{quote_ident(found.schema)}.{quote_ident(found.name)}"
    for name, number in hidden_columns(found, old):
        definition.after.append(f"ALTER TABLE {full} RENAME COLUMN {quote_ident(name)} TO {quote_ident(hidden_name(new, number))}")
    if (old.name, old.number) in found.guards:
        names = quote_ident(guard_name(old.name)), quote_ident(guard_name(new.name))
        definition.after.append(f"ALTER TABLE {full} RENAME CONSTRAINT {names[0]} TO {names[1]}")


def _check_place(definition: Definition, found: Relation, to: tuple[str, str]) -> None:
    a = definition.a
    if not a.context.protection.may_move((found.schema, found.name), (c.name for c in found.columns), to):
        text = f"{found.qualified} has protected columns, and those of {'.'.join(to)} are not protected as the same"
        raise a.refuse(text, definition.body["relation"], hint=_HINT)


def _constraint(definition: Definition, found: Relation) -> None:
    body = definition.body
    index = found.index(body["subname"])
    if index is not None and index.unique and not index.constraint:
        old, new = quote_ident(index.name), quote_ident(body["newname"])
        definition.kept = False
        definition.after.append(f"ALTER INDEX {quote_ident(found.schema)}.{old} RENAME TO {new}")
