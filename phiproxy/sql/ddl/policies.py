"""Row-level security: policies over unprotected columns of protected tables, and the generated columns that tags are searched in.

The server asks its policies before it asks what is not leakproof, and ``substring`` is not: without the generated columns it would
read the whole table (crypto.md section 1).
"""

from __future__ import annotations

from phiproxy.policy.catalog import Relation
from phiproxy.policy.guards import hidden_column, hidden_index, hidden_name
from phiproxy.policy.names import quote_ident
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.definition import Definition
from phiproxy.sql.ddl.keys import Columns
from phiproxy.sql.parse import Node, messages, strings

_TAGS = {"CreatePolicyStmt": "CREATE POLICY", "AlterPolicyStmt": "ALTER POLICY"}


def tag_columns(relation: Relation, columns: Columns) -> list[str]:
    """Return the statements that give a table the generated columns, with indexes, that it lacks."""
    full = f"{quote_ident(relation.schema)}.{quote_ident(relation.name)}"
    made = []
    for column in columns.values():
        for slot in column.slots:
            if slot.state != "dropped" and relation.column(hidden_name(column, slot.number)) is None:
                made.append(f"ALTER TABLE {full} ADD COLUMN {hidden_column(column, slot)}")
                made.append(hidden_index(column, slot, (relation.schema, relation.name)))
    return made


def create_policy(a: Analysis, body: Node) -> bool:
    """Let a CreatePolicyStmt of a protected table pass that looks at unprotected columns only; False for another table."""
    return _policy(a, "CreatePolicyStmt", body)


def alter_policy(a: Analysis, body: Node) -> bool:
    """Do the same for an AlterPolicyStmt."""
    return _policy(a, "AlterPolicyStmt", body)


def _policy(a: Analysis, kind: str, body: Node) -> bool:
    found = a.relation(body["table"], target=True)
    assert isinstance(found, Relation)
    table = a.protected(found)
    if table is None:
        return False
    for message in messages([body.get(key) for key in ("qual", "with_check") if key in body]):
        _check(a, message, found, table.columns)
    definition = Definition(a, kind, body, _TAGS[kind])
    definition.qualify(body["table"], found.schema)
    definition.settle()
    return True


def _check(a: Analysis, message: Node, found: Relation, columns: Columns) -> None:
    """Refuse what would see the values of protected columns, of this table or of others."""
    last = strings(message.get("fields"))[-1:] if isinstance(message.get("fields"), list) else []
    if last and (last[0] in columns or last[0] in ("*", found.name)):
        raise a.refuse(
            "a policy over a protected column would compare what the server cannot see",
            message,
            hint="Write it over unprotected columns.",
        )
    if "relname" in message and (
        message["relname"] in a.context.protection.table_names or message["relname"] in a.context.catalog.reaching
    ):
        raise a.refuse("a policy that reads a protected table is not in this version", message, hint="Read another table in it.")
    if "funcname" in message:
        a.check_reaching(strings(message["funcname"])[-1], message)
