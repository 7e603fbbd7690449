"""Which DDL is brought into physical form, by its kind."""

from __future__ import annotations

from collections.abc import Callable

from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.alter import alter_table
from phiproxy.sql.ddl.indexes import create_index
from phiproxy.sql.ddl.policies import alter_policy, create_policy
from phiproxy.sql.ddl.renames import rename, set_schema
from phiproxy.sql.ddl.tables import create_table
from phiproxy.sql.parse import Node

_RULES: dict[str, Callable[[Analysis, Node], bool]] = {
    "CreateStmt": create_table,
    "AlterTableStmt": alter_table,
    "IndexStmt": create_index,
    "RenameStmt": rename,
    "CreatePolicyStmt": create_policy,
    "AlterPolicyStmt": alter_policy,
    "AlterObjectSchemaStmt": set_schema,
}


def define(a: Analysis, kind: str, body: Node) -> bool:
    """Bring a DDL statement that names something protected into physical form; False where no rule says how."""
    rule = _RULES.get(kind)
    return rule is not None and rule(a, body)
