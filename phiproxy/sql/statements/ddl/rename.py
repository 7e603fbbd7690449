"""RENAME and SET SCHEMA of protected tables and of what is in them.

A protected column or table may only get a name that is protected as the same already, by ``renamed_to`` or by a domain in the
policy. So nobody takes it for unprotected at any moment, and a rollback needs no care.
"""

from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import hidden_name
from phiproxy.policy.plaintext_guards import guard_name
from phiproxy.policy.protection import ProtectedTable
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.alter_view import alter_view
from phiproxy.sql.statements.ddl.foreign_keys import hidden_columns
from phiproxy.sql.statements.ddl.physical_form import Definition
from phiproxy.sql.table_names import meant_relation, protected_table
from phiproxy.sql.text.parse import Node

_HINT = "Say `renamed_to:` in the policy, run `phiproxy keys init --planned`, reload all proxies, and send this again."


def rename(a: Analysis, body: Node) -> bool:
    """Bring RENAME into physical form; return False for a kind that is not understood here.

    ALTER TABLE patients RENAME COLUMN city TO town
    → ALTER TABLE public.patients RENAME COLUMN city TO town

    ALTER TABLE patients RENAME COLUMN ssn TO social
    → refused 0A000
    """
    kind = body["renameType"]
    if "OBJECT_VIEW" in (kind, body.get("relationType")):
        return alter_view(a, "RenameStmt", body)
    if kind not in ("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TABLE"):
        return False
    relation = meant_relation(a, body["relation"])
    table = protected_table(a, relation)
    if table is None and not relation.schema.startswith("pg_temp"):
        return False
    definition = Definition(a, "RenameStmt", body, "ALTER TABLE")
    definition.qualify(body["relation"], relation.schema)
    if table is None:
        pass  # its session's own: no name of it is anybody else's
    elif kind == "OBJECT_COLUMN":
        _column(definition, relation, table)
    elif kind == "OBJECT_TABLE":
        _check_new_name(definition, relation, (relation.schema, body["newname"]))
    elif (index := relation.index(body["subname"])) is not None and index.unique and not index.constraint:
        old, new = quote_ident(index.name), quote_ident(body["newname"])
        definition.sent = False
        definition.after.append(f"ALTER INDEX {quote_ident(relation.schema)}.{old} RENAME TO {new}")
    definition.settle()
    return True


def set_schema(a: Analysis, body: Node) -> bool:
    """Bring SET SCHEMA into physical form; return False where nothing protected is moved.

    ALTER TABLE patients SET SCHEMA archive
    → refused 0A000
    """
    if body["objectType"] == "OBJECT_VIEW":
        return alter_view(a, "AlterObjectSchemaStmt", body)
    if body["objectType"] != "OBJECT_TABLE":
        return False
    relation = meant_relation(a, body["relation"])
    if protected_table(a, relation) is None:
        return False
    definition = Definition(a, "AlterObjectSchemaStmt", body, "ALTER TABLE")
    definition.qualify(body["relation"], relation.schema)
    _check_new_name(definition, relation, (body["newschema"], relation.name))
    definition.settle()
    return True


def _column(definition: Definition, relation: Relation, table: ProtectedTable) -> None:
    a, body = definition.a, definition.body
    old, new = table.columns.get(body["subname"]), table.columns.get(body["newname"])
    if old is None and new is not None:
        why = f"{relation.qualified}.{body['newname']} is protected, and the values of this column are not encrypted"
        raise a.refuse(why, body["relation"], hint="Add the protected column, and let the application copy the values.")
    if old is None:
        return
    if new is None or new.number != old.number:
        raise a.refuse(f'{old.label} is protected, and "{body["newname"]}" is not as the same', body["relation"], hint=_HINT)
    full = f"{quote_ident(relation.schema)}.{quote_ident(relation.name)}"
    for name, number in hidden_columns(relation, old):
        definition.after.append(f"ALTER TABLE {full} RENAME COLUMN {quote_ident(name)} TO {quote_ident(hidden_name(new, number))}")
    if (old.name, old.number) in relation.guards:
        names = quote_ident(guard_name(old.name)), quote_ident(guard_name(new.name))
        definition.after.append(f"ALTER TABLE {full} RENAME CONSTRAINT {names[0]} TO {names[1]}")


def _check_new_name(definition: Definition, relation: Relation, to: tuple[str, str]) -> None:
    a = definition.a
    if not a.context.protection.may_move((relation.schema, relation.name), (c.name for c in relation.columns), to):
        text = f"{relation.qualified} has protected columns, and those of {'.'.join(to)} are not protected as the same"
        raise a.refuse(text, definition.body["relation"], hint=_HINT)
