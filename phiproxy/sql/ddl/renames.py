"""RENAME on a protected table: of what is not protected, and of the constraints that are indexes."""

from __future__ import annotations

from phiproxy.policy.catalog import Relation
from phiproxy.policy.names import quote_ident
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.definition import Definition
from phiproxy.sql.parse import Node


def rename(a: Analysis, body: Node) -> bool:
    """Bring a RenameStmt into physical form; False where its kind is not understood here."""
    if body["renameType"] not in ("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT") or body.get("relationType") == "OBJECT_VIEW":
        return False
    relation = body["relation"]
    found = a.relation(relation, target=True)
    assert isinstance(found, Relation)
    table = a.protected(found)
    if table is None:
        return False
    definition = Definition(a, "RenameStmt", body, "ALTER TABLE")
    definition.qualify(relation, found.schema)
    if body["renameType"] == "OBJECT_COLUMN":
        if body["subname"] in table.columns:
            return False
        if body["newname"] in table.columns:
            raise a.refuse(
                f"{found.qualified}.{body['newname']} is protected, and the values of this column are not encrypted",
                relation,
                hint="Add the protected column, and let the application copy the values.",
            )
    else:
        index = found.index(body["subname"])
        if index is not None and index.unique and not index.constraint:
            old, new = quote_ident(index.name), quote_ident(body["newname"])
            definition.kept = False
            definition.after.append(f"ALTER INDEX {quote_ident(found.schema)}.{old} RENAME TO {new}")
    definition.settle()
    return True
